"""Plain models: what the host's model must be, a clone without guidance and patches, and whose weights it has."""

from __future__ import annotations

import comfy.model_sampling

from ...core.errors import MagicStyleError
from ..model_facts import Model, self_attention_widths

# every wrapper that the pack adds has a key that begins so
KEY = "magicstyle"
# guidance that adds passes or bends the prediction has no place in an inversion
GUIDANCE = {
    "sampler_cfg_function": "CFG function",
    "sampler_pre_cfg_function": "pre-CFG functions",
    "sampler_post_cfg_function": "post-CFG functions",
    "sampler_calc_cond_batch_function": "batch function",
    "disable_cfg1_optimization": "forced CFG pass",
}


def check_model(model: Model) -> None:
    """Refuse models whose parametrisation the method does not know."""
    if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise MagicStyleError(
            f"model ({type(model.model).__name__}) is a flow-matching model, which has no DDIM inversion: "
            "load an SD1.5, SD2.1 or SDXL checkpoint."
        )
    self_attention_widths(model)


def weights_id(model: Model) -> str:
    """The same for models with the same weights, LoRAs included; another for every load of a checkpoint."""
    return f"{id(model.model)}.{model.patches_uuid}"


def plain_model(model: Model) -> tuple[Model, list[str]]:
    """A clone without guidance functions and without our own patches, and the names of what was left out."""
    plain = model.clone()
    removed = [name for option, name in GUIDANCE.items() if plain.model_options.pop(option, None)]
    removed += ["self-attention patches"] if _without_self_attention_patches(plain) else []
    for wrappers in plain.wrappers.values():
        ours = [key for key in wrappers if key is not None and key.startswith(KEY)]
        removed += ["FFA Model Patcher"] if ours else []
        for key in ours:
            del wrappers[key]
    return plain, list(dict.fromkeys(removed))


def _without_self_attention_patches(plain: Model) -> bool:
    """Take off what merges or tiles tokens or answers instead: features are kept per token. Whether there was any."""
    options = plain.model_options["transformer_options"] = dict(plain.model_options["transformer_options"])
    patches, replacements = dict(options.get("patches", {})), dict(options.get("patches_replace", {}))
    found = [patches.pop(name, None) for name in ("attn1_patch", "attn1_output_patch")]
    found.append(replacements.pop("attn1", None))
    for name, kept in (("patches", patches), ("patches_replace", replacements)):
        if name in options:
            options[name] = kept
    return any(found)

"""Plain models: what the host's model must be, a clone without guidance and patches, and whose weights it has."""

from __future__ import annotations

import comfy.model_sampling

from ...core.errors import MagicStyleError
from ..architectures import Model, find, kind_of
from ..architectures.base import Parametrization

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
    """Refuse models whose kind or parametrisation the method does not know."""
    flow = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    kind = kind_of(model.get_model_object("diffusion_model"))
    if flow and (kind is None or kind.parametrization is not Parametrization.FLOW):
        raise MagicStyleError(
            f"model ({type(model.model).__name__}) is a flow-matching model, which has no DDIM inversion: "
            "load an SD1.5, SD2.1 or SDXL checkpoint."
        )
    find(model)


def weights_id(model: Model) -> str:
    """The same for models with the same weights, LoRAs included; another for every load of a checkpoint."""
    return f"{id(model.model)}.{model.patches_uuid}"


def plain_model(model: Model) -> tuple[Model, list[str]]:
    """A clone without guidance functions and without our own patches, and the names of what was left out."""
    plain = model.clone()
    removed = [name for option, name in GUIDANCE.items() if plain.model_options.pop(option, None)]
    options, found = find(model).untouched(plain.model_options["transformer_options"])
    plain.model_options["transformer_options"] = options
    removed += ["self-attention patches"] if found else []
    for wrappers in plain.wrappers.values():
        ours = [key for key in wrappers if key is not None and key.startswith(KEY)]
        removed += ["FFA Model Patcher"] if ours else []
        for key in ours:
            del wrappers[key]
    return plain, list(dict.fromkeys(removed))

"""Plain models: what the host's model must be, a clone without guidance and patches, and whose weights it has."""

from __future__ import annotations

import comfy.model_sampling
import comfyui_version

from ...core.errors import MagicStyleError
from ..architectures import find
from ..architectures.base import HostArchitecture, Parametrization
from ..protocols import Model
from .others import take_off

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


def check_model(model: Model) -> HostArchitecture:
    """The architecture of a model; refused are those whose kind or parametrisation the method does not know."""
    architecture, name = find(model), type(model.model).__name__
    flow = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    if flow != (architecture.parametrization is Parametrization.FLOW):
        raise MagicStyleError(
            f"model ({name}) samples {'by' if flow else 'without'} flow matching, which its network was not made for: "
            "take off the node that changes how it samples."
        )
    if architecture.since > host_version():
        needed = ".".join(map(str, architecture.since))
        raise MagicStyleError(
            f"model is a {name}, for which ComfyUI {needed} or newer is needed: this one does not say which of the "
            "model's blocks is running; update ComfyUI."
        )
    return architecture


def host_version() -> tuple[int, ...]:
    """The host's release, such as (0, 3, 64)."""
    return tuple(int(part) for part in comfyui_version.__version__.split(".")[:3] if part.isdigit())


def weights_id(model: Model) -> str:
    """The same for models with the same weights, LoRAs included; another for every load of a checkpoint."""
    return f"{id(model.model)}.{model.patches_uuid}"


def plain_model(model: Model, architecture: HostArchitecture, *, windows: bool = False) -> tuple[Model, list[str]]:
    """A clone without guidance, caches, tiles and our own patches, and the names of what was left out.

    `windows` lets context windows over the frames of a film stay.
    """
    plain = model.clone()
    removed = [name for option, name in GUIDANCE.items() if plain.model_options.pop(option, None)]
    options, found = architecture.options_without_attention_patches(plain.model_options["transformer_options"])
    plain.model_options["transformer_options"] = options
    removed += ["self-attention patches"] if found else []
    removed += take_off(plain, windows=windows)
    for wrappers in plain.wrappers.values():
        ours = [key for key in wrappers if key is not None and key.startswith(KEY)]
        removed += ["FFA Model Patcher"] if ours else []
        for key in ours:
            del wrappers[key]
    return plain, list(dict.fromkeys(removed))

"""Where the patches meet the host: always a clone of the model, always the host's own wrappers, nothing global.

The override is put in place late, inside an APPLY_MODEL wrapper and for one model call only: whatever override other
nodes have set by then (Sage, KJ and others simply assign) is called from ours, so the nodes' order does not matter.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import comfy.model_sampling
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..core.errors import MagicStyleError
from ..core.features import FeatureBank, ModelId
from ..core.fusion import FusionSettings
from ..core.layers import LayerId, select_layers
from .call_site import hooked, sigma_of
from .capture import Recorder
from .fusion_patch import FusionPatch, SigmaWindow, coverage_warning, nearest_view

logger = logging.getLogger("magicstyle")
Model = Any  # comfy.model_patcher.ModelPatcher
KEY = "magicstyle"
# guidance that adds passes or bends the prediction has no place in an inversion
GUIDANCE = {
    "sampler_cfg_function": "CFG function",
    "sampler_pre_cfg_function": "pre-CFG functions",
    "sampler_post_cfg_function": "post-CFG functions",
    "sampler_calc_cond_batch_function": "batch function",
    "disable_cfg1_optimization": "forced CFG pass",
}


def self_attention_widths(model: Model) -> dict[LayerId, int]:
    """Every self-attention layer of the model's UNet and its channels, in the order of execution."""
    unet = model.get_model_object("diffusion_model")
    if not hasattr(unet, "input_blocks") or not hasattr(unet, "output_blocks"):
        raise MagicStyleError(
            f"model is a {type(unet).__name__}, not a Stable Diffusion UNet: load an SD1.5, SD2.1 or SDXL checkpoint."
        )
    blocks = [("input", number, block) for number, block in enumerate(unet.input_blocks)]
    blocks += [("middle", 0, unet.middle_block)] if unet.middle_block is not None else []
    blocks += [("output", number, block) for number, block in enumerate(unet.output_blocks)]
    widths: dict[LayerId, int] = {}
    for name, number, block in blocks:
        for module in block:
            for index, transformer in enumerate(getattr(module, "transformer_blocks", ())):
                widths[LayerId(name, number, index)] = transformer.attn1.heads * transformer.attn1.dim_head
    return widths


def model_id(model: Model) -> ModelId:
    """The architecture that features depend on; weights, LoRAs and patches do not change it."""
    return ModelId.of(type(model.model).__name__, self_attention_widths(model))


def check_model(model: Model) -> None:
    """Refuse models whose parametrisation the method does not know."""
    self_attention_widths(model)
    if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise MagicStyleError(
            f"model ({type(model.model).__name__}) is a flow-matching model, which has no DDIM inversion: "
            "load an SD1.5, SD2.1 or SDXL checkpoint."
        )


def plain_model(model: Model) -> tuple[Model, list[str]]:
    """A clone without guidance functions and without our own patches, and the names of what was left out."""
    plain = model.clone()
    removed = [name for option, name in GUIDANCE.items() if plain.model_options.pop(option, None)]
    for wrappers in plain.wrappers.values():
        ours = [key for key in wrappers if key is not None and key.startswith(KEY)]
        removed += ["FFA Model Patcher"] if ours else []
        for key in ours:
            del wrappers[key]
    return plain, list(dict.fromkeys(removed))


def install_capture(model: Model, recorder: Recorder) -> Model:
    """A clone of the model whose self-attention calls pass through the recorder."""

    def apply_model(executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        with hooked(_options(args, kwargs), recorder.handle):
            return executor(*args, **kwargs)

    captured = model.clone()
    captured.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}.capture", apply_model)
    return captured


def install_fusion(
    model: Model, bank: FeatureBank, settings: FusionSettings, layers: str, start_percent: float, end_percent: float
) -> Model:
    """A clone of the model whose chosen self-attention layers fuse the bank's features."""
    check_model(model)
    _check_bank(model, bank)
    sampling = model.get_model_object("model_sampling")
    window = SigmaWindow(sampling.percent_to_sigma(start_percent), sampling.percent_to_sigma(end_percent))
    patch = FusionPatch(bank, settings, _stored_layers(model, bank, layers), window)

    def apply_model(executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        options = _options(args, kwargs)
        sigma = sigma_of(options, args[1])
        if sigma not in patch.window:
            return executor(*args, **kwargs)
        with hooked(options, patch.handler([nearest_view(features, sigma) for features in bank])):
            return executor(*args, **kwargs)

    def outer_sample(executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        _check_run(bank, latent=args[1], sigmas=args[3])
        return executor(*args, **kwargs)

    patched = model.clone()
    # a key of its own: two patchers in one graph both stay
    key = f"{KEY}.fusion.{uuid.uuid4().hex}"
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, apply_model)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, outer_sample)
    return patched


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    # apply_model(x, t, c_concat, c_crossattn, control, transformer_options, ..)
    return kwargs["transformer_options"] if "transformer_options" in kwargs else args[5]


def _check_bank(model: Model, bank: FeatureBank) -> None:
    running, stored = model_id(model), bank.content.header.model
    if running.digest != stored.digest:
        raise MagicStyleError(
            f"bank holds features of another model ({stored.name}) than the one to patch ({running.name}): "
            "invert both pictures with the checkpoint that you sample with."
        )


def _stored_layers(model: Model, bank: FeatureBank, layers: str) -> tuple[LayerId, ...]:
    chosen = select_layers(layers, self_attention_widths(model))
    stored = select_layers(layers, bank.layers) if set(chosen) & set(bank.layers) else ()
    if len(stored) < len(chosen):
        missing = ", ".join(str(layer) for layer in chosen if layer not in stored)
        raise MagicStyleError(
            f"layers '{layers}' asks for {missing}, which the bank does not hold: "
            "choose the same or more layers on both DDIM Inversion nodes."
        )
    return chosen


def _check_run(bank: FeatureBank, latent: Tensor, sigmas: Tensor) -> None:
    header = bank.content.header
    if getattr(latent, "is_nested", False) or latent.ndim != 4:
        raise MagicStyleError("latent_image is not a picture latent: connect a LATENT of one still picture.")
    if tuple(latent.shape[2:]) != header.latent_shape[2:]:
        raise MagicStyleError(
            f"latent_image is {_pixels(latent.shape)} but the content was inverted at {_pixels(header.latent_shape)}: "
            "sample at the content's size."
        )
    if header.batch not in (1, latent.shape[0]):
        raise MagicStyleError(
            f"latent_image holds {latent.shape[0]} pictures but the content features hold {header.batch}: "
            "sample the latent that DDIM Inversion (Content) gave."
        )
    if warning := coverage_warning(bank, sigmas):
        logger.warning("FFA Model Patcher: %s", warning)


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[3]}x{shape[2]} latent pixels"

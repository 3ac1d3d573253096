"""A Stable Diffusion 1.5 in miniature, built in process: the real topology and code path, 2 million random weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models
import torch
from torch import Tensor

WIDTH = 32
HEADS = 2

UNET_CONFIG = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": WIDTH,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": WIDTH,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "adm_in_channels": None,
    "num_classes": None,
    "legacy": False,
}


def gain(name: str, *, eps_gain: float, qk_gain: float) -> float:
    """How far a weight is scaled from variance preserving."""
    if name.endswith("out.2.weight"):
        return eps_gain
    return qk_gain if "attn1.to_q" in name or "attn1.to_k" in name else 1.0


def fill(module: torch.nn.Module, *, seed: int, eps_gain: float, qk_gain: float) -> None:
    """Give every parameter a value: the host's layers leave them uninitialised."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(module.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                weight.copy_(0.02 * noise + (1.0 if name.endswith("weight") else 0.0))
            else:
                scale = gain(name, eps_gain=eps_gain, qk_gain=qk_gain)
                weight.copy_(scale * noise / math.sqrt(math.prod(weight.shape[1:])))


@functools.lru_cache(maxsize=4)
def tiny_base(seed: int = 0, eps_gain: float = 0.25, qk_gain: float = 2.0) -> comfy.model_patcher.ModelPatcher:
    """The miniature model itself, one for all tests; hand out clones."""
    # normal tensors, whichever test comes first: shared weights must serve inside and outside of inference mode
    with torch.inference_mode(False):
        config = comfy.supported_models.SD15(dict(UNET_CONFIG))
        config.unet_config["num_heads"] = HEADS  # the class expects the 8 heads of the full width
        config.set_inference_dtype(torch.float32, None)
        model = comfy.model_base.BaseModel(config).eval().requires_grad_(False)
        fill(model.diffusion_model, seed=seed, eps_gain=eps_gain, qk_gain=qk_gain)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def tiny_model(seed: int = 0, eps_gain: float = 0.25, qk_gain: float = 2.0) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as a loader node would hand it out: a fresh clone over shared weights."""
    return tiny_base(seed, eps_gain, qk_gain).clone()


def tiny_conditioning(tokens: int = 77, *, seed: int = 1, batch: int = 1) -> list[list[Any]]:
    """A CONDITIONING of random text features, batch x tokens x WIDTH."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(batch, tokens, WIDTH, generator=generator), {}]]


def tiny_latent(height: int = 16, width: int = 16, *, batch: int = 1, seed: int = 2) -> Tensor:
    """A LATENT's samples: smooth random content of unit variance in the host's convention, b 4 h w."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, 4, -(-height // 4), -(-width // 4), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return smooth + 0.1 * torch.randn(smooth.shape, generator=generator)


def tiny_sigmas(model: comfy.model_patcher.ModelPatcher, steps: int, scheduler: str = "ddim_uniform") -> Tensor:
    """The descending noise levels that the host's scheduler node would give, steps + 1 of them, the last 0."""
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def run_sampler(
    model: comfy.model_patcher.ModelPatcher,
    latent: Tensor,
    sigmas: Tensor,
    cfg: float = 1.0,
    positive: list[list[Any]] | None = None,
    negative: list[list[Any]] | None = None,
    sampler: str | comfy.samplers.Sampler = "ddim",
    *,
    noise: Tensor | None = None,
    noise_mask: Tensor | None = None,
    callback: Callable[..., None] | None = None,
    seed: int = 0,
) -> Tensor:
    """What SamplerCustom does: sample from a latent, without added noise unless some is given, in inference mode."""
    if isinstance(sampler, str):
        sampler = comfy.samplers.sampler_object(sampler)
    positive = tiny_conditioning() if positive is None else positive
    negative = tiny_conditioning(seed=3) if negative is None else negative
    noise = torch.zeros_like(latent) if noise is None else noise
    with torch.inference_mode():
        return comfy.sample.sample_custom(
            model, noise, cfg, sampler, sigmas, positive, negative, latent,
            noise_mask=noise_mask, callback=callback, disable_pbar=True, seed=seed,
        )  # fmt: skip

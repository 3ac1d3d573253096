"""A DDIM inversion inside the host: its loading, sampling, previews, progress and interrupts, our walk."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ..attention_patches.capture import Recorder
from ..attention_patches.install import (
    Model,
    check_model,
    install_capture,
    model_id,
    plain_model,
    self_attention_widths,
)
from ..core.errors import MagicStyleError
from ..core.features import FeatureHeader, FeatureWriter, ImageFeatures
from ..core.inversion import Record, sample_ddim_inversion, sampling_grid
from ..core.layers import select_layers
from .report import inversion_report

Latent = dict[str, Any]


class Inversion(NamedTuple):
    """The outputs of an inversion node, in their order."""

    noise: Latent
    features: ImageFeatures
    sigmas: Tensor
    report: str


class InversionSampler(comfy.samplers.Sampler):
    """The host's Sampler around `sample_ddim_inversion`; unlike KSAMPLER it adds no noise to what it is given."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.clean: Tensor | None = None
        self.noise: Tensor | None = None

    def sample(
        self,
        model_wrap: Callable[..., Tensor],
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[[int, Tensor, Tensor, int], None] | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Called by the host with everything on the model's device, the latent in the model's scale."""
        total = len(sampling_grid(sigmas))

        def report_step(state: dict[str, Any]) -> None:
            if callback is not None:
                callback(state["i"], state["denoised"], state["x"], total)

        self.clean = latent_image
        self.noise = sample_ddim_inversion(
            model_wrap, latent_image, sigmas, extra_args, report_step, disable_pbar, record=self._record
        )
        return self.noise


def invert(
    role: str,
    model: Model,
    latent: Latent,
    conditioning: list[Any],
    steps: int,
    scheduler: str,
    layers: str,
    sigmas: Tensor | None,
    roles: str,
    dtype: torch.dtype = torch.float16,
) -> Inversion:
    """Invert a LATENT and keep the self-attention features that pass by."""
    check_model(model)
    samples = _check_latent(model, latent)
    _check_conditioning(conditioning)
    sigmas = _schedule(model, steps, scheduler) if sigmas is None else _check_sigmas(sigmas)
    grid = tuple(sampling_grid(sigmas).tolist())
    plain, removed = plain_model(model)
    writer = FeatureWriter(select_layers(layers, self_attention_widths(model)), len(grid), roles, dtype)
    recorder = Recorder(writer)
    sampler = InversionSampler(recorder.recording)
    started = time.perf_counter()
    noise = _walk(install_capture(plain, recorder), sampler, samples, conditioning, sigmas)
    seconds = time.perf_counter() - started
    features = writer.close(FeatureHeader(model_id(model), "ddim", grid, tuple(samples.shape), {}))
    report = inversion_report(role, features, sampler.clean, sampler.noise, seconds, removed)
    return Inversion({"samples": noise}, features, sigmas, report)


def _walk(model: Model, sampler: InversionSampler, samples: Tensor, conditioning: list[Any], sigmas: Tensor) -> Tensor:
    callback = latent_preview.prepare_callback(model, len(sigmas) - 1)
    return comfy.sample.sample_custom(
        model,
        torch.zeros_like(samples),
        1.0,
        sampler,
        sigmas,
        conditioning,
        conditioning,
        samples,
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=0,
    )


def _schedule(model: Model, steps: int, scheduler: str) -> Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps).cpu()


def _check_sigmas(sigmas: Tensor) -> Tensor:
    grid = sampling_grid(sigmas) if len(sigmas) > 1 else sigmas[:0]
    if len(grid) == 0 or not bool((grid > 0).all()) or not bool((grid[:-1] > grid[1:]).all()):
        raise MagicStyleError(
            f"sigmas holds {len(sigmas)} values that do not descend to zero: connect a scheduler's SIGMAS as it is, "
            "not flipped or split to nothing."
        )
    return sigmas.float().cpu()


def _check_conditioning(conditioning: list[Any]) -> None:
    if len(conditioning) != 1:
        raise MagicStyleError(
            f"conditioning holds {len(conditioning)} prompts, but an inversion follows one: "
            "connect a single CLIPTextEncode, usually with an empty text."
        )


def _check_latent(model: Model, latent: Latent) -> Tensor:
    samples = latent["samples"]
    if getattr(samples, "is_nested", False) or samples.ndim != 4 or samples.numel() == 0:
        raise MagicStyleError("latent is not a picture latent: connect a VAEEncode of one still picture.")
    channels = model.get_model_object("latent_format").latent_channels
    if samples.shape[1] != channels:
        raise MagicStyleError(
            f"latent has {samples.shape[1]} channels but the model takes {channels}: "
            "encode the picture with the VAE of this checkpoint."
        )
    if not bool(torch.isfinite(samples).all()):
        raise MagicStyleError(
            "latent holds NaN or infinite values: the VAE overflowed in half precision; "
            "start ComfyUI with --fp32-vae or load another VAE."
        )
    if int(torch.count_nonzero(samples)) == 0:
        raise MagicStyleError("latent is empty (all zeros): connect a VAEEncode of the picture, not an empty latent.")
    return samples

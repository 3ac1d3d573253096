"""The host's Sampler around an inversion, and the NOISE that its end is for the host's samplers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.samplers
import torch
from torch import Tensor

from ...attention_patches.comfy import is_flow, latent_share
from ...attention_patches.protocols import HostDenoiser
from ...core.errors import MagicStyleError
from ...core.inversion import Record, flowed, noised, sampling_grid
from ...core.inversion_methods import InversionSettings, Inverted, invert_latent


class Ended(NamedTuple):
    """How a walk ended, in the model's scale unless it says otherwise."""

    clean: Tensor  # b c h w
    inverted: Inverted
    step_from: Tensor | None  # b c h w, in the host's LATENT convention
    start: InvertedNoise


class InversionSampler(comfy.samplers.Sampler):
    """The host's Sampler around `invert_latent`; unlike KSAMPLER it adds no noise to what it is given."""

    def __init__(self, settings: InversionSettings, record: Record) -> None:
        self._settings = settings
        self._record = record
        self._ended: Ended | None = None

    @property
    def ended(self) -> Ended:
        """How the walk ended, once the host has run it."""
        if self._ended is None:
            raise RuntimeError("the host has not run this sampler")
        return self._ended

    def sample(
        self,
        model_wrap: HostDenoiser,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[[int, Tensor, Tensor, int], None] | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Called by the host with everything on the model's device, the latent in the model's scale."""
        total, sampling = len(sampling_grid(sigmas)), model_wrap.inner_model.model_sampling

        def report_step(state: dict[str, Any]) -> None:
            if callback is not None:
                callback(state["i"], state["denoised"], state["x"], total)

        mix = flowed if is_flow(sampling) else noised
        inverted = invert_latent(
            model_wrap, latent_image, sigmas, self._settings, extra_args, report_step, record=self._record, mix=mix
        )
        start = InvertedNoise.of(sampling, sigmas[0], inverted.noise_pair.noise)
        share = latent_share(sampling, float(sigmas[0]))
        noise, step_from = inverted.noise_pair if share == 1.0 else inverted.noise_pair.map(lambda end: end / share)
        if step_from is not None:
            step_from = model_wrap.inner_model.process_latent_out(step_from.float())
        self._ended = Ended(latent_image, inverted, step_from, start)
        return noise


class InvertedNoise:
    """The host's NOISE: with an empty latent, a sampling run begins where the inversion ended."""

    seed = 0

    def __init__(self, noise: Tensor) -> None:
        self._noise = noise

    @classmethod
    def of(cls, sampling: Any, sigma: Tensor, end: Tensor) -> InvertedNoise:
        """What the host scales to the end of a walk, b c h w, at its first level."""
        highest = float(sampling.sigma_max)
        most = math.isclose(highest, float(sigma), rel_tol=1e-05) or float(sigma) > highest
        one = sampling.noise_scaling(sigma, torch.ones_like(end), torch.zeros_like(end), most)
        return cls((end / one).float().cpu())

    def generate_noise(self, input_latent: dict[str, Any]) -> Tensor:
        """The same for every seed."""
        samples = input_latent["samples"]
        if samples.shape[-2:] != self._noise.shape[-2:] or samples.shape[0] != self._noise.shape[0]:
            raise MagicStyleError(
                f"latent_image is {samples.shape[-1]}x{samples.shape[-2]} latent pixels and the inverted picture "
                f"{self._noise.shape[-1]}x{self._noise.shape[-2]}: connect an empty latent of the picture's size."
            )
        return self._noise

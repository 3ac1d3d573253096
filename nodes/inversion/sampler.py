"""The host's Sampler around an inversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.samplers
from torch import Tensor

from ...attention_patches.comfy import is_flow, latent_share
from ...attention_patches.protocols import HostDenoiser
from ...core.inversion import Record, flowed, noised, sampling_grid
from ...core.inversion_methods import InversionSettings, invert_latent
from ...core.noise_pair import NoisePair
from .result import InversionResult, InvertedNoise


class InversionSampler(comfy.samplers.Sampler):
    """The host's Sampler around `invert_latent`; unlike KSAMPLER it adds no noise to what it is given."""

    def __init__(self, settings: InversionSettings, record: Record) -> None:
        self._settings = settings
        self._record = record
        self._result: InversionResult | None = None

    def result(self, noise: Tensor, seconds: float) -> InversionResult:
        """How the inversion ended, from the LATENT b c h w that the host's run gave and the time that it took."""
        if self._result is None:
            raise RuntimeError("the host has not run this sampler")
        step_from = self._result.latents.step_from
        latents = NoisePair(noise, None if step_from is None else step_from.to(noise.device))
        return self._result._replace(latents=latents, seconds=seconds)

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
        grid, sampling = sampling_grid(sigmas), model_wrap.inner_model.model_sampling

        def report_step(state: dict[str, Any]) -> None:
            if callback is not None:
                callback(state["i"], state["denoised"], state["x"], len(grid))

        flow = is_flow(sampling)
        inverted = invert_latent(
            model_wrap,
            latent_image,
            sigmas,
            self._settings,
            extra_args,
            report_step,
            record=self._record,
            mix=flowed if flow else noised,
        )
        share = latent_share(sampling, float(sigmas[0]))
        ends = inverted.noise_pair if share == 1.0 else inverted.noise_pair.map(lambda end: end / share)
        to_latent = model_wrap.inner_model.process_latent_out
        self._result = InversionResult(
            method=self._settings.method,
            sigmas=tuple(grid.tolist()),
            clean=latent_image,
            noise_pair=inverted.noise_pair,
            latents=ends.map(lambda end: to_latent(end.float())),
            start=InvertedNoise.of(sampling, sigmas[0], inverted.noise_pair.noise),
            flow=flow,
            calls=inverted.calls,
            seconds=0.0,
        )
        return ends.noise

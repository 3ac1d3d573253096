"""Exact Sampler: undoes an exact inversion, to the last digits where nothing is fused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from comfy_api.latest import io
from torch import Tensor

from ..attention_patches.comfy import erases, latent_share
from ..attention_patches.protocols import HostDenoiser
from ..core.errors import MagicStyleError
from ..core.inversion import sampling_grid
from ..core.ranges import check_finite
from ..core.reversible import sample_exact
from .inversion.latent_pair import Latent, LatentPair, required_pair
from .schema import search_aliases
from .sockets import CATEGORY

OVERFLOW = "the model overflows in half precision: start ComfyUI with --force-fp32, or lower temperature and weights"
logger = logging.getLogger("magicstyle")


class ExactSampler(io.ComfyNode):
    """The SAMPLER that belongs to inversion method exact."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleExactSampler",
            display_name="Exact Sampler (reversible)",
            category=CATEGORY,
            **search_aliases("MagicStyleExactSampler"),
            description="A sampler that runs an inversion of method exact backwards: without fusion it returns the "
            "very same picture.",
            inputs=[
                io.Latent.Input(
                    "latent",
                    tooltip="The latent that sampling starts from: noise of a DDIM Inversion with method exact, or "
                    "Initial Latent (AdaIN) behind it. Connect the same to latent_image of SamplerCustom.",
                )
            ],
            outputs=[io.Sampler.Output(display_name="sampler", tooltip="Connect it to SamplerCustom; add no noise.")],
        )

    @classmethod
    def execute(cls, latent: Latent) -> io.NodeOutput:
        """A sampler around this latent's pair."""
        return io.NodeOutput(exact_sampler(required_pair(latent)))


def exact_sampler(pair: LatentPair) -> comfy.samplers.KSAMPLER:
    """The host's sampler around `sample_exact`."""

    def sample(
        model: HostDenoiser,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        disable: bool | None = None,
    ) -> Tensor:
        running = model.inner_model.inner_model
        share = latent_share(running.model_sampling, float(sigmas[0]))
        noise, step_from = (share * running.process_latent_in(end).to(x) for end in pair.noise_pair)
        # of a latent that came without noise
        x = noise if erases(running.model_sampling, float(sigmas[0])) and not bool(torch.count_nonzero(x)) else x
        _check_start(x, noise)
        _check_schedule(sigmas, pair)
        found = sample_exact(model, x, sigmas, extra_args, callback, disable, step_from=step_from)
        check_finite(found, "the sampled latent", OVERFLOW)
        return found

    return comfy.samplers.KSAMPLER(sample)


def _check_start(x: Tensor, expected: Tensor) -> None:
    if x.shape != expected.shape or not torch.allclose(x, expected, rtol=1e-3, atol=1e-3):
        raise MagicStyleError(
            "SamplerCustom does not start from the latent of Exact Sampler: turn add_noise off, "
            "and connect the same latent to both."
        )


def _check_schedule(sigmas: Tensor, pair: LatentPair) -> None:
    grid = sampling_grid(sigmas).tolist()
    same = len(grid) == len(pair.sigmas) and all(abs(a - b) <= 1e-4 * b for a, b in zip(grid, pair.sigmas, strict=True))
    if not same:
        logger.warning(
            "Exact Sampler: sampling runs on other noise levels than the inversion, so that it does not undo it: "
            "connect the inversion's sigmas to SamplerCustom."
        )

"""The host's sampler that belongs to each inversion method."""

from __future__ import annotations

from collections.abc import Callable

import comfy.samplers

from ..core.inversion_methods import INVERSIONS
from ..core.midpoint import sample_midpoint
from .exact_sampler import exact_sampler
from .inversion.latent_pair import Latent, required_pair

# rows of core's SAMPLERS, each for the noise that it will start from
HOST_SAMPLERS: dict[str, Callable[[Latent], comfy.samplers.KSAMPLER]] = {
    "ddim": lambda _: comfy.samplers.sampler_object("ddim"),
    "exact": lambda noise: exact_sampler(required_pair(noise)),
    "midpoint": lambda _: comfy.samplers.KSAMPLER(sample_midpoint),
}


def host_sampler(method: str, noise: Latent) -> comfy.samplers.KSAMPLER:
    """What samples the noise of an inversion method back."""
    return HOST_SAMPLERS[INVERSIONS[method].sampler](noise)

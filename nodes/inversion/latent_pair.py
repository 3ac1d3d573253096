"""The second end of a reversible inversion, as it travels in a LATENT beside the samples.

Nodes that change a LATENT copy its other entries as they are. So the pair carries the samples that it belongs to, and
one that no longer fits is noticed instead of sampled from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...core.errors import MagicStyleError
from ...core.noise_pair import NoisePair

Latent = dict[str, Any]
KEY = "magicstyle_pair"


class LatentPair(NamedTuple):
    """Both latents, in the host's LATENT convention, and the schedule that they belong to."""

    noise_pair: NoisePair
    sigmas: tuple[float, ...]  # the sampling grid, descending, without the final zero


def noise_latent(noise_pair: NoisePair, sigmas: tuple[float, ...]) -> Latent:
    """A LATENT of inverted noise, with both latents where there are two."""
    pair = {} if noise_pair.step_from is None else {KEY: LatentPair(noise_pair, sigmas)}
    return {"samples": noise_pair.noise, **pair}


def fitting_pair(latent: Latent) -> LatentPair | None:
    """The pair of a LATENT, unless its samples were changed since."""
    pair, samples = latent.get(KEY), latent["samples"]
    return pair if pair is not None and torch.equal(pair.noise_pair.noise.to(samples), samples) else None


def map_samples(latent: Latent, change: Callable[[Tensor], Tensor]) -> Latent:
    """A LATENT whose samples b c h w went through an affine map, and its pair with them."""
    pair = fitting_pair(latent)
    if pair is None:
        return {**latent, "samples": change(latent["samples"])}
    return {**latent, **noise_latent(pair.noise_pair.map(change), pair.sigmas)}


def required_pair(latent: Latent) -> LatentPair:
    """The pair that a reversible sampler needs."""
    if KEY not in latent:
        raise MagicStyleError(
            "latent comes from no reversible inversion: set method to exact on the DDIM Inversion node, "
            "and connect its noise, directly or through Initial Latent (AdaIN)."
        )
    pair = fitting_pair(latent)
    if pair is None:
        raise MagicStyleError(
            "latent was changed by another node after the inversion, so that its second half no longer fits: "
            "connect the noise of DDIM Inversion directly or through Initial Latent (AdaIN) alone, "
            "or sample with ddim."
        )
    return pair

"""How an inversion ended: one value, from the host's sampler to the outputs of the node and its report."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...core.errors import MagicStyleError
from ...core.noise_pair import NoisePair


class InversionResult(NamedTuple):
    """The end of an inversion, in the model's scale; `latents` is the same in the host's LATENT convention."""

    method: str
    sigmas: tuple[float, ...]  # the sampling grid, descending, without the final zero
    clean: Tensor  # b c h w
    noise_pair: NoisePair  # b c h w each
    latents: NoisePair  # b c h w each
    start: InvertedNoise
    flow: bool  # whether the model mixes as flow matching does
    calls: int  # of the model
    seconds: float


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

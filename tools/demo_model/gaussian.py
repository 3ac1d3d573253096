"""Where free samples of the demo models begin: plain noise, carried down to a model's highest level.

The schedule of Stable Diffusion ends at a sigma of 14.6, where much of these latents is left: their first principal
component has 38 times the variance of the noise. A model has never seen plain noise there (Lin et al. 2023, "Common
diffusion noise schedules and sample steps are flawed") and answers it with a texture. Above such levels a model does
little more than the Gaussian with its data's mean and covariance, whose way down is known in closed form
(Wang and Vastola 2024, "The unreasonable effectiveness of Gaussian score approximation for diffusion models").

Letters: n latents, k principal components, c h w of a latent, b batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """The mean c h w of latents, their principal components k c h w of unit length, and the variance k along each."""

    mean: Tensor
    components: Tensor
    variances: Tensor

    @classmethod
    def of(cls, latents: Tensor) -> Gaussian:
        """The Gaussian with the mean and covariance of latents n c h w."""
        mean = latents.mean(dim=0)
        _, spread, components = torch.linalg.svd((latents - mean).flatten(1), full_matrices=False)
        return cls(mean, components.view(-1, *mean.shape), spread**2 / (len(latents) - 1))

    def carried_down(self, noise: Tensor, level: float) -> Tensor:
        """Plain noise of unit variance b c h w, down the probability flow to a sigma -> x0 + sigma noise, b c h w."""
        along = einsum(noise, self.components, "b c h w, k c h w -> b k")
        stretch = (self.variances + level**2).sqrt() - level
        return self.mean + level * noise + einsum(along * stretch, self.components, "b k, k c h w -> b c h w")

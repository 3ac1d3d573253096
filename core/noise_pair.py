"""Where an inversion ends: one value from the walk through banks and graphs to the sampler that goes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor


class NoisePair(NamedTuple):
    """The noise of an inversion and, of a reversible one, its second latent: b c h w each, at the first level.

    Reversible sampling predicts the noise on `noise` and takes its first step from `step_from`. Where the two are the
    same, that is a DDIM step.
    """

    noise: Tensor
    step_from: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> NoisePair:
        """Both latents through one affine map of b c h w: every sampler here is linear in them."""
        return NoisePair(change(self.noise), None if self.step_from is None else change(self.step_from))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The latents that there are, by their names in bank files."""
        return {"noise": self.noise} if self.step_from is None else {"noise": self.noise, "companion": self.step_from}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> NoisePair:
        """The inverse of `tensors`: b c h w each."""
        return cls(tensors["noise"], tensors.get("companion"))

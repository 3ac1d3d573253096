"""Where an inversion ends: one value from the walk through banks and graphs to the sampler that goes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class NoisePair(NamedTuple):
    """The noise of an inversion and, of a reversible one, its other end: b c h w each, at the first level.

    Reversible sampling predicts the noise on `noise` and takes its first step from `companion`. Where the two are the
    same, that is a DDIM step.
    """

    noise: Tensor
    companion: Tensor | None = None

    def mapped(self, change: Callable[[Tensor], Tensor]) -> NoisePair:
        """Both ends through one affine map of b c h w: every sampler here is linear in them."""
        return NoisePair(change(self.noise), None if self.companion is None else change(self.companion))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The ends that there are, by name."""
        return {name: end for name, end in self._asdict().items() if end is not None}

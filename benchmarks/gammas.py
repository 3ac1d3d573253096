"""Published members of the family of core.reversible, for comparison with the pack's own."""

from __future__ import annotations

from torch import Tensor


def bdia(levels: Tensor, step: int) -> float:
    """BDIA as published, with gamma 1, on variance-preserving latents."""
    signal = (1.0 + levels.double() ** 2).rsqrt()
    return float(signal[step - 1] / signal[step + 1])


def o_belm(levels: Tensor, step: int) -> float:
    """O-BELM as published: the choice with the smallest local error."""
    above, here, below = levels[step - 1 : step + 2].double()
    return float(((here - below) / (above - here)) ** 2)

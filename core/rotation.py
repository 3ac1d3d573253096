"""Rotary positions that keys and queries already carry: moved by rotating once more, or made vaguer.

A head's channels are divided among the axes of a position; on an axis of width d and base theta, the channels 2j and
2j + 1 are turned by the angle p theta^(-2j / d) for a position p (RoPE, Su et al. 2021). Two turns add up: a key at p
becomes the key at p + delta by a turn of delta, whatever p was.

Letters: b rows, h heads, n tokens, d head width, a axes, p pairs of channels, d = 2 p.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

# Untwisting RoPE (2602.05013): how fast the scale rises from the highest frequency to the lowest
RISE = 2.0


class Rotation(NamedTuple):
    """How a model turns its queries and keys: the channels of each axis and the base of the frequencies.

    The last two axes are the picture's rows and columns.
    """

    widths: tuple[int, ...]
    theta: float

    def frequencies(self) -> list[Tensor]:
        """The angle of one position on each axis, for pairs of channels -> p each."""
        return [self.theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width) for width in self.widths]


def moved(x: Tensor, heads: int, rotation: Rotation, delta: Sequence[float]) -> Tensor:
    """Queries or keys b n (h d) at positions that differ by delta, a number for each axis: b n (h d)."""
    if not any(delta):
        return x
    angles = torch.cat([step * own for step, own in zip(delta, rotation.frequencies(), strict=True)])
    cos, sin = (turn.to(x.device, torch.float32) for turn in (angles.cos(), angles.sin()))
    even, odd = rearrange(x.float(), "b n (h p two) -> two b n h p", h=heads, two=2)
    turned = torch.stack([cos * even - sin * odd, sin * even + cos * odd])
    return rearrange(turned, "two b n h p -> b n (h p two)").to(x)


def untwisted(k: Tensor, heads: int, rotation: Rotation, high: float, low: float) -> Tensor:
    """Keys b n (h d) scaled by `high` at the picture axes' highest frequencies, rising to `low` at the lowest.

    High frequencies tell exact places, and make a model copy; low ones tell the rough place and the content. Channels
    of other axes do not tell places of the picture, and stay.
    """
    scales = [torch.ones(width // 2) for width in rotation.widths[:-2]]
    scales += [high + (low - high) * torch.linspace(0.0, 1.0, width // 2) ** RISE for width in rotation.widths[-2:]]
    per_channel = torch.cat(scales).repeat_interleave(2).repeat(heads)
    return k * per_channel.to(k)

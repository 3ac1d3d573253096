"""Rotary positions that keys and queries already carry: moved by rotating once more, undone, or made vaguer.

A head's channels are divided among the axes of a position; on an axis of width d and base theta, its pair j of channels
is turned by the angle p theta^(-2j / d) for a position p (RoPE, Su et al. 2021). Two turns add up: a key at p becomes
the key at p + delta by a turn of delta, whatever p was.

Letters: b rows, h heads, n tokens, d head width, a axes, p pairs of channels, d = 2 p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

# Untwisting RoPE (2602.05013): how fast the scale rises from the highest frequency to the lowest
RISE = 2.0
OTHER_AXES = {
    "stay": "as they are (the paper)",
    "low": "all scaled as the lowest frequency of a picture's axis (ComfyUI-Krea2-StyleTransfer)",
    "curve": "scaled along the same curve (BigStationW, match_axes)",
}


class Rotation(NamedTuple):
    """How a model turns its queries and keys: the channels of each axis and the base of the frequencies.

    Of two axes both are the picture's, rows and columns; of more the second and the third. The pairs of one axis lie
    behind those of another; or the axes alternate, pair by pair, and all share the frequencies of one head (interleaved
    MRoPE, Qwen3-VL): the pair i belongs to axis i mod a while that axis has pairs left, else to the first.
    """

    widths: tuple[int, ...]
    theta: float | tuple[float, ...]  # one base, or one for each axis
    halves: bool = False  # pair p is channels p and p + d / 2, instead of 2 p and 2 p + 1
    alternating: bool = False

    @property
    def picture(self) -> tuple[int, int]:
        """The axes of rows and columns."""
        return (0, 1) if len(self.widths) == 2 else (1, 2)

    @property
    def axes(self) -> Tensor:
        """The axis of each pair -> p."""
        if not self.alternating:
            counts = torch.tensor([width // 2 for width in self.widths])
            return torch.arange(len(counts)).repeat_interleave(counts)
        axes = torch.zeros(sum(self.widths) // 2, dtype=torch.long)
        for axis, width in enumerate(self.widths[1:], 1):
            axes[axis : len(self.widths) * width // 2 : len(self.widths)] = axis
        return axes

    @property
    def frequencies(self) -> Tensor:
        """The angle of one position, for each pair -> p."""
        bases = self.theta if isinstance(self.theta, tuple) else (self.theta,) * len(self.widths)
        spans = [(bases[0], sum(self.widths))] if self.alternating else zip(bases, self.widths, strict=True)
        return torch.cat([base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width) for base, width in spans])

    @property
    def pattern(self) -> str:
        """How a head's channels hold its pairs, in einops words."""
        return "h two p" if self.halves else "h p two"


class Turn(NamedTuple):
    """How tokens were turned by the places where they stand."""

    heads: int
    rotation: Rotation
    places: Tensor  # n a, in double precision

    def done(self, x: Tensor) -> Tensor:
        """Queries or keys b n (h d) with their places: b n (h d)."""
        return _turned(x, self.heads, self.rotation, self.places)

    def undone(self, x: Tensor) -> Tensor:
        """And without, as they were before the model turned them: b n (h d)."""
        return _turned(x, self.heads, self.rotation, -self.places)


def places(grid: Sequence[int], rotation: Rotation, origin: Sequence[float]) -> Tensor:
    """Where the tokens of a grid (h, w) or (t, h, w) stand, the first at `origin`, a number for each axis: n a.

    Frames go along the first axis.
    """
    found = torch.tensor(origin, dtype=torch.float64).repeat(math.prod(grid), 1)
    cells = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float64) for side in grid))
    found[:, [0, *rotation.picture][-len(grid) :]] += cells
    return found


def moved(x: Tensor, heads: int, rotation: Rotation, delta: Sequence[float]) -> Tensor:
    """Queries or keys b n (h d) at positions that differ by delta, a number for each axis: b n (h d)."""
    return _turned(x, heads, rotation, torch.tensor([delta], dtype=torch.float64)) if any(delta) else x


def _turned(x: Tensor, heads: int, rotation: Rotation, by: Tensor) -> Tensor:
    """b n (h d), each token turned by its row of positions, n a or 1 a."""
    angles = by[:, rotation.axes] * rotation.frequencies
    cos, sin = (turn.unsqueeze(1).to(x.device, torch.float32) for turn in (angles.cos(), angles.sin()))
    even, odd = rearrange(x.float(), f"b n ({rotation.pattern}) -> two b n h p", h=heads, two=2)
    turned = torch.stack([cos * even - sin * odd, sin * even + cos * odd])
    return rearrange(turned, f"two b n h p -> b n ({rotation.pattern})").to(x)


def untwisted(
    k: Tensor,
    heads: int,
    rotation: Rotation,
    high: float,
    low: float,
    rise: float = RISE,
    others: str = "stay",
) -> Tensor:
    """Keys b n (h d) scaled by `high` at the picture axes' highest frequencies, rising to `low` at the lowest.

    High frequencies tell exact places, and make a model copy; low ones tell the rough place and the content. `rise` is
    the exponent of the curve. Channels of other axes do not tell places of the picture: a row of OTHER_AXES.
    """
    axes = rotation.axes
    scales = torch.full((len(axes),), low if others == "low" else 1.0)
    curved = range(len(rotation.widths)) if others == "curve" else rotation.picture
    for axis in curved:
        width = rotation.widths[axis]
        scales[axes == axis] = high + (low - high) * torch.linspace(0.0, 1.0, width // 2) ** rise
    pairs = "two p" if rotation.halves else "p two"
    per_channel = rearrange(scales.expand(2, -1), f"two p -> ({pairs})").repeat(heads)
    return k * per_channel.to(k)

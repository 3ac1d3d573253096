"""Placing: stored queries and keys brought to where they shall stand beside the running picture.

Only models with rotary positions have anything to place: there queries and keys carry the place of their token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import MagicStyleError
from ..core.features import AttentionFeatures, Depth
from ..core.rotation import Rotation, moved, untwisted
from .call import Call

POSITIONS = {
    "same": "the style's tokens stand where the picture's stand",
    "shift": "the style stands beside the picture, so that no place of it meets a place of the picture",
    "untwist": "the exact places of the style's tokens count less, so that the model copies less of its layout",
}
MAX_FREQUENCY_SCALE = 4.0


@dataclass(frozen=True)
class Positions:
    """Where a style's keys stand: a row of POSITIONS, and for untwist what remains of the two ends of frequencies."""

    mode: str = "same"
    high_frequencies: float = 0.5
    low_frequencies: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in POSITIONS:
            raise MagicStyleError(f"positions is '{self.mode}': choose one of {', '.join(POSITIONS)}.")
        for name in ("high_frequencies", "low_frequencies"):
            if not 0.0 <= getattr(self, name) <= MAX_FREQUENCY_SCALE:
                raise MagicStyleError(
                    f"{name} is {getattr(self, name)}: choose a value from 0 to {MAX_FREQUENCY_SCALE:g}."
                )


class Placer:
    """Places the features of one kind of model."""

    def __init__(self, name: str, rotation: Rotation | None, positions: Positions, *, centred: bool = False) -> None:
        if rotation is None and positions.mode != "same":
            raise MagicStyleError(
                f"positions '{positions.mode}' moves rotary positions, which a {name} does not have: choose same."
            )
        self._rotation = rotation
        self._positions = positions
        self.centred = centred  # positions count from a picture's middle

    @property
    def rotary(self) -> bool:
        """Whether queries and keys carry places."""
        return self._rotation is not None

    def content(self, features: AttentionFeatures, call: Call, depth: Depth) -> AttentionFeatures:
        """The content, inverted at a depth, at the depth of the running picture: b n c each."""
        return self._moved(features, call, depth)

    def cut(self, features: AttentionFeatures, heads: int, shifts: Sequence[tuple[int, int]]) -> AttentionFeatures:
        """The content in chunks that the model takes for pictures of their own, each moved by (y, x): b n c each."""
        rotation = self._rotation
        if rotation is None or not any(any(shift) for shift in shifts):
            return features

        def turned(tokens: Tensor) -> Tensor:
            """Queries or keys (chunks b) n c."""
            chunks = zip(tokens.chunk(len(shifts)), shifts, strict=True)
            return torch.cat([moved(chunk, heads, rotation, _within(rotation, shift)) for chunk, shift in chunks])

        return features.replace(**{role: turned(x) for role, x in features.items() if role in "qk"})

    def style(self, features: AttentionFeatures, call: Call, depth: Depth) -> AttentionFeatures:
        """A style likewise, and where the user wants it: b m c each."""
        aside = float(call.layout.grid.width) if self._positions.mode == "shift" else 0.0
        placed = self._moved(features, call, depth, aside)
        if self._positions.mode != "untwist" or self._rotation is None or "k" not in placed:
            return placed
        high, low = self._positions.high_frequencies, self._positions.low_frequencies
        return placed.replace(k=untwisted(placed.k, call.kernel.heads, self._rotation, high, low))

    def _moved(self, features: AttentionFeatures, call: Call, depth: Depth, aside: float = 0.0) -> AttentionFeatures:
        rotation = self._rotation
        if rotation is None:
            return features
        now, then = (_on_axes(each, len(rotation.widths)) for each in (call.layout.depth, depth))
        delta = [a - b for a, b in zip(now, then, strict=True)]
        delta[rotation.picture[1]] += aside
        if not any(delta):
            return features
        turned = {role: moved(x, call.kernel.heads, rotation, delta) for role, x in features.items() if role in "qk"}
        return features.replace(**turned)


def _on_axes(depth: Depth, axes: int) -> Depth:
    return (*depth, *(0.0,) * axes)[:axes]


def _within(rotation: Rotation, shift: tuple[int, int]) -> list[float]:
    """A shift (y, x) of the picture as one of all axes."""
    delta = [0.0] * len(rotation.widths)
    for axis, steps in zip(rotation.picture, shift, strict=True):
        delta[axis] = float(steps)
    return delta

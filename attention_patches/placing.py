"""Placing: stored queries and keys brought to where they shall stand beside the running picture.

Only models with rotary positions have anything to place: there queries and keys carry the place of their token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.controls import ramped
from ..core.errors import MagicStyleError
from ..core.features import AttentionFeatures, Depth
from ..core.grid import Grid
from ..core.rotation import OTHER_AXES, RISE, Rotation, Turn, moved, places, untwisted
from .call import Call

POSITIONS = {
    "same": "the style's tokens stand where the picture's stand",
    "shift": "the style stands beside the picture, so that no place of it meets a place of the picture",
    "untwist": "the exact places of the style's tokens count less, so that the model copies less of its layout",
}
MAX_FREQUENCY_SCALE, MAX_RISE = 4.0, 100.0


@dataclass(frozen=True)
class Positions:
    """Where a style's keys stand: a row of POSITIONS, and for untwist what remains of the two ends of frequencies."""

    mode: str = "same"
    high_frequencies: float = 0.5
    low_frequencies: float = 1.0
    high_frequencies_end: float | None = None  # of the last step, where they move; in between in even steps
    low_frequencies_end: float | None = None
    rise: float = RISE  # the exponent of the curve between the two
    other_axes: str = "stay"  # a row of OTHER_AXES

    def __post_init__(self) -> None:
        if self.mode not in POSITIONS:
            raise MagicStyleError(f"positions is '{self.mode}': choose one of {', '.join(POSITIONS)}.")
        for name in ("high_frequencies", "low_frequencies", "high_frequencies_end", "low_frequencies_end"):
            if not 0.0 <= (getattr(self, name) or 0.0) <= MAX_FREQUENCY_SCALE:
                raise MagicStyleError(
                    f"{name} is {getattr(self, name)}: choose a value from 0 to {MAX_FREQUENCY_SCALE:g}."
                )
        if self.mode != "untwist" and (self.high_frequencies_end, self.low_frequencies_end) != (None, None):
            raise MagicStyleError(
                f"high_frequencies_end and low_frequencies_end move what positions untwist scales, and positions is "
                f"{self.mode}: choose untwist, or leave them at -1."
            )
        if not 0.0 < self.rise <= MAX_RISE:
            raise MagicStyleError(f"rise is {self.rise}: choose a value above 0, up to {MAX_RISE:g}.")
        if self.other_axes not in OTHER_AXES:
            raise MagicStyleError(f"other_axes is '{self.other_axes}': choose one of {', '.join(OTHER_AXES)}.")

    def frequencies(self, ramp: float) -> tuple[float, float]:
        """What remains of the highest and the lowest, from the first step, 0, to the last, 1."""
        high = ramped(self.high_frequencies, self.high_frequencies_end, ramp)
        return high, ramped(self.low_frequencies, self.low_frequencies_end, ramp)


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

    def in_time(self, features: AttentionFeatures, heads: int, delays: Sequence[int]) -> AttentionFeatures:
        """A film, each of its frames by so many frames later: b (t m) c each."""
        rotation = self._rotation
        if rotation is None or not any(delays):
            return features
        still = (0.0,) * (len(rotation.widths) - 1)

        def turned(tokens: Tensor) -> Tensor:
            """Queries or keys b (t m) c; time is the first of the axes."""
            frames = zip(tokens.chunk(len(delays), dim=1), delays, strict=True)
            return torch.cat([moved(frame, heads, rotation, (float(delay), *still)) for frame, delay in frames], dim=1)

        return features.replace(**{role: turned(x) for role, x in features.items() if role in "qk"})

    def style(self, features: AttentionFeatures, call: Call, depth: Depth) -> AttentionFeatures:
        """A style likewise, and beside the picture where the user wants it: b m c each."""
        return self._moved(features, call, depth, self._aside(call))

    def weighed(self, features: AttentionFeatures, call: Call, ramp: float) -> AttentionFeatures:
        """A style whose places count as much as the user wants at this moment, of 0 to 1: b m c each."""
        positions = self._positions
        if positions.mode != "untwist" or self._rotation is None or "k" not in features:
            return features
        ends = positions.frequencies(ramp)
        keys = untwisted(features.k, call.kernel.heads, self._rotation, *ends, positions.rise, positions.other_axes)
        return features.replace(k=keys)

    def turn(self, call: Call, style: Grid | None = None) -> Turn:
        """How places turn the running tokens, or those of a style of a grid that stands as `style` places it."""
        aside = 0.0 if style is None else self._aside(call)
        return self.stored_turn(call.kernel.heads, call.layout.depth, style or call.layout.grid, aside)

    def stored_turn(self, heads: int, depth: Depth, grid: Grid, aside: float = 0.0) -> Turn:
        """How places turn the tokens of a picture at a depth, so far to the side."""
        rotation = self._rotation
        if rotation is None:
            raise ValueError("no rotary positions")
        origin = list(_on_axes(depth, len(rotation.widths)))
        if self.centred:
            for axis, side in zip(rotation.picture, grid.frame, strict=True):
                origin[axis] -= side // 2
        origin[rotation.picture[1]] += aside
        return Turn(heads, rotation, places(grid, rotation, origin))

    def resampled(
        self, features: AttentionFeatures, heads: int, depth: Depth, own: Grid, new: Grid
    ) -> AttentionFeatures:
        """A stored picture's features, b m c each, as they would be on another grid: b n c each."""
        if own == new:
            return features

        def moved_to(role: str, tokens: Tensor) -> Tensor:
            """b m c -> b n c, turned by the new places."""
            if self._rotation is None or role == "v":
                return own.resampled(tokens, new)
            upright = self.stored_turn(heads, depth, own).undone(tokens)
            return self.stored_turn(heads, depth, new).done(own.resampled(upright, new))

        return AttentionFeatures(**{role: moved_to(role, tokens) for role, tokens in features.items()})

    def _aside(self, call: Call) -> float:
        return float(call.layout.grid.width) if self._positions.mode == "shift" else 0.0

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

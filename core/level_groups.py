"""Groups of neighbouring noise levels, each served by the features of its middle one.

Features change slowly from one level to the next: those of every fifth level, each serving its neighbours, give nearly
the picture that those of every level give, from a fifth of the memory and of the replays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import MagicStyleError

MOST_EVERY = 1000
EVERY_STEP = range(MOST_EVERY * MOST_EVERY)  # the steps that are kept where all are


@dataclass(frozen=True)
class LevelGroups:
    """The steps of a walk in runs of `every`, the last of which may be shorter."""

    steps: int
    every: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.every <= MOST_EVERY:
            raise MagicStyleError(
                f"every is {self.every}: choose a number from 1, which keeps each noise level, to {MOST_EVERY}."
            )

    @property
    def count(self) -> int:
        """How many groups there are, and steps that are kept."""
        return -(-self.steps // self.every)

    @property
    def kept(self) -> Sequence[int]:
        """The step in the middle of each group; of two in the middle, the noisier."""
        firsts = range(0, self.steps, self.every)
        return tuple((first + min(first + self.every, self.steps) - 1) // 2 for first in firsts)

    def of(self, step: int) -> int:
        """The group that a step belongs to."""
        return step // self.every


def ordinal(number: int) -> str:
    """2 -> '2nd'."""
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"

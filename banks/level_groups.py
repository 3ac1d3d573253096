"""Groups of neighbouring noise levels, each served by the features of its middle one.

Features change slowly from one level to the next: those of every fifth level, each serving its neighbours, give nearly
the picture that those of every level give, from a fifth of the memory and of the replays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import MagicStyleError

MAX_EVERY = 1000
EVERY_STEP = range(MAX_EVERY * MAX_EVERY)  # the steps that are kept where all are


@dataclass(frozen=True)
class LevelGroups:
    """The steps of a walk in runs of `every`, the last of which may be shorter."""

    steps: int
    every: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.every <= MAX_EVERY:
            raise MagicStyleError(
                f"level_stride is {self.every}: choose a number from 1, which keeps each noise level, to {MAX_EVERY}."
            )

    @property
    def count(self) -> int:
        """How many groups there are, and steps that are kept."""
        return -(-self.steps // self.every)

    @property
    def kept(self) -> Sequence[int]:
        """The step in the middle of each group; an even number has two, which are kept in turn.

        What is off by half a level to one side in a group is off to the other side in the next one.
        """
        firsts = range(0, self.steps, self.every)
        lasts = (min(first + self.every, self.steps) - 1 for first in firsts)
        middles = (first + last for first, last in zip(firsts, lasts, strict=True))
        return tuple((twice + (group % 2 and self.every % 2 == 0)) // 2 for group, twice in enumerate(middles))

    def of(self, step: int) -> int:
        """The group that a step belongs to."""
        return step // self.every


def ordinal(number: int) -> str:
    """2 -> '2nd'."""
    ending = "th" if number // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"

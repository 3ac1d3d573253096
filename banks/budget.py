"""What of a picture's features fits: of how many noise levels, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .level_groups import LevelGroups, ordinal

# how many levels share what is kept: what is tried where not everything fits, the best first
FEATURES_EVERY = (1, 2, 3, 5)
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def readable_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def readable_levels(every: int) -> str:
    """1 -> 'every level', 3 -> 'every 3rd level'."""
    return "every level" if every == 1 else f"every {ordinal(every)} level"


class PictureNeed(NamedTuple):
    """What recording one picture takes."""

    levels: int
    bytes: int  # of one level

    def total(self, every: int) -> int:
        """Bytes where so many levels share what is kept."""
        return self.bytes * LevelGroups(self.levels, every).count


class Recording(NamedTuple):
    """What a recording will keep, and where."""

    every: int
    place: str  # cpu or disk
    estimate: int  # bytes of all pictures


def total_bytes(needs: Sequence[PictureNeed], every: int) -> int:
    """Bytes of all pictures where so many levels share what is kept."""
    return sum(need.total(every) for need in needs)


def settle_recording(needs: Sequence[PictureNeed], memory: int, disk: int) -> Recording | None:
    """The finest that takes half of the free main memory, else half of the free disk; None where nothing does.

    Unlike an inversion, which leaves room for a second picture, a recording knows all of its pictures: together they
    take what an inversion may take for one.
    """
    for place, free in (("cpu", memory), ("disk", disk)):
        for every in FEATURES_EVERY:
            estimate = total_bytes(needs, every)
            if 2 * estimate <= free:
                return Recording(every, place, estimate)
    return None

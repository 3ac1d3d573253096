"""What an inversion will keep, and of how many noise levels: decided before it runs, from what fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ...banks.budget import FEATURES_EVERY, readable_bytes, readable_levels
from ...banks.level_groups import LevelGroups
from ...core.errors import MagicStyleError
from .order import InversionOrder

# what a conditioning may carry beside its text
UNREPEATABLE = {"control": "a ControlNet", "hooks": "hooks", "gligen": "GLIGEN's boxes"}
# what `auto` tries where no features fit, the best first: latents that are replayed so often
LATENTS_EVERY = (3, 5)


class MemoryNeed(NamedTuple):
    """What keeping takes."""

    levels: int
    features: int  # bytes of one level
    latents: int  # bytes of one level


class Free(NamedTuple):
    """What is free where features will lie, and the part of it that one picture's may take."""

    bytes: int
    name: str = "memory"
    parts: int = 2  # two pictures come

    @property
    def share(self) -> str:
        """Which part, in words."""
        return f"{'half' if self.parts == 2 else 'a quarter'} of the free {self.name}"

    def fits(self, size: int) -> bool:
        """Whether one picture may take so many bytes."""
        return self.parts * size <= self.bytes


class Budget(NamedTuple):
    """What an inversion will keep."""

    storage: str  # features or latents
    every: int  # how many levels share what is kept
    estimate: int  # bytes of the features, whether they are kept or not
    reason: str


def carried_beside_text(conditioning: list[Any]) -> list[str]:
    """What a conditioning carries that the model's inputs do not hold, so that no replay has it."""
    carried: Mapping[str, Any] = conditioning[0][1]
    return [name for key, name in UNREPEATABLE.items() if key in carried]


def settle_budget(
    order: InversionOrder, need: MemoryNeed, free: Free, *, large: bool, repeatable: bool = True
) -> Budget:
    """What the order says; for `auto` the finest that fits the part of what is free, where features will lie.

    Of transformers it is latents: a large one's features of a single level are several GB. Latents alone are no choice
    where a replay cannot repeat the model's inputs.
    """
    carried = carried_beside_text(order.conditioning)
    if order.storage == "latents" and carried:
        raise MagicStyleError(
            f"conditioning carries {' and '.join(carried)}, which a replay of latents cannot repeat: "
            "choose storage features, or invert with a plain prompt."
        )
    storage, every, why, repeatable = order.storage, order.level_stride, "", repeatable and not carried
    if order.storage == "auto" and large and repeatable:
        storage, why = "latents", ", as for all transformers"
    elif order.storage == "auto":
        storage, every = _finest(order, need, free, repeatable=repeatable)
        why = "" if (storage, every) == ("features", order.level_stride) else f", the finest that fits {free.share}"
    wanted, estimate = (need.features * LevelGroups(need.levels, n).count for n in (order.level_stride, every))
    sizes = f"{readable_bytes(wanted)}, {readable_bytes(free.bytes)} of {free.name} were free"
    levels = readable_levels(order.level_stride)
    reason = f"storage {storage} of {readable_levels(every)}{why}: features of {levels} were estimated at {sizes}"
    return Budget(storage, every, estimate, reason)


def _finest(order: InversionOrder, need: MemoryNeed, free: Free, *, repeatable: bool) -> tuple[str, int]:
    """The first choice that fits, else the last one: storage, and how many levels share what is kept."""
    choices = list(_choices(order, need, repeatable))
    fitting = [choice[:2] for choice in choices if free.fits(choice[2])]
    return fitting[0] if fitting else choices[-1][:2]


def _choices(order: InversionOrder, need: MemoryNeed, repeatable: bool) -> Iterator[tuple[str, int, int]]:
    """Storage, every and bytes, the best first, none finer than the order's; latents where a replay can be had."""
    ways = [("features", FEATURES_EVERY, need.features), ("latents", LATENTS_EVERY, need.latents)]
    for storage, everies, size in ways if repeatable else ways[:1]:
        for every in dict.fromkeys(max(order.level_stride, every) for every in everies):
            yield storage, every, size * LevelGroups(need.levels, every).count

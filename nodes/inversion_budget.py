"""What an inversion will keep, and of how many noise levels: decided before it runs, from what fits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..core.errors import MagicStyleError
from ..core.level_groups import LevelGroups, ordinal
from .inversion_order import InversionOrder
from .report import readable_bytes

# what a conditioning may carry beside its text
UNREPEATABLE = {"control": "a ControlNet", "hooks": "hooks"}
# what `auto` tries, the best first: features of every so many levels, then latents that are replayed so often
FEATURES_EVERY, LATENTS_EVERY = (1, 2, 3, 5), (3, 5)


class Need(NamedTuple):
    """What keeping takes."""

    levels: int
    features: int  # bytes of one level
    latents: int  # bytes of one level


class Budget(NamedTuple):
    """What an inversion will keep."""

    storage: str  # features or latents
    every: int  # how many levels share what is kept
    estimate: int  # bytes of the features, whether they are kept or not
    reason: str


def settle_budget(order: InversionOrder, need: Need, free: int, *, flow: bool) -> Budget:
    """What the order says; for `auto` the finest that takes half of the free memory, since two pictures come.

    Of transformers it is latents: a large one's features of a single level are several GB.
    """
    carried = [name for key, name in UNREPEATABLE.items() if key in order.conditioning[0][1]]
    if order.storage == "latents" and carried:
        raise MagicStyleError(
            f"conditioning carries {' and '.join(carried)}, which a replay of latents cannot repeat: "
            "choose storage features, or invert with a plain prompt."
        )
    storage, every, why = order.storage, order.every, ""
    if order.storage == "auto" and flow and not carried:
        storage, why = "latents", ", as for all transformers"
    elif order.storage == "auto":
        storage, every = _finest(order, need, free, repeatable=not carried)
        why = "" if (storage, every) == ("features", order.every) else ", the finest that fits half of the free memory"
    wanted, estimate = (need.features * LevelGroups(need.levels, n).count for n in (order.every, every))
    sizes = f"{readable_bytes(wanted)}, {readable_bytes(free)} of memory were free"
    reason = f"storage {storage} of {_levels(every)}{why}: features of {_levels(order.every)} were estimated at {sizes}"
    return Budget(storage, every, estimate, reason)


def _finest(order: InversionOrder, need: Need, free: int, *, repeatable: bool) -> tuple[str, int]:
    """The first choice that fits, else the last one: storage, and how many levels share what is kept."""
    choices = list(_choices(order, need, repeatable))
    fitting = [choice[:2] for choice in choices if order.place == "disk" or 2 * choice[2] <= free]
    return fitting[0] if fitting else choices[-1][:2]


def _choices(order: InversionOrder, need: Need, repeatable: bool) -> Iterator[tuple[str, int, int]]:
    """Storage, every and bytes, the best first, none finer than the order's; latents where a replay can be had."""
    ways = [("features", FEATURES_EVERY, need.features), ("latents", LATENTS_EVERY, need.latents)]
    for storage, everies, size in ways if repeatable else ways[:1]:
        for every in dict.fromkeys(max(order.every, every) for every in everies):
            yield storage, every, size * LevelGroups(need.levels, every).count


def _levels(every: int) -> str:
    return "every level" if every == 1 else f"every {ordinal(every)} level"

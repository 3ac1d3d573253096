"""The pack's one private entry in the host's `transformer_options`: an immutable value, replaced and never written to.

It is no dict, which the host would merge with those of earlier calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ..core.grid import Window
from .call import RowPlan

KEY = "magicstyle"
ANYONE, NOBODY = object(), object()
_ABSENT = object()


@dataclass(frozen=True, eq=False)
class Entry:
    """What one model call carries for the pack's own handlers."""

    # the guider's prompts: (is negative, uuids of its conds) for each
    prompts: tuple[tuple[bool, frozenset[Any]], ...] = ()
    # the indices in cond_or_uncond that are negative prompts: they mean something else to each guider
    negative: frozenset[int] = frozenset()
    # uuid -> window of the latent: the conds that are limited to an area, of which the model sees nothing else
    areas: Mapping[Any, Window] = field(default_factory=lambda: MappingProxyType({}))
    # b c h w: the running latent as the sampler has it, of which a model call may see a part
    latent: Tensor | None = None
    # what the rows of this call are, where another node has cut or picked them
    plan: RowPlan | None = None
    # the sampling run of each patcher
    runs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    # a call with a trajectory's rows alone, which the pack's patchers leave as it is
    replaying: bool = False
    # the handlers that may answer; while one delegates nobody may: a fused call is not fused again
    only: object = ANYONE

    def __deepcopy__(self, memo: object) -> Entry:
        return self

    @cached_property
    def silent(self) -> Entry:
        """The same with nobody to answer."""
        return replace(self, only=NOBODY)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Entry:
        """The entry of a call's options."""
        return options.get(KEY, _EMPTY)

    def admits(self, handlers: object) -> bool:
        """Whether these handlers may answer."""
        return self.only is ANYONE or self.only is handlers


_EMPTY = Entry()


def with_entry(options: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Options in which the entry has changed."""
    return {**options, KEY: replace(Entry.of(options), **changes)}


@contextmanager
def entered(options: dict[str, Any], **changes: Any) -> Iterator[None]:
    """The entry changed in place; the options leave as they came."""
    with put(options, KEY, replace(Entry.of(options), **changes)):
        yield


@contextmanager
def put(options: dict[str, Any], key: str, value: Any) -> Iterator[None]:
    """One of the host's options set; it leaves as it came."""
    before = options.get(key, _ABSENT)
    options[key] = value
    try:
        yield
    finally:
        if before is _ABSENT:
            options.pop(key, None)
        else:
            options[key] = before

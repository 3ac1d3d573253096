"""The matrix: our patcher beside each of its neighbours, and what must hold.

Four pictures a cell: neither node, the neighbour alone, ours alone, both. Where both act, `both` lies as far from
`ours alone` as the neighbour moves a picture, and as far from `neighbour alone` as ours does.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.fusion import FusionSettings
from magicstyle.tests.host.composition.graph import (
    GRID,
    SD15,
    Graph,
    Kind,
    Wire,
    base,
    inversion,
    portrait,
    style_picture,
)
from torch import Tensor

LAYERS = SD15.layers
FLOOR = 3e-4  # of a picture: a node that moves it by less does nothing, rounding moves it by 1e-6
SHARES = (0.1, 10.0)  # of a node's effect alone, what its effect beside the other may be
BOTH_ACT, SAME_PICTURE = "both act", "ours acts, same picture as without it"
STORAGES, ONE_STORAGE = ("features", "latents"), ("features",)


def make_bank(
    model: Any,
    storage: str,
    batch: int = 1,
    grid: tuple[int, int] = GRID,
    layers: str = "all",
    scheduler: str | None = None,
    kind: Kind = SD15,
) -> FeatureBank:
    """A bank of both pictures, inverted with this model."""
    content = inversion(model, portrait(batch, grid, kind), storage, layers, scheduler, kind)
    style = inversion(model, style_picture(grid, kind), storage, layers, scheduler, kind)
    return FeatureBank(content.features, (StyleEntry(style.features),))


@functools.cache
def plain_bank(
    storage: str, batch: int = 1, grid: tuple[int, int] = GRID, scheduler: str | None = None, kind: Kind = SD15
) -> FeatureBank:
    """The bank of the plain model."""
    return make_bank(kind.model(), storage, batch, grid, scheduler=scheduler, kind=kind)


def bank_for(graph: Graph, storage: str, scheduler: str | None = None) -> FeatureBank:
    """The plain model's bank of a graph's portraits."""
    return plain_bank(storage, graph.portraits, tuple(graph.samples.shape[2:]), scheduler, graph.kind)


def stylized(graph: Graph, bank: FeatureBank, layers: str = LAYERS, **knobs: Any) -> Graph:
    """FFA Model Patcher."""
    return graph.but(model=install_fusion(graph.model, bank, FusionSettings(**knobs), layers, 0.0, 1.0))


class Tried(NamedTuple):
    """One way of wiring a neighbour."""

    name: str
    wire: Wire
    on: Callable[[], Graph] = base
    scheduler: str | None = None  # of the inversions beside it, where it is not the usual one


@dataclass(frozen=True)
class Row:
    """One neighbour: how it is wired, and what must hold."""

    name: str
    tried: tuple[Tried, ...]
    outcome: str = BOTH_ACT
    after: bool = False  # whether it is also tried behind our node: it patches the model
    inverts: bool = False  # whether the inversion's model has it, too
    storages: tuple[str, ...] = STORAGES
    layers: str = LAYERS
    warns: str = ""  # the layers that the one warning names
    yields: str = ""  # layers in which the neighbour leaves us nothing
    note: str = ""  # what was tried, where that is a long list
    flag: str = ""  # the attention that a flag of the host chooses
    kind: Kind = SD15
    witness: Callable[[], int] | None = None  # how often a neighbour has acted; one that changes no picture needs it

    @property
    def summary(self) -> tuple[str, str, str]:
        """The row as users read it: the neighbour, what was tried, what holds."""
        tried = self.note or ", ".join(tried.name for tried in self.tried)
        tried += "; before and after ours" if self.after else ""
        tried += "; stored features" if len(self.storages) == 1 and self.tried else ""
        warned = f"; ours yields in {self.yields}, one warning" if self.yields else ""
        warned = warned or (f"; one warning names {self.warns}" if self.warns else "")
        return self.name, tried, self.outcome + warned


class Cell(NamedTuple):
    """One case of a row."""

    row: Row
    tried: Tried
    storage: str = "features"
    order: str = "before"  # or "after" our node

    def __str__(self) -> str:
        kind = () if self.row.kind is SD15 else (self.row.kind.name,)
        return "-".join((*kind, self.row.name, self.tried.name, self.storage, self.order))


class Verdict(NamedTuple):
    """What was seen, as shares of each node's effect alone."""

    neighbour: float
    ours: float


def cells(rows: tuple[Row, ...]) -> Iterator[Cell]:
    """Every case of every row."""
    for row in rows:
        for tried in row.tried:
            for storage in row.storages:
                for order in ("before", "after") if row.after and storage == "features" else ("before",):
                    yield Cell(row, tried, storage, order)


@functools.cache
def alone(on: Callable[[], Graph]) -> Tensor:
    """The picture of a graph with neither node."""
    return on().picture()


@functools.cache
def neighbour_alone(tried: Tried) -> Tensor:
    """The picture with the neighbour alone."""
    return tried.wire(tried.on()).picture()


@functools.cache
def ours_alone(on: Callable[[], Graph], storage: str, layers: str) -> Tensor:
    """The picture with our node alone."""
    graph = on()
    return stylized(graph, bank_for(graph, storage), layers).picture()


def both_wired(cell: Cell, layers: str = "") -> Graph:
    """The graph with both nodes."""
    row, tried = cell.row, cell.tried
    graph, layers = tried.on(), layers or row.layers
    wired = tried.wire(graph)
    if row.inverts:
        grid = tuple(wired.samples.shape[2:])
        bank = make_bank(wired.model, cell.storage, wired.portraits, grid, layers, kind=wired.kind)
    else:
        bank = bank_for(wired, cell.storage, tried.scheduler)
    if cell.order == "after":
        return tried.wire(stylized(graph, bank, layers))
    return stylized(wired, bank, layers)


@functools.cache
def both(cell: Cell, layers: str = "") -> tuple[Tensor, tuple[str, ...]]:
    """The picture with both nodes, and what ours warned of."""
    with warnings_of_ours() as messages:
        return both_wired(cell, layers).picture(), tuple(messages)


@contextmanager
def warnings_of_ours() -> Iterator[list[str]]:
    """The pack's warnings about other nodes, as they come."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda record: "another node" in record.getMessage())
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("magicstyle")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def distance(a: Tensor, b: Tensor) -> float:
    """How far two pictures are apart."""
    return float((a - b).norm())


def effect(picture: Tensor, neither: Tensor) -> float:
    """How far a node moves a picture; one that moves none proves nothing."""
    moved = distance(picture, neither)
    assert moved > FLOOR * float(neither.norm()), f"a node alone moves the picture by {moved:.3g}"
    return moved


def verdict(neither: Tensor, neighbour: Tensor, ours: Tensor, both: Tensor) -> Verdict:
    """Four pictures compared."""
    theirs, mine = effect(neighbour, neither), effect(ours, neither)
    return Verdict(distance(both, ours) / theirs, distance(both, neighbour) / mine)


def check_both_act(seen: Verdict) -> None:
    """Each node's effect beside the other is comparable to its effect alone."""
    for name, share in seen._asdict().items():
        assert SHARES[0] <= share <= SHARES[1], f"of {name}'s effect {share:.3g} times is left"

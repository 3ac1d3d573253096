"""The vocabulary of a workflow description: nodes and blocks in stacks, stacks in groups, groups on a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class Out(NamedTuple):
    """An output of a node, by the node's key in the description and the output's name."""

    key: str
    output: str


@dataclass(frozen=True)
class Node:
    """A node: its class, its connections and those widget values that are not the default."""

    key: str
    type: str
    inputs: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    models: tuple[dict[str, str], ...] = ()
    size: tuple[int, int] | None = None
    labels: dict[str, str] = field(default_factory=dict)  # of widgets, in place of their names

    @property
    def links(self) -> dict[str, Out]:
        """The connected inputs."""
        return {name: value for name, value in self.inputs.items() if isinstance(value, Out)}

    def labelled(self, **labels: str) -> Node:
        """The same node with other words in front of some widgets."""
        return replace(self, labels=labels)

    def with_inputs(self, **inputs: Any) -> Node:
        """The same node with some inputs set."""
        return replace(self, inputs={**self.inputs, **inputs})


class Knob(NamedTuple):
    """A widget of a block that drives one or more widgets inside: node key and input name each."""

    name: str
    targets: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Block:
    """Nodes folded into one (a subgraph), which users open by a double click; links cross its border by themselves.

    `names` are those of its sockets, by the output that comes in or goes out; others are called as that output is.
    """

    key: str
    title: str
    stacks: tuple[tuple[Node, ...], ...]
    knobs: tuple[Knob, ...] = ()
    names: dict[Out, str] = field(default_factory=dict)
    width: int = 300

    @property
    def nodes(self) -> list[Node]:
        """The nodes inside, in reading order."""
        return [node for stack in self.stacks for node in stack]


@dataclass(frozen=True)
class Note:
    """Text beside the nodes, in Markdown."""

    key: str
    text: str
    width: int = 400


Item = Node | Note | Block


@dataclass(frozen=True)
class Group:
    """A titled frame around stacks of nodes that stand side by side."""

    title: str
    stacks: tuple[tuple[Item, ...], ...]
    color: str = "#3f789e"


class App(NamedTuple):
    """What a workflow shows in App mode: widgets by item key and name, and the nodes whose pictures are its results."""

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Workflow:
    """A page: columns of groups from left to right; with an `app` it opens in App mode, where the host has one."""

    name: str
    columns: tuple[tuple[Group, ...], ...]
    app: App | None = None

    def as_app(self, name: str, app: App) -> Workflow:
        """The same page, opening in App mode."""
        return replace(self, name=name, app=app)

    @property
    def groups(self) -> Iterator[Group]:
        """All groups, column by column."""
        for column in self.columns:
            yield from column

    @property
    def items(self) -> list[Item]:
        """What stands on the page, in reading order."""
        return [item for group in self.groups for stack in group.stacks for item in stack]

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in reading order."""
        return [item for item in self.items if isinstance(item, Block)]

    @property
    def nodes(self) -> list[Node]:
        """All nodes, those inside blocks among them, in reading order."""
        found: list[Node] = []
        for item in self.items:
            found += item.nodes if isinstance(item, Block) else [item] if isinstance(item, Node) else []
        return found

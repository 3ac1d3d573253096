"""The vocabulary of a workflow description: nodes in stacks, stacks in groups, groups on a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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

    @property
    def links(self) -> dict[str, Out]:
        """The connected inputs."""
        return {name: value for name, value in self.inputs.items() if isinstance(value, Out)}


@dataclass(frozen=True)
class Note:
    """Text beside the nodes, in Markdown."""

    key: str
    text: str
    width: int = 400


Item = Node | Note


@dataclass(frozen=True)
class Group:
    """A titled frame around stacks of nodes that stand side by side."""

    title: str
    stacks: tuple[tuple[Item, ...], ...]
    color: str = "#3f789e"
    row: str = ""  # groups of one row start at one height, whatever stands above each


@dataclass(frozen=True)
class Workflow:
    """A page: columns of groups from left to right."""

    name: str
    columns: tuple[tuple[Group, ...], ...]

    @property
    def groups(self) -> Iterator[Group]:
        """All groups, column by column."""
        for column in self.columns:
            yield from column

    @property
    def items(self) -> Iterator[Item]:
        """All nodes and notes, in reading order."""
        for group in self.groups:
            for stack in group.stacks:
                yield from stack

    @property
    def nodes(self) -> list[Node]:
        """The nodes without the notes, in reading order."""
        return [item for item in self.items if isinstance(item, Node)]

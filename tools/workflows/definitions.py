"""What the frontend makes of a node definition: sockets first, then widgets, then outputs."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEEDS = {"seed", "noise_seed"}
OURS = "MagicStyle"


class Input(NamedTuple):
    """An input of a node class."""

    name: str
    type: str
    optional: bool
    options: dict[str, Any]

    @property
    def is_widget(self) -> bool:
        """Whether the frontend draws a widget for it."""
        return self.type in WIDGETS and not self.options.get("forceInput")

    @property
    def is_seed(self) -> bool:
        """Whether the frontend adds a widget behind it that says what happens to it after each run."""
        return self.type == "INT" and (self.name in SEEDS or bool(self.options.get("control_after_generate")))

    @property
    def default(self) -> Any:
        """The value of an untouched widget."""
        if "default" in self.options:
            return self.options["default"]
        if self.type == "COMBO":
            return next(iter(self.options["options"]), "")
        return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}[self.type]


class NodeDefinition(NamedTuple):
    """A node class as the frontend shows it."""

    type: str
    title: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str], ...]  # name, type

    @property
    def sockets(self) -> list[Input]:
        """Inputs that only a connection can fill."""
        return [entry for entry in self.inputs if not entry.is_widget]

    @property
    def widgets(self) -> list[Input]:
        """Inputs with a value of their own."""
        return [entry for entry in self.inputs if entry.is_widget]

    @property
    def is_ours(self) -> bool:
        """Whether this pack brings the class."""
        return self.type.startswith(OURS)

    def output(self, name: str) -> int:
        """The slot of an output."""
        names = [output for output, _ in self.outputs]
        if name not in names:
            raise KeyError(f"{self.type} has no output {name}, only {', '.join(names)}.")
        return names.index(name)


def parse_input(name: str, spec: list[Any], *, optional: bool) -> Input:
    """An entry of /object_info; a list in place of the type is the older way to write a choice."""
    kind, options = spec[0], dict(spec[1]) if len(spec) > 1 else {}
    if isinstance(kind, list):
        kind, options["options"] = "COMBO", kind
    return Input(name, kind, optional, options)


def parse_definition(name: str, info: dict[str, Any]) -> NodeDefinition:
    """A class of /object_info, its inputs in the order that the host gives."""
    inputs = [
        parse_input(entry, info["input"][kind][entry], optional=kind == "optional")
        for kind in ("required", "optional")
        for entry in info["input_order"].get(kind, ())
    ]
    outputs = tuple(zip(info["output_name"], info["output"], strict=True))
    return NodeDefinition(name, info.get("display_name") or name, tuple(inputs), outputs)


def parse_definitions(object_info: dict[str, Any]) -> dict[str, NodeDefinition]:
    """All classes of /object_info."""
    return {name: parse_definition(name, info) for name, info in object_info.items()}


def read_object_info(source: str) -> dict[str, Any]:
    """/object_info of a running server by its address, or a saved copy by its path."""
    if source.startswith(("http://", "https://")):
        with urllib.request.urlopen(f"{source.rstrip('/')}/object_info") as answer:
            return json.load(answer)
    return json.loads(Path(source).read_text(encoding="utf-8"))

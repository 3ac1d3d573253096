"""A page of nodes as the frontend saves it: the workflow itself, and the inside of each block (a subgraph)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from .definitions import Input, NodeDefinition
from .describe import Block, Item, Knob, Node, Note, Out, Workflow
from .layout import Box

OPTIONAL_SHAPE = 7
UPLOADING = {"LoadImage", "LoadVideo"}  # loaders with a button for a file of the user's
INSIDE_INPUTS, INSIDE_OUTPUTS = -10, -20  # the numbers of the two ends that a subgraph's links come from and go to
JSON = dict[str, Any]


class Slot(NamedTuple):
    """Where a link begins: node number, slot, type."""

    node: int
    slot: int
    type: str


class Link(NamedTuple):
    """A connection, in the order in which the frontend saves it."""

    id: int
    origin: int
    output: int
    target: int
    input: int
    type: str


class Socket(NamedTuple):
    """An input or output of a block: its name, its type, and the output that comes in or goes out."""

    name: str
    type: str
    out: Out


class Facts:
    """What is true of a whole workflow: numbers, definitions, and the sockets of its blocks."""

    def __init__(self, workflow: Workflow, definitions: dict[str, NodeDefinition]) -> None:
        self.workflow = workflow
        self.nodes = {node.key: node for node in workflow.nodes}
        self.definitions = {node.type: definitions[node.type] for node in workflow.nodes}
        self.home = {node.key: block for block in workflow.blocks for node in block.nodes}
        everything = [inner for item in workflow.items for inner in [item, *(item.nodes if is_block(item) else ())]]
        self.numbers = {item.key: i for i, item in enumerate(everything, start=1)}
        for node in workflow.nodes:
            self._check(node)

    def _check(self, node: Node) -> None:
        known = self.definition(node).inputs
        unknown = set(node.inputs) - {entry.name for entry in known}
        needed = {entry.name for entry in known if not entry.optional and not entry.is_widget} - set(node.inputs)
        if unknown or needed:
            raise ValueError(f"{node.key} ({node.type}): unknown {unknown}, missing {needed}")

    def definition(self, node: Node) -> NodeDefinition:
        """The class of a node."""
        return self.definitions[node.type]

    def slots(self, node: Node) -> list[Input]:
        """A node's inputs in the frontend's order: sockets, then widgets, which a link may replace."""
        return self.definition(node).sockets + self.definition(node).widgets

    def output(self, out: Out) -> Slot:
        """An output where it really is, be it inside a block."""
        definition = self.definition(self.nodes[out.key])
        slot = definition.output(out.output)
        return Slot(self.numbers[out.key], slot, definition.outputs[slot][1])

    def inputs(self, block: Block) -> list[Socket]:
        """What comes into a block, each output once."""
        coming = [out for node in block.nodes for out in node.links.values() if self.home.get(out.key) is not block]
        return self._sockets(block, coming)

    def outputs(self, block: Block) -> list[Socket]:
        """What others take out of a block, each output once."""
        outside = [node for node in self.workflow.nodes if self.home.get(node.key) is not block]
        going = [out for node in outside for out in node.links.values() if self.home.get(out.key) is block]
        return self._sockets(block, going)

    def _sockets(self, block: Block, outs: Sequence[Out]) -> list[Socket]:
        chosen = list(dict.fromkeys(outs))
        order = list(block.names)
        chosen.sort(key=lambda out: order.index(out) if out in order else len(order))
        found = [Socket(block.names.get(out, out.output.lower()), self.output(out).type, out) for out in chosen]
        if len({socket.name for socket in found}) < len(found):
            raise ValueError(f"{block.key}: two sockets share a name among {[socket.name for socket in found]}")
        return found

    def knob(self, knob: Knob) -> Input:
        """The widget inside that a block's widget shows."""
        key, name = knob.targets[0]
        return next(entry for entry in self.definition(self.nodes[key]).inputs if entry.name == name)


class Page:
    """The items of one page, their links and places."""

    def __init__(
        self, facts: Facts, items: Sequence[Item], boxes: dict[str, Box], version: str, core: str, links: int = 0
    ) -> None:
        self.facts, self.items, self.boxes = facts, items, boxes
        self.links_before = links  # those of the pages before it: a number belongs to one link of a file
        self.version, self.core = version, core
        self.links = self._links()
        self.orders = self._orders()

    def origin(self, out: Out) -> Slot:
        """Where an output is met on this page: at its node, or at the block that holds it."""
        block = self.facts.home.get(out.key)
        if block is None:
            return self.facts.output(out)
        sockets = self.facts.outputs(block)
        slot = next(i for i, socket in enumerate(sockets) if socket.out == out)
        return Slot(self.facts.numbers[block.key], slot, sockets[slot].type)

    def entries(self, item: Item) -> list[Out | None]:
        """What each input slot of an item is connected to."""
        if isinstance(item, Note):
            return []
        if isinstance(item, Block):
            return [socket.out for socket in self.facts.inputs(item)] + [None for _ in item.knobs]
        return [item.links.get(entry.name) for entry in self.facts.slots(item)]

    def _links(self) -> list[Link]:
        found: list[Link] = []
        for item in self.items:
            for slot, out in enumerate(self.entries(item)):
                if out is not None:
                    begin = self.origin(out)
                    found.append(Link(self._next(found), *begin[:2], self.facts.numbers[item.key], slot, begin.type))
        return found

    def _next(self, found: list[Link]) -> int:
        return self.links_before + len(found) + 1

    def _orders(self) -> dict[int, int]:
        """The frontend's numbering: first what waits for nothing, then each when its last link is met."""
        numbers = [self.facts.numbers[item.key] for item in self.items]
        waiting = {
            number: sum(link.target == number and link.origin in numbers for link in self.links) for number in numbers
        }
        ready = [number for number in numbers if not waiting[number]]
        for number in ready:  # grows while it is read
            for link in sorted(self.links, key=lambda link: (link.output, link.id)):
                if link.origin == number and link.target in waiting:
                    waiting[link.target] -= 1
                    if waiting[link.target] == 0:
                        ready.append(link.target)
        if len(ready) < len(numbers):
            raise ValueError(f"{self.facts.workflow.name}: a circle among {set(numbers) - set(ready)}")
        return {number: i for i, number in enumerate(ready)}

    def nodes(self) -> list[JSON]:
        """Everything on the page as saved."""
        makers = {Note: self._note, Node: self._node, Block: self._block}
        return [makers[type(item)](item) for item in self.items]

    def _frame(self, key: str, kind: str) -> JSON:
        box, number = self.boxes[key], self.facts.numbers[key]
        frame = {"id": number, "type": kind, "pos": [box.x, box.y], "size": [box.width, box.height]}
        return {**frame, "flags": {}, "order": self.orders[number], "mode": 0}

    def _link_to(self, number: int, slot: int) -> int | None:
        return next((link.id for link in self.links if (link.target, link.input) == (number, slot)), None)

    def _links_from(self, number: int, slot: int) -> list[int] | None:
        return [link.id for link in self.links if (link.origin, link.output) == (number, slot)] or None

    def _input(self, item: Item, slot: int, name: str, kind: str, *, widget: bool, optional: bool = False) -> JSON:
        saved: JSON = {"localized_name": name, "name": name, "type": kind}
        saved |= {"shape": OPTIONAL_SHAPE} if optional else {}
        saved |= {"label": item.labels[name]} if isinstance(item, Node) and name in item.labels else {}
        saved |= {"widget": {"name": name}} if widget else {}
        return {**saved, "link": self._link_to(self.facts.numbers[item.key], slot)}

    def _outputs(self, item: Item, outputs: Sequence[tuple[str, str]]) -> list[JSON]:
        number = self.facts.numbers[item.key]
        return [
            {"localized_name": name, "name": name, "type": kind, "links": self._links_from(number, slot)}
            for slot, (name, kind) in enumerate(outputs)
        ]

    def _node(self, node: Node) -> JSON:
        saved = self._frame(node.key, node.type)
        inputs = [
            self._input(node, slot, entry.name, entry.type, widget=entry.is_widget, optional=entry.optional)
            for slot, entry in enumerate(self.facts.slots(node))
        ]
        if node.type in UPLOADING:  # the button that the frontend adds
            button = {"localized_name": "choose file to upload", "name": "upload", "type": "IMAGEUPLOAD"}
            inputs.append({**button, "widget": {"name": "upload"}, "link": None})
        saved |= {"inputs": inputs, "outputs": self._outputs(node, self.facts.definition(node).outputs)}
        saved |= {"title": node.title} if node.title else {}
        values = self._values(node)
        return saved | {"properties": self._properties(node)} | ({"widgets_values": values} if values else {})

    def _values(self, node: Node) -> list[Any]:
        """The widgets' values by position; a seed takes two, a loader's button one."""
        values: list[Any] = []
        for widget in self.facts.definition(node).widgets:
            value = node.inputs.get(widget.name, widget.default)
            values.append(widget.default if isinstance(value, Out) else value)
            if widget.is_seed:
                values.append("fixed")
        return [*values, "image"] if node.type in UPLOADING else values

    def _properties(self, node: Node) -> JSON:
        """Where the class comes from, and which files it needs."""
        ours = self.facts.definition(node).is_ours
        source = {"cnr_id": "magicstyle", "ver": self.version} if ours else {"cnr_id": "comfy-core", "ver": self.core}
        models = {"models": [dict(model) for model in node.models]} if node.models else {}
        return {**source, "Node name for S&R": node.type, **models}

    def _note(self, note: Note) -> JSON:
        saved = self._frame(note.key, "MarkdownNote") | {"inputs": [], "outputs": [], "properties": {}}
        return saved | {"widgets_values": [note.text], "color": "#432", "bgcolor": "#653"}

    def _block(self, block: Block) -> JSON:
        """The instance of a subgraph; the values of its widgets are those inside."""
        sockets, knobs = self.facts.inputs(block), [(knob.name, self.facts.knob(knob)) for knob in block.knobs]
        inputs = [self._input(block, i, socket.name, socket.type, widget=False) for i, socket in enumerate(sockets)]
        inputs += [
            self._input(block, i, name, entry.type, widget=True) for i, (name, entry) in enumerate(knobs, len(sockets))
        ]
        outputs = self._outputs(block, [(socket.name, socket.type) for socket in self.facts.outputs(block)])
        frame = self._frame(block.key, block_id(self.facts.workflow, block))
        saved = frame | {"inputs": inputs, "outputs": outputs, "title": block.title}
        return saved | {"properties": {"cnr_id": "magicstyle", "ver": self.version}, "widgets_values": []}


class Inside(Page):
    """The inside of a block."""

    def __init__(self, facts: Facts, block: Block, boxes: dict[str, Box], version: str, core: str, links: int) -> None:
        self.block = block
        super().__init__(facts, block.nodes, boxes, version, core, links)

    def origin(self, out: Out) -> Slot:
        """At its node, or at the block's border."""
        if self.facts.home.get(out.key) is self.block:
            return self.facts.output(out)
        sockets = self.facts.inputs(self.block)
        slot = next(i for i, socket in enumerate(sockets) if socket.out == out)
        return Slot(INSIDE_INPUTS, slot, sockets[slot].type)

    def _links(self) -> list[Link]:
        found = super()._links()
        for slot, knob in enumerate(self.block.knobs, len(self.facts.inputs(self.block))):
            for key, name in knob.targets:
                slots = [entry.name for entry in self.facts.slots(self.facts.nodes[key])]
                end = (self.facts.numbers[key], slots.index(name))
                found.append(Link(self._next(found), INSIDE_INPUTS, slot, *end, self.facts.knob(knob).type))
        for slot, socket in enumerate(self.facts.outputs(self.block)):
            begin = self.facts.output(socket.out)
            found.append(Link(self._next(found), *begin[:2], INSIDE_OUTPUTS, slot, begin.type))
        return found

    def definition(self) -> JSON:
        """The subgraph as the frontend saves it."""
        left, top, right = self._border()
        sockets, outputs = self.facts.inputs(self.block), self.facts.outputs(self.block)
        names = [(socket.name, socket.type) for socket in sockets]
        names += [(knob.name, self.facts.knob(knob).type) for knob in self.block.knobs]
        last = {"lastNodeId": max(self.facts.numbers.values()), "lastLinkId": self.links[-1].id}
        return {
            "id": block_id(self.facts.workflow, self.block),
            "version": 1,
            "state": {"lastGroupId": 0, **last, "lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": self.block.title,
            "inputNode": {"id": INSIDE_INPUTS, "bounding": [left - 220, top, 140, 40 + 20 * len(names)]},
            "outputNode": {"id": INSIDE_OUTPUTS, "bounding": [right + 80, top, 140, 40 + 20 * len(outputs)]},
            "inputs": [self._border_slot("in", i, *name, INSIDE_INPUTS) for i, name in enumerate(names)],
            "outputs": [self._border_slot("out", i, *s[:2], INSIDE_OUTPUTS) for i, s in enumerate(outputs)],
            "widgets": [],
            "nodes": self.nodes(),
            "groups": [],
            "links": [self._saved(link) for link in self.links],
            "extra": {},
        }

    def _border(self) -> tuple[int, int, int]:
        boxes = self.boxes.values()
        return min(b.x for b in boxes), min(b.y for b in boxes), max(b.x + b.width for b in boxes)

    def _border_slot(self, side: str, slot: int, name: str, kind: str, end: int) -> JSON:
        links = [
            link.id
            for link in self.links
            if (link.origin, link.output) == (end, slot) or (link.target, link.input) == (end, slot)
        ]
        identity = stable_id(f"{self.facts.workflow.name}/{self.block.key}/{side}/{name}")
        return {"id": identity, "name": name, "type": kind, "linkIds": links, "localized_name": name}

    @staticmethod
    def _saved(link: Link) -> JSON:
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return dict(zip(names, link, strict=True))


def is_block(item: Item) -> bool:
    """Whether an item holds nodes."""
    return isinstance(item, Block)


def block_id(workflow: Workflow, block: Block) -> str:
    """The identity of a block's definition."""
    return stable_id(f"{workflow.name}/{block.key}")


def stable_id(text: str) -> str:
    """An identity that is the same at every build."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"magicstyle/{text}"))

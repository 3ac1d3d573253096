"""A description as the two files that ComfyUI knows: what the frontend saves, and what the server runs."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from .definitions import Input, NodeDefinition
from .describe import Node, Note, Out, Workflow
from .layout import Layout, place

CORE_VERSION = "0.3.64"  # the oldest ComfyUI that the files are tested with
FRONTEND_VERSION = "1.27.10"
OPTIONAL_SHAPE = 7
JSON = dict[str, Any]


class Link(NamedTuple):
    """A connection, in the order in which the frontend saves it."""

    id: int
    origin: int
    output: int
    target: int
    input: int
    type: str


class Exporter:
    """One workflow with its node numbers, places and links resolved."""

    def __init__(self, workflow: Workflow, definitions: dict[str, NodeDefinition], version: str) -> None:
        self.workflow, self.version = workflow, version
        self.definitions = {node.type: definitions[node.type] for node in workflow.nodes}
        self.layout: Layout = place(workflow, self.definitions)
        self.numbers = {item.key: i for i, item in enumerate(workflow.items, start=1)}
        self.types = {node.key: node.type for node in workflow.nodes}
        self.keys = {number: key for key, number in self.numbers.items()}
        self.check_inputs()
        self.links = self.resolve_links()
        self.orders = self.execution_order()

    def check_inputs(self) -> None:
        """A description may only name inputs that exist, and must connect the required ones."""
        for node in self.workflow.nodes:
            known = self.definitions[node.type].inputs
            unknown = set(node.inputs) - {entry.name for entry in known}
            needed = {entry.name for entry in known if not entry.optional and not entry.is_widget}
            if unknown or needed - set(node.inputs):
                raise ValueError(f"{node.key} ({node.type}): unknown {unknown}, missing {needed - set(node.inputs)}")

    def execution_order(self) -> dict[str, int]:
        """The frontend's numbering: first nodes that wait for none, then each when its last link is met."""
        waiting = {node.key: len(node.links) for node in self.workflow.nodes}
        ready = [item.key for item in self.workflow.items if not waiting.get(item.key)]
        for key in ready:  # grows while it is read
            for link in sorted(self.links, key=lambda link: (link.output, link.id)):
                if link.origin == self.numbers[key]:
                    target = self.keys[link.target]
                    waiting[target] -= 1
                    if waiting[target] == 0:
                        ready.append(target)
        if len(ready) < len(self.numbers):
            raise ValueError(f"{self.workflow.name}: a circle among {set(self.numbers) - set(ready)}")
        return {key: i for i, key in enumerate(ready)}

    def slots(self, node: Node) -> list[Input]:
        """A node's inputs in the frontend's order: sockets, then widgets, which a link may replace."""
        definition = self.definitions[node.type]
        return definition.sockets + definition.widgets

    def output(self, out: Out) -> tuple[int, int, str]:
        """Node number, slot and type of an output."""
        definition = self.definitions[self.types[out.key]]
        slot = definition.output(out.output)
        return self.numbers[out.key], slot, definition.outputs[slot][1]

    def resolve_links(self) -> list[Link]:
        """All connections, numbered by the node they lead to."""
        links: list[Link] = []
        for node in self.workflow.nodes:
            for slot, entry in enumerate(self.slots(node)):
                if entry.name in node.links:
                    origin, output, kind = self.output(node.links[entry.name])
                    links.append(Link(len(links) + 1, origin, output, self.numbers[node.key], slot, kind))
        return links

    def ui_input(self, node: Node, slot: int, entry: Input) -> JSON:
        """An input slot as saved."""
        number = self.numbers[node.key]
        link = next((link.id for link in self.links if (link.target, link.input) == (number, slot)), None)
        saved: JSON = {"localized_name": entry.name, "name": entry.name, "type": entry.type}
        if entry.optional:
            saved["shape"] = OPTIONAL_SHAPE
        if entry.is_widget:
            saved["widget"] = {"name": entry.name}
        return {**saved, "link": link}

    def ui_inputs(self, node: Node) -> list[JSON]:
        """All input slots as saved."""
        slots = [self.ui_input(node, slot, entry) for slot, entry in enumerate(self.slots(node))]
        if node.type == "LoadImage":  # the button that the frontend adds
            button = {"localized_name": "choose file to upload", "name": "upload", "type": "IMAGEUPLOAD"}
            slots.append({**button, "widget": {"name": "upload"}, "link": None})
        return slots

    def ui_outputs(self, node: Node) -> list[JSON]:
        """All output slots as saved."""
        number, saved = self.numbers[node.key], []
        for slot, (name, kind) in enumerate(self.definitions[node.type].outputs):
            links = [link.id for link in self.links if (link.origin, link.output) == (number, slot)]
            saved.append({"localized_name": name, "name": name, "type": kind, "links": links or None})
        return saved

    def widget_values(self, node: Node) -> list[Any]:
        """The widgets' values by position; a seed takes two, LoadImage's button one."""
        values: list[Any] = []
        for widget in self.definitions[node.type].widgets:
            value = node.inputs.get(widget.name, widget.default)
            values.append(widget.default if isinstance(value, Out) else value)
            if widget.is_seed:
                values.append("fixed")
        return [*values, "image"] if node.type == "LoadImage" else values

    def properties(self, node: Node) -> JSON:
        """Where the class comes from, and which files it needs."""
        ours = self.definitions[node.type].is_ours
        source = (
            {"cnr_id": "magicstyle", "ver": self.version} if ours else {"cnr_id": "comfy-core", "ver": CORE_VERSION}
        )
        models = {"models": [dict(model) for model in node.models]} if node.models else {}
        return {**source, "Node name for S&R": node.type, **models}

    def ui_frame(self, key: str, kind: str) -> JSON:
        """What every node and note is saved with."""
        box = self.layout.items[key]
        frame = {"id": self.numbers[key], "type": kind, "pos": [box.x, box.y], "size": [box.width, box.height]}
        return {**frame, "flags": {}, "order": self.orders[key], "mode": 0}

    def ui_node(self, node: Node) -> JSON:
        """A node as saved."""
        saved = self.ui_frame(node.key, node.type)
        saved |= {"inputs": self.ui_inputs(node), "outputs": self.ui_outputs(node)}
        if node.title:
            saved["title"] = node.title
        values = self.widget_values(node)
        saved["properties"] = self.properties(node)
        return saved | {"widgets_values": values} if values else saved

    def ui_note(self, note: Note) -> JSON:
        """A note as saved."""
        saved = self.ui_frame(note.key, "MarkdownNote") | {"inputs": [], "outputs": [], "properties": {}}
        return saved | {"widgets_values": [note.text], "color": "#432", "bgcolor": "#653"}

    def ui_groups(self) -> list[JSON]:
        """The frames as saved."""
        frames = [(group, self.layout.groups[group.title]) for group in self.workflow.groups]
        return [
            {"id": i, "title": group.title, "bounding": list(box), "color": group.color, "flags": {}}
            for i, (group, box) in enumerate(frames, start=1)
        ]

    def ui(self) -> JSON:
        """The file that the frontend opens."""
        items = self.workflow.items
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"magicstyle/{self.workflow.name}")),
            "revision": 0,
            "last_node_id": len(self.numbers),
            "last_link_id": len(self.links),
            "nodes": [self.ui_note(item) if isinstance(item, Note) else self.ui_node(item) for item in items],
            "links": [list(link) for link in self.links],
            "groups": self.ui_groups(),
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [40, 80]}, "frontendVersion": FRONTEND_VERSION},
            "version": 0.4,
        }

    def api_value(self, node: Node, entry: Input) -> Any:
        """A literal, or the node and slot that an input is connected to."""
        value = node.inputs.get(entry.name, entry.default if entry.is_widget else None)
        if isinstance(value, Out):
            origin, slot, _ = self.output(value)
            return [str(origin), slot]
        return value

    def api_node(self, node: Node) -> JSON:
        """A node as the server takes it."""
        definition = self.definitions[node.type]
        entries = definition.widgets + definition.sockets
        inputs = {
            entry.name: self.api_value(node, entry) for entry in entries if entry.is_widget or entry.name in node.inputs
        }
        return {"inputs": inputs, "class_type": node.type, "_meta": {"title": node.title or definition.title}}

    def api(self) -> JSON:
        """The file that the server runs."""
        return {str(self.numbers[node.key]): self.api_node(node) for node in self.workflow.nodes}

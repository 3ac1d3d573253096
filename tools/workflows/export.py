"""A description as the two files that ComfyUI knows: what the frontend saves, and what the server runs."""

from __future__ import annotations

from typing import Any

from .definitions import Input, NodeDefinition
from .describe import Block, Node, Out, Workflow
from .layout import inside, place
from .pages import JSON, Facts, Inside, Page, stable_id

CORE_VERSION = "0.3.64"  # the oldest ComfyUI that the files are tested with
NEWER_CORE = "0.33.0"
FRONTEND_VERSION = "1.27.10"
# beside the side bar and below the menu, which lie over the canvas
VIEW: JSON = {"ds": {"scale": 0.6, "offset": [130, 130]}, "frontendVersion": FRONTEND_VERSION}
CATEGORY = "MagicStyle"  # of the pack's nodes
NAME = "magicstyle"  # under which a file says what tools and tests call its workflow


class Exporter:
    """One workflow with its node numbers, places and links resolved."""

    def __init__(
        self, workflow: Workflow, definitions: dict[str, NodeDefinition], version: str, core: str = CORE_VERSION
    ) -> None:
        self.workflow, self.version, self.core = workflow, version, core
        self.facts = Facts(workflow, definitions)
        self.layout = place(workflow, self.facts)

    def ui(self) -> JSON:
        """The file that the frontend opens."""
        page = Page(self.facts, self.workflow.items, self.layout.items, self.version, self.core)
        insides = self._insides(len(page.links))
        saved: JSON = {
            "id": stable_id(self.workflow.name),
            "revision": 0,
            "last_node_id": max(self.facts.numbers.values()),
            "last_link_id": (insides or [page])[-1].links[-1].id,
            "nodes": page.nodes(),
            "links": [list(link) for link in page.links],
            "groups": self._groups(),
            "config": {},
            "extra": {**VIEW, NAME: self.workflow.name, **self._app()},
            "version": 0.4,
        }
        subgraphs = [page.definition() for page in insides]
        return saved | ({"definitions": {"subgraphs": subgraphs}} if subgraphs else {})

    def _insides(self, links: int) -> list[Inside]:
        """The insides of the blocks, their links numbered on from those of the page."""
        pages: list[Inside] = []
        for block in self.workflow.blocks:
            pages.append(Inside(self.facts, block, inside(block, self.facts), self.version, self.core, links))
            links += len(pages[-1].links)
        return pages

    def blueprint(self, block: Block, description: str, aliases: tuple[str, ...]) -> JSON:
        """A block alone, as the file from which a host offers it among the nodes."""
        saved = self.ui()
        (node,) = (node for node in saved["nodes"] if node["id"] == self.facts.numbers[block.key])
        (inner,) = (inner for inner in saved["definitions"]["subgraphs"] if inner["id"] == node["type"])
        inputs = [{**entry, "link": None} for entry in node["inputs"]]
        outputs = [{**entry, "links": []} for entry in node["outputs"]]
        return {
            "id": stable_id(f"blueprint/{block.key}"),
            "revision": 0,
            "last_node_id": node["id"],
            "last_link_id": 0,
            "nodes": [{**node, "pos": [0, 0], "order": 0, "inputs": inputs, "outputs": outputs}],
            "links": [],
            "groups": [],
            "definitions": {"subgraphs": [{**inner, "category": CATEGORY, "description": description}]},
            "config": {},
            "extra": {"BlueprintDescription": description, "BlueprintSearchAliases": list(aliases)},
            "version": 0.4,
        }

    def _app(self) -> JSON:
        """What opens the workflow in App mode."""
        app, numbers = self.workflow.app, self.facts.numbers
        if app is None:
            return {}
        inputs = [[numbers[key], widget] for key, widget in app.inputs]
        return {"linearMode": True, "linearData": {"inputs": inputs, "outputs": [numbers[key] for key in app.outputs]}}

    def _groups(self) -> list[JSON]:
        frames = [(group, self.layout.groups[group.title]) for group in self.workflow.groups]
        return [
            {"id": i, "title": group.title, "bounding": list(box), "color": group.color, "flags": {}}
            for i, (group, box) in enumerate(frames, start=1)
        ]

    def api(self) -> JSON:
        """The file that the server runs, in which blocks are opened."""
        return {self._address(node): self._api_node(node) for node in self.workflow.nodes}

    def _address(self, node: Node) -> str:
        block, number = self.facts.home.get(node.key), str(self.facts.numbers[node.key])
        return number if block is None else f"{self.facts.numbers[block.key]}:{number}"

    def _api_node(self, node: Node) -> JSON:
        definition = self.facts.definition(node)
        entries = definition.widgets + definition.sockets
        inputs = {
            entry.name: self._api_value(node, entry)
            for entry in entries
            if entry.is_widget or entry.name in node.inputs
        }
        return {"inputs": inputs, "class_type": node.type, "_meta": {"title": node.title or definition.title}}

    def _api_value(self, node: Node, entry: Input) -> Any:
        """A literal, or the node and slot that an input is connected to."""
        value = node.inputs.get(entry.name, entry.default if entry.is_widget else None)
        if isinstance(value, Out):
            return [self._address(self.facts.nodes[value.key]), self.facts.output(value).slot]
        return value

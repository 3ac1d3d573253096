"""A saved workflow as the graph that the frontend would queue, worked out from the file alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NOTES = {"Note", "MarkdownNote"}
SEEDS = {"seed", "noise_seed"}  # followed by the value of control_after_generate
BUTTONS = {"upload"}  # drawn by the frontend, unknown to the server
INPUTS = -10  # where links inside a subgraph come from that begin outside
Saved = dict[str, Any]


class Page:
    """The nodes and links of a workflow, or of the subgraph that one of its nodes is."""

    def __init__(
        self, saved: Saved, links: dict[int, tuple[int, int]], outer: Page | None = None, instance: Any = None
    ) -> None:
        self.nodes = {node["id"]: node for node in saved["nodes"] if node["type"] not in NOTES}
        self.links, self.outer, self.instance, self.outputs = links, outer, instance, saved.get("outputs", [])

    @classmethod
    def of_workflow(cls, saved: Saved) -> Page:
        """The workflow itself."""
        return cls(saved, {link[0]: (link[1], link[2]) for link in saved["links"]})

    @classmethod
    def of_subgraph(cls, saved: Saved, outer: Page, instance: Saved) -> Page:
        """The inside of a node."""
        links = {link["id"]: (link["origin_id"], link["origin_slot"]) for link in saved["links"]}
        return cls(saved, links, outer, instance)

    def address(self, number: int) -> str:
        """A node's id in the queued graph."""
        return str(number) if self.outer is None else f"{self.outer.address(self.instance['id'])}:{number}"


def subgraphs(workflow: Saved) -> dict[str, Saved]:
    """The definitions by the type of their nodes."""
    return {saved["id"]: saved for saved in workflow.get("definitions", {}).get("subgraphs", ())}


def pages(workflow: Saved) -> Iterator[Page]:
    """The workflow, and the inside of each of its blocks."""
    top, inner = Page.of_workflow(workflow), subgraphs(workflow)
    yield top
    for node in top.nodes.values():
        if node["type"] in inner:
            yield Page.of_subgraph(inner[node["type"]], top, node)


def widget_values(node: Saved) -> dict[str, Any]:
    """Values by input name; the file has them by position."""
    values, named = list(node.get("widgets_values", ())), {}
    for entry in node["inputs"]:
        if "widget" in entry:
            named[entry["name"]] = values.pop(0)
            if entry["name"] in SEEDS:
                values.pop(0)
    assert not values, f"{node['type']}: values left over: {values}"
    return {name: value for name, value in named.items() if name not in BUTTONS}


def origin(page: Page, link: int, inner: dict[str, Saved]) -> list[Any] | None:
    """The node and slot from which a link really comes; None where it is the widget of a block."""
    number, slot = page.links[link]
    if number == INPUTS:
        outside = page.instance["inputs"][slot]["link"]
        return None if outside is None else origin(page.outer, outside, inner)
    node = page.nodes[number]
    if node["type"] in inner:
        inside = Page.of_subgraph(inner[node["type"]], page, node)
        return origin(inside, inside.outputs[slot]["linkIds"][0], inner)
    return [page.address(number), slot]


def api_inputs(page: Page, node: Saved, inner: dict[str, Saved]) -> dict[str, Any]:
    """Literals, and node and slot where a link comes in."""
    linked = {
        entry["name"]: origin(page, entry["link"], inner) for entry in node["inputs"] if entry["link"] is not None
    }
    return widget_values(node) | {name: begin for name, begin in linked.items() if begin is not None}


def ui_to_api(workflow: Saved) -> dict[str, Saved]:
    """The graph by node id, blocks opened."""
    inner = subgraphs(workflow)
    return {
        page.address(number): {"class_type": node["type"], "inputs": api_inputs(page, node, inner)}
        for page in pages(workflow)
        for number, node in page.nodes.items()
        if node["type"] not in inner
    }

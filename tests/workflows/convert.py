"""A saved workflow as the graph that the frontend would queue, worked out from the file alone."""

from __future__ import annotations

from typing import Any

NOTES = {"Note", "MarkdownNote"}
SEEDS = {"seed", "noise_seed"}  # followed by the value of control_after_generate
BUTTONS = {"upload"}  # drawn by the frontend, unknown to the server


def widget_values(node: dict[str, Any]) -> dict[str, Any]:
    """Values by input name; the file has them by position."""
    values, named = list(node.get("widgets_values", ())), {}
    for entry in node["inputs"]:
        if "widget" in entry:
            named[entry["name"]] = values.pop(0)
            if entry["name"] in SEEDS:
                values.pop(0)
    assert not values, f"{node['type']}: values left over: {values}"
    return {name: value for name, value in named.items() if name not in BUTTONS}


def api_inputs(node: dict[str, Any], links: dict[int, list[Any]]) -> dict[str, Any]:
    """Literals, and node and slot where a link comes in."""
    linked = {entry["name"]: links[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
    return widget_values(node) | {name: [str(link[1]), link[2]] for name, link in linked.items()}


def ui_to_api(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The graph by node id."""
    links = {link[0]: link for link in workflow["links"]}
    nodes = [node for node in workflow["nodes"] if node["type"] not in NOTES]
    return {str(node["id"]): {"class_type": node["type"], "inputs": api_inputs(node, links)} for node in nodes}

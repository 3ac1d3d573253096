"""Inputs that had other names before 0.1.0: what was saved with them still runs.

Graphs in API format are put right here, when they are queued; graphs that the page opens, in web/magicstyle.js, which
has the same table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

LOGGER = logging.getLogger("magicstyle")
_INVERSION = {"place": "storage_device", "keep": "roles", "every": "level_stride"}
RENAMED = {
    "MagicStyleInvertContent": _INVERSION,
    "MagicStyleInvertStyle": _INVERSION,
    "MagicStyleSaveFeatureBank": {"keep": "contents"},
}


def accept_old_names(server: Any) -> None:
    """Let a server read old names in what is queued, after the handlers that other nodes have given it; once."""
    if server is not None and with_new_names not in server.on_prompt_handlers:
        server.add_on_prompt_handler(with_new_names)


def with_new_names(queued: dict[str, Any]) -> dict[str, Any]:
    """What was posted to be queued, old names of our inputs replaced; anything else comes back as it is."""
    prompt = queued.get("prompt")
    if not isinstance(prompt, dict):
        return queued
    found = {key: _renamed(node) for key, node in prompt.items()}
    changed = {key: node for key, node in found.items() if node is not None}
    if not changed:
        return queued
    LOGGER.info("Inputs by their old names: %s.", ", ".join(_listed(prompt[key] for key in changed)))
    return {**queued, "prompt": {**prompt, **changed}}


def _renamed(node: Any) -> dict[str, Any] | None:
    """A node with new names, or None where it has no old ones; where both are given, the new one holds."""
    if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
        return None
    names, inputs = RENAMED.get(str(node.get("class_type")), {}), node["inputs"]
    if names.keys().isdisjoint(inputs):
        return None
    given = {name: value for name, value in inputs.items() if names.get(name) not in inputs}
    return {**node, "inputs": {names.get(name, name): value for name, value in given.items()}}


def _listed(nodes: Iterable[dict[str, Any]]) -> list[str]:
    """What is renamed in some nodes, each once."""
    names = ((old, new) for node in nodes for old, new in RENAMED[node["class_type"]].items() if old in node["inputs"])
    return sorted({f"{old} -> {new}" for old, new in names})

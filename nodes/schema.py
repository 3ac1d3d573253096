"""What only newer hosts know of a node; an unknown argument would keep the whole pack from loading."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..attention_patches.checks import AUTO, check_layer_text
from ..core.errors import MagicStyleError

KNOWN = {field.name for field in dataclasses.fields(io.Schema)}
LOCALES = Path(__file__).resolve().parents[1] / "locales"
# broad words lead to the nodes with which one begins, and not to all at once
BEGINNING = "where it begins"
BEGINNERS = {"MagicStyleDemoModel", "MagicStyleInvertContent", "MagicStyleInvertStyle", "MagicStylePatchFFA"}


def where_known(**arguments: Any) -> dict[str, Any]:
    """Those of the arguments that this host's io.Schema has."""
    return {name: value for name, value in arguments.items() if name in KNOWN}


def search_aliases(node_id: str) -> dict[str, Any]:
    """Other words, of every language, under which the node search finds a node, since ComfyUI 0.11."""
    return where_known(search_aliases=list(search_words(node_id)))


def search_words(node_id: str) -> tuple[str, ...]:
    """A node's own words and the broad ones; the host translates names for its search, but not these."""
    keys = (node_id, *((BEGINNING,) if node_id in BEGINNERS else ()))
    words = [word for key in keys for listed in _search_files() for word in listed[key]]
    return tuple(dict.fromkeys(words))


@cache
def _search_files() -> tuple[dict[str, list[str]], ...]:
    files = sorted(LOCALES.glob("*/search.json"))
    return tuple(json.loads(file.read_text(encoding="utf-8")) for file in files)


def folded(inputs: list[Any], *names: str) -> list[Any]:
    """Inputs, those that are named behind *Show advanced inputs*, since ComfyUI 0.10."""
    for entry in inputs:
        if entry.id in names and hasattr(entry, "advanced"):
            entry.advanced = True
    return inputs


def check_layers(**texts: str | None) -> bool | str:
    """What validate_inputs answers to layer texts."""
    try:
        for name, text in texts.items():
            check_layer_text(name, AUTO if text is None else text)  # None: comes over a link
    except MagicStyleError as error:
        return str(error)
    return True


def check_choices(**choices: tuple[str | None, Collection[str]]) -> bool | str:
    """What validate_inputs answers; without it, hosts before 0.4 run a V3 node with any text as its choice."""
    for name, (value, options) in choices.items():
        if value is not None and value not in options:  # None: comes over a link
            return f"{name}: '{value}' not in {', '.join(options)}"
    return True

"""Arguments of io.Schema that only newer hosts know; an unknown one would keep the whole pack from loading."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from comfy_api.latest import io

KNOWN = {field.name for field in dataclasses.fields(io.Schema)}


def where_known(**arguments: Any) -> dict[str, Any]:
    """Those of the arguments that this host's io.Schema has."""
    return {name: value for name, value in arguments.items() if name in KNOWN}


def search_aliases(*names: str) -> dict[str, Any]:
    """Other words under which the node search finds a node, since ComfyUI 0.11."""
    return where_known(search_aliases=list(names))


def check_choices(**choices: tuple[str | None, Collection[str]]) -> bool | str:
    """What validate_inputs answers; without it, hosts before 0.4 run a V3 node with any text as its choice."""
    for name, (value, options) in choices.items():
        if value is not None and value not in options:  # None: comes over a link
            return f"{name}: '{value}' not in {', '.join(options)}"
    return True

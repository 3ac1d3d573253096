"""Arguments of io.Schema that only newer hosts know; an unknown one would keep the whole pack from loading."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

KNOWN = {field.name for field in dataclasses.fields(io.Schema)}


def where_known(**arguments: Any) -> dict[str, Any]:
    """Those of the arguments that this host's io.Schema has."""
    return {name: value for name, value in arguments.items() if name in KNOWN}


def search_aliases(*names: str) -> dict[str, Any]:
    """Other words under which the node search finds a node, since ComfyUI 0.11."""
    return where_known(search_aliases=list(names))

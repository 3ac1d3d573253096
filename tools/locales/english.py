"""Write locales/en/nodeDefs.json from the schemas of a running ComfyUI, so that English is written once.

python -m tools.locales.english http://127.0.0.1:8188

Chinese and Japanese are written by hand; a test says which texts are missing or left over.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

ENGLISH = Path(__file__).resolve().parents[2] / "locales" / "en" / "nodeDefs.json"
PREFIX = "MagicStyle"
Texts = dict[str, Any]


def node_texts(info: dict[str, Any]) -> Texts:
    """One entry of /object_info as an entry of nodeDefs.json."""
    kinds = (info["input"].get(kind, {}) for kind in ("required", "optional"))
    inputs = {
        name: {"name": name, "tooltip": spec[1].get("tooltip", "")} for kind in kinds for name, spec in kind.items()
    }
    outputs = {
        str(slot): {"name": name, "tooltip": tooltip}
        for slot, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    texts = {"display_name": info["display_name"], "description": info["description"]}
    return texts | ({"inputs": inputs} if inputs else {}) | {"outputs": outputs}


def english_texts(object_info: dict[str, Any]) -> dict[str, Texts]:
    """Every node of the pack."""
    return {name: node_texts(info) for name, info in sorted(object_info.items()) if name.startswith(PREFIX)}


def main(address: str) -> None:
    """Read the server, write the file."""
    with urllib.request.urlopen(f"{address.rstrip('/')}/object_info") as answer:
        texts = english_texts(json.load(answer))
    ENGLISH.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])

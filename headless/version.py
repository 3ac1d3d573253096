"""Which version this is."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def version() -> str:
    """The checkout's version, or that of the installed package."""
    if PROJECT.is_file():
        found = re.search(r'^version = "(.+)"$', PROJECT.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None:
            return found[1]
    return metadata.version("magicstyle")

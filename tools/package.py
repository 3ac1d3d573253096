"""The checkout as the package `magicstyle`: where it is not installed, and whatever its folder is called."""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def as_package() -> None:
    """Let the checkout answer to the name, unless something does; its __init__.py, which needs ComfyUI, is not run."""
    if "magicstyle" not in sys.modules:
        pack = types.ModuleType("magicstyle")
        pack.__path__ = [str(ROOT)]
        sys.modules["magicstyle"] = pack

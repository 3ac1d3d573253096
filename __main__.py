"""`python -m magicstyle`, or `python path/to/this/folder` where the pack is not installed: the `magicstyle` command."""

from __future__ import annotations

import sys
import types
from pathlib import Path


def command_line() -> int:
    """Run the command, with this folder as package `magicstyle` whatever its name."""
    folder = Path(__file__).resolve().parent
    if not __package__:
        sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != folder]  # nodes/ is not for all
        package = types.ModuleType("magicstyle")
        package.__path__ = [str(folder)]
        sys.modules["magicstyle"] = package
    from magicstyle.headless.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(command_line())

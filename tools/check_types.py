"""Check the types of the runtime packages: python -m tools.check_types [what else mypy takes].

The checkout is the package `magicstyle` whatever its folder is called, so mypy reads it through a link of that name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "attention_patches", "nodes", "headless")


def main(arguments: list[str]) -> int:
    """Run mypy -> its exit code."""
    chosen = [part for name in PACKAGES for part in ("-p", f"magicstyle.{name}")]
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "magicstyle").symlink_to(ROOT, target_is_directory=True)
        command = [sys.executable, "-m", "mypy", *config, *chosen, *arguments]
        return subprocess.call(command, cwd=folder, env={**os.environ, "MYPYPATH": folder})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

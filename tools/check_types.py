"""Check the types of the runtime packages: python -m tools.check_types [what else mypy takes].

The checkout is the package `magicstyle` whatever its folder is called, so mypy reads a copy under that name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "banks", "attention_patches", "model_files", "picture_files", "nodes", "headless")


def main(arguments: list[str]) -> int:
    """Run mypy -> its exit code."""
    chosen = [part for name in PACKAGES for part in ("-p", f"magicstyle.{name}")]
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "magicstyle"
        for name in PACKAGES:
            shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "__init__.py", package)
        command = [sys.executable, "-m", "mypy", *config, *chosen, *arguments]
        return subprocess.call(command, cwd=folder, env={**os.environ, "MYPYPATH": folder})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Where the ComfyUI checkout is that host tests run against."""

from __future__ import annotations

import os
from pathlib import Path

PACK = Path(__file__).resolve().parents[2]
ADVICE = "no ComfyUI found: set COMFYUI_PATH to a checkout (also looked in ~/comfy/ComfyUI and ~/ComfyUI)"


def is_host(path: Path) -> bool:
    """Whether a folder is a ComfyUI checkout."""
    return (path / "main.py").is_file() and (path / "comfy" / "model_patcher.py").is_file()


def find_host() -> Path | None:
    """The checkout in COMFYUI_PATH, else the one around custom_nodes, else one in the home folder, else none."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        if not is_host(path):
            raise FileNotFoundError(f"COMFYUI_PATH is {named}, which is not a ComfyUI checkout. Correct or unset it.")
        return path
    # not resolved: a symlink in custom_nodes belongs to the host around it
    around = Path(os.path.abspath(__file__)).parents[3]
    homes = [Path.home() / "comfy" / "ComfyUI", Path.home() / "ComfyUI"]
    candidates = ([around.parent] if around.name == "custom_nodes" else []) + homes
    return next((path for path in candidates if is_host(path)), None)

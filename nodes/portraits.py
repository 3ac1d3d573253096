"""Load Portraits (Folder): every picture of a folder as people have them, for workflows that paint all of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..core.errors import MagicStyleError, one_line
from ..picture_files.kinds import USUAL, is_picture, unread
from ..picture_files.reading import opened, upright_rgb
from .notices import show_on_node
from .schema import search_aliases
from .sockets import CATEGORY

NO_FOLDER = "no folder in input yet"  # an empty list of choices shows as "undefined"
LARGEST = 2048  # pixels: 38 MB for a photograph, which would take 146 MB at a phone's 12 million pixels
SHOWN = 5
logger = logging.getLogger("magicstyle")


def input_folders() -> list[str]:
    """The folders inside the host's input folder, or one line in their place."""
    return sorted(folder_paths.get_input_subfolders()) or [NO_FOLDER]


def folder_of(name: Any) -> Path | None:
    """A folder inside the host's input folder; None where there is none of this name."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    root = Path(folder_paths.get_input_directory()).resolve()
    try:
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_dir() else None
    except OSError:  # a name that no file system takes
        return None


def listed(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures of a folder by name, and what else lies there."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    pictures = [entry for entry in entries if entry.is_file() and is_picture(entry.name)]
    others = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries if entry not in {*pictures}]
    return pictures, others


def read(path: Path, largest_side: int) -> Tensor:
    """A picture file as an image 1 h w 3 in 0..1: upright, in sRGB, transparent parts white, made smaller if larger."""
    with opened(path) as file:
        picture = upright_rgb(file)
    if 0 < largest_side < max(picture.size):
        picture.thumbnail((largest_side, largest_side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture, dtype=np.float32) / 255.0)[None]


class LoadPortraits(io.ComfyNode):
    """Reads a folder of portraits; the nodes behind it run once for each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleLoadPortraits",
            display_name="Load Portraits (Folder)",
            category=CATEGORY,
            **search_aliases("MagicStyleLoadPortraits"),
            description="Loads every picture of a folder inside ComfyUI's input folder, by name: turned as the camera "
            "says, in the colours of its profile, transparent parts white. The nodes behind it run once for each.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=input_folders(),
                    tooltip="A folder inside ComfyUI's input folder; folders inside it are not searched. Press R after "
                    "you made one.",
                ),
                io.Int.Input(
                    "largest_side",
                    default=LARGEST,
                    min=0,
                    max=16384,
                    step=64,
                    tooltip="Pictures whose longer side has more pixels are made smaller to this, so that many "
                    "photographs fit into memory. 0 leaves them as they are.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="portraits",
                    is_output_list=True,
                    tooltip="The pictures one by one, each in its own size.",
                ),
                io.String.Output(display_name="summary", tooltip="Which pictures were loaded, and what was left out."),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder: Any = None) -> bool | str:
        """Name a folder that is not there before anything runs."""
        return True if folder is None or folder_of(folder) is not None else f"folder: {_missing(folder)}"

    @classmethod
    def fingerprint_inputs(cls, folder: Any = None, **_: Any) -> str:
        """Load again when a picture is added, removed or changed."""
        path = folder_of(folder)
        if path is None:
            return str(folder)
        facts = [(entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in listed(path)[0]]
        return f"{path} {facts}"

    @classmethod
    def execute(cls, folder: str, largest_side: int) -> io.NodeOutput:
        """Read all; one that is damaged is named, and the others go on."""
        path = folder_of(folder)
        if path is None:
            raise MagicStyleError(f"folder {_missing(folder)}")
        pictures, others = listed(path)
        found: dict[str, Tensor] = {}
        left = [unread(name) if not name.endswith("/") else f"{name} is a folder" for name in others]
        for picture in pictures:
            try:
                found[picture.name] = read(picture, largest_side)
            except MagicStyleError as error:
                left.append(str(error).replace(str(picture), picture.name).rstrip("."))
        if not found:
            why = f"; {left[0]}" if left else ""
            raise MagicStyleError(f"folder '{folder}' holds no picture that can be read ({USUAL}){why}.")
        summary = f"{len(found)} loaded: {_shown(list(found))}"
        if left:
            logger.warning("Load Portraits (Folder): %d of '%s' left out: %s.", len(left), folder, _shown(left))
            summary += f"\n{len(left)} left out: {_shown(left)}"
        show_on_node(summary)
        return io.NodeOutput(list(found.values()), summary)


def _shown(names: list[str]) -> str:
    more = len(names) - SHOWN
    return "; ".join(names[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _missing(folder: Any) -> str:
    if folder == NO_FOLDER:
        return f"{NO_FOLDER}: make one in ComfyUI's input folder, put portraits into it, press R and choose it."
    return (
        f"{one_line(repr(folder))} is no folder inside ComfyUI's input folder: make it and put portraits into it, or "
        "press R and choose another."
    )

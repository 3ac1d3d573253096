"""What is to be made of a video: known before a model is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from ...core.errors import MagicStyleError
from ..digest import LETTERS, digest
from ..engine.recipe import Recipe
from ..pictures.reading import picture_size
from ..pictures.sizes import Frame, LongerSide, Size, check_shape
from ..pictures.video import VideoFacts, look, read_comment
from .plan import short_name

FRAMES = ".frames"
CHUNK = 1 << 20


class FilmOrder(NamedTuple):
    """A video, a style, and all that is settled before a model is loaded."""

    source: Path
    style: Path
    facts: VideoFacts
    size: Size  # at which frames are worked on, and written
    style_size: Size
    result: Path
    record: str  # how it is made: the same text means the same video

    @property
    def folder(self) -> Path:
        """Where finished frames lie as long as the video is not whole."""
        return self.result.with_name(self.result.name + FRAMES)

    def frame(self, number: int) -> Path:
        """The file of a frame, from 1."""
        return self.folder / f"{number:06d}.png"

    @property
    def finished(self) -> bool:
        """Whether this very video lies there."""
        return self.result.is_file() and read_comment(self.result) == self.record


def order_film(
    source: Path, style: Path, out: Path, recipe: Recipe, frame: Frame | LongerSide, checkpoint: str
) -> FilmOrder:
    """Look at both files; `out` is a folder, or the name of an .mp4."""
    facts, shape = look(source), picture_size(style)
    for path, size in ((source, facts.size), (style, shape)):
        check_shape(str(path), size)
    sizes = frame.around(facts.size), frame.around(shape)
    result = out if out.suffix.lower() == ".mp4" else out / f"{source.stem}--{short_name(style)}.mp4"
    made_of = {
        "video": _digest(source),
        "style": digest(style.read_bytes()),
        "checkpoint": checkpoint,
        "size": list(sizes[0]),
        "style_size": list(sizes[1]),
        **recipe.facts,
    }
    return FilmOrder(source, style, facts, *sizes, result, json.dumps({"magicstyle": made_of}, sort_keys=True))


def check_name(order: FilmOrder, *, overwrite: bool) -> None:
    """Refuse to replace an input, a video of other origin, or without `overwrite` one with other settings."""
    if not order.result.exists() or order.finished:
        return
    same = any(order.result.samefile(path) for path in (order.source, order.style))
    ours = not same and '{"magicstyle":' in (read_comment(order.result) or "")
    if not (overwrite and ours):
        what = "this video with other settings (--overwrite replaces it)" if ours else "a file of other origin"
        raise MagicStyleError(f"{order.result} is {what}: choose another name or folder with -o.")


def _digest(path: Path) -> str:
    """The digest of a file that may be large."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            found.update(chunk)
    return found.hexdigest()[:LETTERS]

"""The options of runs over stores: what makes a run one, and what it is to make."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

from ...core.errors import MagicStyleError
from ..choices import model_and_recipe
from ..engine.blocks import BlockShape, parse_shape
from ..option_table import INVERT
from ..uris import is_uri
from .spec import RunSpec
from .units import Shard

LIBRARY = (
    "--ray, --shard and addresses such as s3:// paint from a library of inverted styles: make one with "
    "magicstyle invert-styles STYLES --library PLACE, and name it with --library."
)


def read_spec(given: argparse.Namespace, pictures: str | None, out: str | None) -> RunSpec:
    """The options checked, as what every worker must know."""
    if given.library is None or out is None:
        raise MagicStyleError(LIBRARY)
    if pictures is None:
        raise MagicStyleError("there are no pictures: name a folder of them, or an address such as s3://bucket/photos.")
    _check(given, pictures, out)
    model, recipe, frame = model_and_recipe(given)
    found = RunSpec(
        portraits=_absolute(pictures),
        library=_absolute(given.library),
        out=_absolute(out),
        recipe=recipe,
        frame=frame,
        identity=model.identity,
        checkpoint=None if model.path is None else str(model.path.absolute()),
        device=given.device,
        overwrite=given.overwrite,
    )
    if given.command == INVERT:
        return found
    return replace(found, block=BlockShape() if given.block is None else parse_shape(given.block), batch=given.batch)


def shard_of(text: str | None) -> Shard:
    """'2/8' -> the second of eight parts."""
    if text is None:
        return Shard()
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise MagicStyleError(f"--shard is '{text[:40]}': write its number and how many there are, such as 1/8 to 8/8.")
    return Shard(int(found[1]), int(found[2]))


def _check(given: argparse.Namespace, pictures: str, out: str) -> None:
    for name in ("sheet", "keep"):
        if getattr(given, name, None):
            raise MagicStyleError(f"--{name} is for runs without --library: leave it out.")
    if out.lower().endswith(".png"):
        raise MagicStyleError(f"-o {out} is one picture, but a library makes many: give a folder or an address.")
    if not is_uri(pictures) and not Path(pictures).is_dir():
        raise MagicStyleError(f"{pictures} is no folder: name the folder, or the address, that the pictures are in.")


def _absolute(place: str) -> str:
    """A place that means the same for every process."""
    return place if is_uri(place) else str(Path(place).absolute())

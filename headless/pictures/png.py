"""Results as PNG files that say how they were made, and whether a file is one of them and all there."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...banks.atomic import write_whole

RECORD = "magicstyle"  # the PNG text under which a result says how it was made
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class InspectedFile(NamedTuple):
    """What a file turned out to be."""

    record: str | None  # how it was made; None where it is no result of this program
    whole: bool  # every byte of the picture is there
    blank: bool  # there is no picture in it at all, not even a part of one


def write_png(path: Path, image: Image.Image, record: str) -> None:
    """Write all of a PNG or nothing; `record` says how it was made."""
    write_whole(path, lambda file: _save(file, image, record))


def png_bytes(image: Image.Image, record: str) -> bytes:
    """The bytes of what `write_png` writes."""
    file = io.BytesIO()
    _save(file, image, record)
    return file.getvalue()


def _save(file: BinaryIO, image: Image.Image, record: str) -> None:
    texts = PngInfo()
    texts.add_text(RECORD, record)
    image.save(file, format="PNG", pnginfo=texts)


def inspect(path: Path) -> InspectedFile:
    """Read as much of a file as it takes to know what it is: of a picture of other origin, only its beginning."""
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
        if start != SIGNATURE:
            return InspectedFile(None, whole=False, blank=SIGNATURE.startswith(start))
        return _inspect_chunks(file)


def read_record(path: Path) -> str | None:
    """What `write_png` noted in a file; None where the file is not one of ours."""
    try:
        return inspect(path).record
    except OSError:
        return None


def _inspect_chunks(file: BinaryIO) -> InspectedFile:
    record, blank = None, True
    for kind, data, sound in _chunks(file):
        blank = blank and not (kind == b"IDAT" and data)
        if not sound or (record is None and not blank):
            break
        if kind == b"IEND":
            return InspectedFile(record, whole=not blank, blank=blank)
        if kind == b"tEXt" and data.startswith(RECORD.encode() + b"\0"):
            record = data.partition(b"\0")[2].decode("latin-1")
    return InspectedFile(record, whole=False, blank=blank)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes, bool]]:
    """The chunks of a PNG, and whether each is as it was written; the last may be cut off."""
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        data = file.read(length)
        yield kind, data, file.read(4) == struct.pack(">I", zlib.crc32(kind + data))

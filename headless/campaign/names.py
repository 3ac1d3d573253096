"""Names in a store follow from relative paths and settings alone, so that nothing that is added renames a thing."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ..digest import digest

LONGEST = 240  # bytes of a part of a name, so that it fits any file system with what is added
DIGEST = 12  # letters
BANK = ".safetensors"
# what Windows takes in no name; a name has the same form on every machine, whichever paints it
FORBIDDEN = re.compile(r'[<>:"\\|?*\x00-\x1f]')
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


class StyleName(NamedTuple):
    """An inverted style of a library: the style picture's own name, and the digest of its bytes."""

    name: str
    digest: str

    @property
    def file(self) -> str:
        """The bank file's name below the library's folder."""
        return f"{fitting(self.name)}.{self.digest}{BANK}"

    @classmethod
    def of(cls, file: str) -> StyleName | None:
        """The style of a bank file; None where the file is another's."""
        name, dot, digest = file.removesuffix(BANK).rpartition(".")
        fits = file.endswith(BANK) and dot and len(digest) == DIGEST and set(digest) <= set("0123456789abcdef")
        return cls(name, digest) if fits else None


def output_name(key: str, portrait: str, style: str) -> str:
    """Where the picture of a portrait and a style belongs: KEY/PORTRAIT/STYLE.png."""
    return f"{key}/{fitting(portrait)}/{fitting(style)}.png"


def fitting(name: str) -> str:
    """A name whose parts any file system takes: a part that one does not take is cut or replaced, and gets a digest."""
    return "/".join(part if _fits(part) else _cut(part) for part in name.split("/"))


def _fits(part: str) -> bool:
    taken = len(_bytes(part)) <= LONGEST and not part.endswith((".", " "))
    return taken and FORBIDDEN.search(part) is None and RESERVED.fullmatch(part) is None


def digest_of(facts: Any) -> str:
    """A short name for plain values."""
    return digest(json.dumps(facts, sort_keys=True).encode(), DIGEST)


def _cut(part: str) -> str:
    kept = _bytes(FORBIDDEN.sub("_", part).rstrip(". "))[: LONGEST - DIGEST - 1].decode("utf-8", "ignore")
    kept = f"_{kept}" if RESERVED.fullmatch(kept) else kept  # con.txt-1f0c is reserved, too
    return f"{kept}-{digest(_bytes(part), DIGEST)}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

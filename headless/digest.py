"""Short names for bytes: pictures are told apart and results are named by them, whatever a file is called."""

from __future__ import annotations

import hashlib

LETTERS = 16


def digest(data: bytes, letters: int = LETTERS) -> str:
    """The first letters of the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()[:letters]

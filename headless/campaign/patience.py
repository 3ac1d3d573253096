"""Reads that fail for a moment, as those of a network do, are tried again before they count as failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PAUSES = (0.5, 2.0, 5.0)  # seconds
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
T = TypeVar("T")


def patiently(read: Callable[[], T]) -> T:
    """What `read` gives, tried again after each pause; OSError as of the last try, or one that no wait changes."""
    for pause in PAUSES:
        try:
            return read()
        except FINAL:
            raise
        except OSError:
            time.sleep(pause)
    return read()

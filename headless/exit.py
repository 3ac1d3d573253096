"""The exit codes, and an end at once while nothing is begun."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

OK, SOME_FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
NOTHING_LOST = "magicstyle: interrupted; a rerun continues"


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Until something is begun an interrupt ends the process as it is: inside an import it would become an error."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield  # nobody interrupts here
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, f"{NOTHING_LOST}\n".encode())
    os._exit(INTERRUPTED)

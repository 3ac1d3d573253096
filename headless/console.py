"""What the command says: pictures on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..core.errors import printable

LONGEST = 400  # letters of what another program says, in a line of its own


class Console:
    """Lines for the user; `quiet` leaves out how far the run is."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # file names may hold what a terminal cannot show

    def result(self, text: object) -> None:
        """A finished picture."""
        _print(text, sys.stdout)

    def progress(self, text: str) -> None:
        """How far the run is."""
        if not self.quiet:
            _print(f"magicstyle: {text}", sys.stderr)

    def note(self, text: str) -> None:
        """What the user should know, or what went wrong."""
        _print(f"magicstyle: {text}", sys.stderr)


def _print(text: object, stream: TextIO) -> None:
    with _surviving_a_closed_pipe(stream):
        print(printable(str(text)), file=stream, flush=True)


@contextmanager
def _surviving_a_closed_pipe(stream: Any) -> Iterator[None]:
    """Whoever reads the lines may leave (`| head -1`); the pictures are made all the same."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

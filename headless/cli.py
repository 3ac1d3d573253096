"""The `magicstyle` command, from its first moment to its exit code.

Nothing slow is imported with this module, so that an interrupt finds it ready at any time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from .version import version

OK, SOME_FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
START = (
    "magicstyle: name a command: `magicstyle stylize` paints the shipped pair, `magicstyle stylize me.jpg monet.jpg` "
    "your own pictures, `magicstyle --help` lists everything."
)
NOTHING_LOST = "magicstyle: interrupted; a rerun continues"
EXTRA = 'pip install ".[headless]" in the folder of the pack brings what the command needs'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says whether everything was made."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        print(START, file=sys.stderr)
        return UNUSABLE
    if "--version" in given:
        print(f"magicstyle {version()}")
        return OK
    try:
        return _command(given)(given)
    except KeyboardInterrupt:
        print(NOTHING_LOST, file=sys.stderr)
        return INTERRUPTED
    except ModuleNotFoundError as error:
        print(f"magicstyle: {error.name} is not installed: {EXTRA}.", file=sys.stderr)
        return UNUSABLE


def _command(given: Sequence[str]) -> Callable[[Sequence[str]], int]:
    """The command's implementation, whose imports take seconds."""
    if not {"--quiet", "--help", "-h"} & {*given}:
        print("magicstyle: starting", file=sys.stderr, flush=True)
    with ending_at_once():
        from .command import command
    return command


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


if __name__ == "__main__":
    sys.exit(main())

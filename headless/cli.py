"""The `magicstyle` command, from its first moment to its exit code.

Nothing slow is imported with this module, so that an interrupt finds it ready at any time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from .exit import INTERRUPTED, NOTHING_LOST, OK, SOME_FAILED, UNUSABLE, ending_at_once
from .version import version

__all__ = ["INTERRUPTED", "OK", "SOME_FAILED", "UNUSABLE", "main"]

START = (
    "magicstyle: name a command: `magicstyle stylize` paints the shipped pair, `magicstyle stylize me.jpg monet.jpg` "
    "your own pictures, `magicstyle --help` lists everything."
)
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


if __name__ == "__main__":
    sys.exit(main())

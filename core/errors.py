"""The one error class of the pack: every message says what, where and how to fix it."""


class MagicStyleError(ValueError):
    """A value that the user can correct; the message is one sentence that a node can show as it is."""

    __module__ = "magicstyle"  # the host shows it before the sentence: without the path of this file


def one_line(text: object, most: int = 200) -> str:
    """What another program or a file says, fit for a message: on one line, printable, not endless."""
    plain = printable(" ".join(str(text).split()))
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def printable(text: str) -> str:
    """A text in which escapes stand for what a terminal would not show, or would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)

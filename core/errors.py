"""The one error class of the pack: every message says what, where and how to fix it."""


class MagicStyleError(ValueError):
    """A value that the user can correct; the message is one sentence that a node can show as it is."""

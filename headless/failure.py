"""What could not be made, of either kind of run."""

from __future__ import annotations

from typing import NamedTuple


class Failure(NamedTuple):
    """A pair that could not be painted, and why, in one line; without a style a portrait with all styles.

    Without both it is a whole unit of a run over stores.
    """

    portrait: str | None
    style: str | None
    reason: str

    def __str__(self) -> str:
        """What failed, without the reason."""
        return " + ".join(name for name in (self.portrait, self.style) if name) or "a unit"

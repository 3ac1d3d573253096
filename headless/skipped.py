"""Files of a folder that are no pictures that can be read: left out, and named in the end."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 3


class Skipped:
    """The names of what was left out, so that nothing is left out in silence."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.count = 0
        self._first: list[str] = []
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """One file more."""
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append(name)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = "" if self.count <= SHOWN else f" and {self.count - SHOWN} more"
        return f"{self.count} skipped ({', '.join(self._first)}{more})"

"""What was measured of every result, in one file of the repository, so that a rerun adds to it on any machine.

The file is JSON, a line for each result: by album, way, style and photograph the numbers of `NUMBERS`, to four digits.
It holds for one set of weights and for pictures of certain contents; others need a file of their own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from magicstyle.banks.atomic import write_whole
from magicstyle.headless.digest import digest
from torch import Tensor

from .photo_measures import Judge, Row
from .photo_ways import Album

RECOGNISERS = ("dlib", "faceres")
IDENTITY = tuple(f"{name}{kind}" for name in RECOGNISERS for kind in ("", " rank"))
NUMBERS = (*IDENTITY, "gram", "patches", "gram_before", "patches_before", "structure", "leak")
Rows = dict[tuple[str, str], Row]  # by the names of photograph and style


class Scores:
    """The measured results of a file, which is written again after every addition."""

    def __init__(self, file: Path, weights: str, pictures: Iterable[Path]) -> None:
        self._file = file
        self._kept: dict[str, Any] = {"weights": weights, "pictures": {}, "albums": {}}
        if file.exists():
            self._kept = json.loads(file.read_text("utf-8"))
        if self._kept["weights"] != weights:
            raise SystemExit(f"{file} is of the weights {self._kept['weights']}, not {weights}: name another --scores.")
        for path in pictures:
            own = digest(path.read_bytes())[:8]
            if self._kept["pictures"].setdefault(path.name, own) != own:
                raise SystemExit(f"{file} is of another picture called {path.name}: name another --scores.")

    def rows(self, album: str, way: str) -> Rows:
        """What is known of a way to paint an album."""
        styles = self._kept["albums"].get(album, {}).get(way, {})
        return {(name, style): _row(name, style, n) for style, found in styles.items() for name, n in found.items()}

    def add(self, album: str, way: str, rows: Sequence[Row]) -> None:
        """Keep results, in the place of those of the same pairs."""
        styles = self._kept["albums"].setdefault(album, {}).setdefault(way, {})
        for row in rows:
            styles.setdefault(row.style, {})[row.photograph] = _numbers(row)
        write_whole(self._file, lambda file: file.write((_text(self._kept, 5) + "\n").encode()))


class Measured:
    """An album's measured results."""

    def __init__(self, name: str, album: Album, judge: Judge, scores: Scores) -> None:
        self.name, self.album, self._judge, self._scores = name, album, judge, scores

    def measured(self, way: str, pieces: Sequence[tuple[Path, slice]]) -> list[Row]:
        """What is known of some pieces, up to the first that is missing."""
        known, found = self._scores.rows(self.name, way), []
        for style, group in pieces:
            pairs = [(path.name, style.name) for path in self.album.photographs[group]]
            if not all(pair in known for pair in pairs):
                break
            found += [known[pair] for pair in pairs]
        return found

    def measure(self, way: str, pictures: Callable[[Path, slice], Tensor], pieces: int, until: float) -> None:
        """Make and measure what is missing of the album's first so many pieces, until `until`, a `time.monotonic`."""
        for style, group in self.album.order[:pieces]:
            if time.monotonic() >= until:
                return
            if not self.measured(way, [(style, group)]):
                photographs = self.album.photographs[group]
                self._scores.add(self.name, way, self._judge.measured(pictures(style, group), photographs, style))


def shared(rows: Mapping[str, Sequence[Row]]) -> int:
    """How many first pairs all rows have that have any."""
    return min((len(measured) for measured in rows.values() if measured), default=0)


def _text(value: Any, depth: int) -> str:
    """JSON whose keys are sorted and stand in lines of their own, down to a depth."""
    if depth == 0 or not isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    lines = [f"{json.dumps(key)}: {_text(value[key], depth - 1)}" for key in sorted(value)]
    return "{\n" + ",\n".join(lines) + "\n}"


def _numbers(row: Row) -> list[float | None]:
    """To four digits; a face that was lost, or a recogniser that did not run, is None."""
    seen = [found.get(name) for name in RECOGNISERS for found in (row.distances, row.ranks)]
    rest = (row.gram, row.patches, row.gram_before, row.patches_before, row.structure, row.leak)
    return [None if number is None else float(f"{number:.4g}") for number in (*seen, *rest)]


def _row(photograph: str, style: str, numbers: Sequence[float | None]) -> Row:
    known = dict(zip(NUMBERS, numbers, strict=True))
    distances = {name: known[name] for name in RECOGNISERS if known[name] is not None}
    ranks = {name: int(known[f"{name} rank"]) for name in distances}
    return Row(photograph, style, distances, ranks, *(known[name] for name in NUMBERS[len(IDENTITY) :]))

"""The command line that benchmarks on photographs share, and the run of a small one: some rows of one album."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from .imagenet import EfficientNetLite0
from .photo_measures import Judge, score
from .photo_scores import Measured, Scores, shared
from .photo_tables import table
from .photo_ways import Album
from .recognisers import Recognisers

Paint = Callable[[str, Path, slice], Tensor]  # a row's label, a style and a group of photographs -> b 3 h w in 0..1


def given_options(
    description: str | None, scores: Path, pictures: Iterable[str] = ("photographs", "styles")
) -> argparse.Namespace:
    """What was given: the files of pictures by these names, `work`, which exists, `scores`, `human`, and `until`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in pictures:
        made.add_argument(f"--{name}", type=Path, nargs="+", required=True, metavar="FILE")
    made.add_argument("--work", type=Path, required=True, help="folder for what is painted")
    made.add_argument("--scores", type=Path, default=scores, help="file of what is measured; this one if left out")
    made.add_argument("--human", type=Path, help="folder with faceres.json and faceres.bin")
    made.add_argument("--minutes", type=float, default=1e6, help="stop painting after so many; a rerun goes on")
    given = made.parse_args()
    given.until = time.monotonic() + 60 * given.minutes
    given.work.mkdir(parents=True, exist_ok=True)
    return given


def measured_rows(
    given: argparse.Namespace, name: str, album: Album, weights: str, rows: Mapping[str, str], paint: Paint
) -> str:
    """Paint and measure rows, each named by what its pictures depend on -> a table of the pairs that all rows have."""
    judge = Judge(album, Recognisers(given.human), EfficientNetLite0.of_package())
    results = Measured(name, album, judge, Scores(given.scores, weights, (*album.photographs, *album.styles)))
    for pieces in range(1, len(album.order) + 1):
        for label, way in rows.items():
            results.measure(way, partial(paint, label), pieces, given.until)
    found = {label: results.measured(way, album.order) for label, way in rows.items()}
    return table({label: score(each[: shared(found)]) for label, each in found.items() if each})

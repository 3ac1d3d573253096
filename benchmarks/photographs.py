"""What painting does to photographs of people, by every method, preset and setting: the person kept, the style taken.

    python -m benchmarks.photographs --photographs A.jpg .. --styles M.jpg .. --sweep-styles N.jpg .. --work DIR

Needs requirements-benchmarks.txt. Every picture is cropped to a square. What is painted lies in DIR; what is measured
is kept in benchmarks/photographs.json, and a rerun on any machine adds to it: the pairs of all photographs and styles
are painted some at a time, and a table shows those that all of its rows have. --minutes stops painting. Settings are
compared on --sweep-styles, which no reported pair shows, with every sixth photograph. --human names the folder models/
of the npm package @vladmandic/human 3.3.6, for a second recogniser. Writes benchmarks/photographs.md and .png.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.presets import PRESETS
from magicstyle.headless.engine.model import load_demo_model
from torch import Tensor

from .imagenet import EfficientNetLite0
from .photo_measures import Judge, Score, read_square, score, without_identity
from .photo_options import given_options
from .photo_plot import front_plot
from .photo_scores import Measured, Scores, shared
from .photo_tables import table
from .photo_ways import Album, PhotoPainter, Way
from .recognisers import SIDE, Recognisers, face_mask

TABLE, PLOT, SCORES = (Path(__file__).with_name(f"photographs.{kind}") for kind in ("md", "png", "json"))
FFA = FusionSettings()
STRONG = replace(FFA, query_preservation=0.6)  # as the README names it
MILD = replace(FFA, content_weight=0.1, query_preservation=0.5, temperature=1.5)  # as docs/measurements.md names it
ALL = 10**6  # pieces
SHOWN = 256  # pixels, of the ends
NOISE = "noise"
ENDS = 6  # pieces, of the rows of no way
EVERY_SIXTH = slice(1, None, 6)  # the photographs that settings are compared on
TURNS = (3, 6, 12, ALL)  # so many pieces of every row before more of any


class Line(NamedTuple):
    """A row of a table: what it is called, and how it is painted."""

    label: str
    way: Way


class Section(NamedTuple):
    """A table: its heading, what is said before it, its album and its rows."""

    title: str
    album: str  # main, sweep or sizes
    lines: tuple[Line, ...]


MAIN = Section(
    "Methods",
    "main",
    (
        Line("**`ffa`**, defaults", Way()),
        Line("`ffa`, strong", Way(STRONG)),
        Line("`ffa`, mild", Way(MILD)),
        Line("`styleid`", Way(FusionSettings("styleid", query_preservation=0.75, temperature=1.5))),
        Line("`sac`", Way(FusionSettings("sac"))),
        Line("`seac`", Way(FusionSettings("seac", query_preservation=0.0))),
        Line("`zstar`", Way(FusionSettings("zstar"))),
        Line("`style_aligned`", Way(FusionSettings("style_aligned"))),
        Line("`masactrl`", Way(FusionSettings("masactrl"))),
        Line("`rsa`", Way(FusionSettings("rsa"))),
        Line("`mast`", Way(FusionSettings("mast", 1.0, 0.11, query_preservation=0.2, temperature=1.0))),
        Line("`cocodiff`", Way(FusionSettings("cocodiff", query_preservation=0.75, temperature=1.5))),
        Line("`gar`", Way(FusionSettings("gar", query_preservation=0.25), adain=0.5)),
    ),
)
SPEED = Section(
    "Presets", "main", tuple(Line(f"`ffa`, defaults, `{preset}`", Way(preset=preset)) for preset in PRESETS)
)


def _setting(**knobs: float) -> Line:
    shown = ", ".join(f"`{name}` {value:g}" for name, value in knobs.items())
    return Line(shown or "defaults (`query_preservation` 0.65, `temperature` 1.5)", Way(replace(FFA, **knobs)))


def _likeness(g: float, kept: float = 0.0) -> Line:
    label = f"*likeness* {g:g}" if kept in (0.0, g) else f"`query_preservation` {g:g}"
    shown = ", face kept" if kept else ""
    return Line(label + shown, Way(replace(FFA, query_preservation=g), keep=kept))


SWEEP = Section(
    "Settings of `ffa`",
    "sweep",
    (
        _setting(),
        _setting(query_preservation=0.35),
        _setting(query_preservation=0.5),
        _setting(query_preservation=0.8),
        _setting(temperature=1.25),
        _setting(temperature=1.75),
        _setting(temperature=2.25),
        _setting(content_weight=0.01),
    ),
)
KNOBS = Section(
    "*Style strength*, *likeness* and a face that is kept",
    "sweep",
    (
        *(Line(f"*style strength* {s:g}", Way(adain=s, end=s)) for s in (1.0, 0.75, 0.5, 0.25)),
        *(Line(f"`end_percent` {end:g} alone", Way(end=end)) for end in (0.9, 0.75, 0.5)),
        *(_likeness(g) for g in (1.0, 0.65, 0.35, 0.0)),
        *(_likeness(g, kept=g) for g in (1.0, 0.65)),
        _likeness(0.35, kept=1.0),
    ),
)
SIZES = Section("Sizes", "sizes", tuple(Line(f"{size}x{size}", Way(size=size)) for size in (256, 384, 512, 640)))
SECTIONS = (MAIN, SPEED, SWEEP, KNOBS, SIZES)


def albums(photographs: Sequence[Path], styles: Sequence[Path], sweep_styles: Sequence[Path]) -> dict[str, Album]:
    """What each section is painted of."""
    few = tuple(photographs[EVERY_SIXTH])
    return {
        "main": Album(tuple(photographs), tuple(styles)),
        "sweep": Album(few, tuple(sweep_styles)),
        "sizes": Album(few, tuple(sweep_styles[:1])),
    }


def masked(album: Album, recognisers: Recognisers) -> Album:
    """The album with where the detector finds faces."""
    found = [recognisers.face(read_square(path, SIDE)) for path in album.photographs]
    return replace(album, faces=torch.cat([face_mask(None if face is None else face.box) for face in found]))


class Bench(NamedTuple):
    """A section, what paints it, and what is measured of it."""

    section: Section
    painter: PhotoPainter
    results: Measured

    def paint(self, pieces: int, until: float) -> None:
        """The section's rows."""
        for _, way in self.section.lines:
            self.results.measure(str(way), partial(self.painter.paint, way), pieces, until)

    def table(self, until: float) -> dict[str, Score]:
        """A score for each row that has been begun, on the pairs that all of these have."""
        album = self.painter.album
        known = {line: self.results.measured(str(line.way), album.order) for line in self.section.lines}
        rows = {named(line, self, until): found for line, found in known.items()}
        pairs = shared(rows)
        found = {label: score(measured[:pairs]) for label, measured in rows.items() if measured}
        return found | self._ends() if self.section is MAIN else found

    def _ends(self) -> dict[str, Score]:
        """What the measures say of the photograph, of the style, of another style and of noise, on the first pieces."""
        album, noise = self.painter.album, torch.rand(3, SHOWN, SHOWN, generator=torch.Generator().manual_seed(0))
        ends: dict[str, Callable[[Path, Path], Tensor]] = {
            "the photograph itself": lambda photograph, style: read_square(photograph, SHOWN),
            "another of the style pictures": lambda photograph, style: read_square(_next(album.styles, style), SHOWN),
            "the style picture itself": lambda photograph, style: read_square(style, SHOWN),
            NOISE: lambda photograph, style: noise,
        }
        for name, picture in ends.items():

            def pictures(style: Path, group: slice, picture: Callable[[Path, Path], Tensor] = picture) -> Tensor:
                return torch.stack([picture(photograph, style) for photograph in album.photographs[group]])

            self.results.measure(name, pictures, ENDS, math.inf)
        found = {name: score(self.results.measured(name, album.order[:ENDS])) for name in ends}
        return found | {NOISE: without_identity(found[NOISE])}


def named(line: Line, bench: Bench, until: float) -> str:
    """What a row is called: a size with its cost, once that is known."""
    spent = seconds(bench.painter, line.way, until) if bench.section is SIZES else None
    return line.label if spent is None else f"{line.label}, {spent:.0f} s"


def _next(styles: Sequence[Path], style: Path) -> Path:
    return styles[(styles.index(style) + 1) % len(styles)]


def seconds(painter: PhotoPainter, way: Way, until: float) -> float | None:
    """CPU seconds from one photograph and one style picture to a picture; kept, and not taken after `until`."""
    kept = painter.work / f"{way}; seconds.json"
    if not kept.exists() and time.monotonic() < until:
        album = Album(painter.album.photographs[:1], painter.album.styles[:1])
        begun = time.process_time()
        PhotoPainter(painter.model, album, painter.work).picture(way)
        kept.write_text(json.dumps(time.process_time() - begun), encoding="utf-8")
    return float(json.loads(kept.read_text("utf-8"))) if kept.exists() else None


def main() -> None:
    """The command line."""
    given = given_options(__doc__, SCORES, ("photographs", "styles", "sweep-styles"))
    recognisers, network, model = Recognisers(given.human), EfficientNetLite0.of_package(), load_demo_model()
    found = albums(given.photographs, given.styles, given.sweep_styles)
    shown = {name: masked(album, recognisers) for name, album in found.items()}
    painters = {name: PhotoPainter(model, album, given.work) for name, album in shown.items()}
    files = {path for album in found.values() for path in (*album.photographs, *album.styles)}
    scores = Scores(given.scores, painters["main"].weights, files)
    results = {name: Measured(name, album, Judge(album, recognisers, network), scores) for name, album in shown.items()}
    benches = [Bench(section, painters[section.album], results[section.album]) for section in SECTIONS]
    for pieces in TURNS:
        for bench in benches:
            bench.paint(pieces, given.until)
    tables = {bench.section.title: bench.table(given.until) for bench in benches}
    parts = [f"## {title}\n\n{table(rows)}" for title, rows in tables.items() if rows]
    TABLE.write_text("\n".join(parts), encoding="utf-8")
    panels = {
        section.title: {label.split(" (")[0]: found for label, found in tables[section.title].items()}
        for section in (MAIN, SWEEP)
    }
    front_plot(panels).save(PLOT, optimize=True)
    print(TABLE.read_text("utf-8"))


if __name__ == "__main__":
    main()

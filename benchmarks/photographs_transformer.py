"""The transformer demo model on photographs, by the measures of benchmarks.photographs.

    COMFYUI_PATH=... python -m benchmarks.photographs_transformer --photographs A.jpg .. --styles M.jpg .. --work DIR

All photographs with all styles at 256x256, with all blocks and as its workflow paints; what is measured is kept in
benchmarks/photographs_transformer.json, and a rerun adds to it. Prints the table's rows, on the pairs that all have.
COMFYUI_PATH must name ComfyUI 0.5.0 or newer.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from .transformer import FlowPainter, FlowRecipe  # first: lets the host and diffusers live in one process

# isort: split
import torch
from magicstyle.core.fusion import FusionSettings
from magicstyle.headless.digest import digest
from magicstyle.model_files.demo import DEMO_TRANSFORMER
from torch import Tensor

from .kept import kept
from .photo_measures import read_square
from .photo_options import given_options, measured_rows
from .photo_ways import Album

SIZE = 256
SCORES = Path(__file__).with_suffix(".json")
WEIGHTS = digest(DEMO_TRANSFORMER.read_bytes())[:8]


class FlowWay(NamedTuple):
    """How a photograph is painted."""

    settings: FusionSettings
    layers: str = "auto"
    positions: str = "same"

    def __str__(self) -> str:
        s = self.settings
        return f"{s.method} q={s.query_preservation:g} t={s.temperature:g} {self.layers} {self.positions}"


ROWS = {
    "transformer, plain reconstruction": None,
    "transformer, `styleid`": FlowWay(FusionSettings("styleid", query_preservation=0.75, temperature=1.5)),
    "transformer, `ffa`": FlowWay(FusionSettings()),
    "transformer, `ffa` as in *21 Demo of a transformer*": FlowWay(FusionSettings(), "double.4-7", "untwist"),
}


class Painter:
    """Paints pieces with the transformer; the host starts with the first."""

    def __init__(self, album: Album) -> None:
        self.album, self.recipe = album, FlowRecipe()
        self._painter: FlowPainter | None = None

    def painted(self, label: str, style: Path, group: slice) -> Tensor:
        """A piece painted, b 3 h w in 0..1."""
        self._painter = self._painter or FlowPainter(self.recipe)
        shown = torch.stack([read_square(path, SIZE) for path in self.album.photographs[group]])
        content, way = self._painter.inverted(shown, "content"), ROWS[label]
        if way is None:
            return self._painter.reconstructed(content)
        wanted = self._painter.inverted(read_square(style, SIZE)[None], "style")
        return self._painter.painted(content, wanted, way.settings, layers=way.layers, positions=way.positions)

    def kept(self, label: str, style: Path, group: slice, work: Path) -> Tensor:
        """A piece from the folder, or painted into it."""
        facts = digest(repr((self.way(label), WEIGHTS)).encode())[:8]
        file = work / f"transformer {facts}, {self.album.name(style, group)}.safetensors"
        return kept(file, lambda: self.painted(label, style, group))

    def way(self, label: str) -> str:
        """What tells a row from those of other settings."""
        return f"{ROWS[label] or 'reconstruction'} {self.recipe} {SIZE}"


def main() -> None:
    """The command line."""
    given = given_options(__doc__, SCORES)
    album = Album(tuple(given.photographs), tuple(given.styles))
    painter = Painter(album)
    rows = {label: painter.way(label) for label in ROWS}
    print(measured_rows(given, "256", album, WEIGHTS, rows, partial(painter.kept, work=given.work)))


if __name__ == "__main__":
    main()

"""Draw assets/parameters.jpg: what each setting of the FFA Model Patcher does to the demo portrait.

    python -m tools.pictures.parameters [--steps 25]

The demo model and the pair with which the workflows open, the headless path; some minutes on one core, the same picture
every time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion import sample_ddim
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, Recipe, fused, invert, reconstruct
from magicstyle.headless.pictures.reading import read_picture, to_images, to_tensor
from magicstyle.model_files.demo import DEMO_CONTENT, DEMO_STYLE
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..package import ROOT

PICTURE = ROOT / "assets" / "parameters.jpg"
SIZE = (384, 512)  # of the demo's two pictures
TILE, GAP, LABEL, MARGIN, QUALITY = (240, 320), 8, 28, 200, 88
PRESERVATIONS = (0.0, 0.3, 0.5, 0.65, 0.9)
CONTENT_WEIGHTS = (0.0, 0.003, 0.01, 0.05, 0.3)
TEMPERATURES = (0.5, 1.0, 1.5, 2.5, 4.0)


class Cell(NamedTuple):
    """A picture of the sheet and what is written above it; the default settings are marked."""

    label: str
    settings: FusionSettings

    @property
    def is_default(self) -> bool:
        """Whether these are the settings of an untouched node."""
        return self.settings == FusionSettings()


class Row(NamedTuple):
    """Pictures side by side, with a name in front."""

    name: str
    cells: tuple[Cell, ...]


def rows() -> tuple[Row, ...]:
    """What is varied: one setting in each row, the others at their defaults."""
    preserved = (Cell(f"{value:g}", FusionSettings(query_preservation=value)) for value in PRESERVATIONS)
    weighted = (Cell(f"{value:g}", FusionSettings(content_weight=value)) for value in CONTENT_WEIGHTS)
    return (
        Row("query_preservation", tuple(preserved)),
        Row("content_weight", tuple(weighted)),
        Row("temperature", tuple(Cell(f"{value:g}", FusionSettings(temperature=value)) for value in TEMPERATURES)),
    )


class DemoPainter:
    """The demo's portrait and a painting, inverted once."""

    def __init__(self, steps: int) -> None:
        self.model: HeadlessModel = load_demo_model()
        self.recipe = Recipe(steps=steps)
        self.pictures = [read_picture(path, SIZE) for path in (DEMO_CONTENT, DEMO_STYLE)]
        self.content, self.style = (self.invert(picture) for picture in self.pictures)
        self.bank = FeatureBank(self.content.features, (StyleEntry(self.style.features),))

    def invert(self, picture: Image.Image) -> InvertedPicture:
        """A picture's noise and features."""
        return invert(self.model, self.model.encode(to_tensor(picture)), self.recipe)

    def decode(self, latent: Tensor) -> Image.Image:
        """A latent as a picture."""
        return to_images(self.model.decode(latent))[0]

    def reconstruction(self) -> Image.Image:
        """The portrait sampled back from its noise."""
        return self.decode(reconstruct(self.model, self.content, self.recipe))

    @torch.inference_mode()
    def paint(self, cell: Cell, adain: float = 1.0) -> Image.Image:
        """The portrait with a cell's settings, from an initial latent of some strength."""
        recipe = Recipe(cell.settings, self.recipe.steps)
        denoised = fused(self.model, self.bank, recipe)
        start = adain_map(self.content.noise, self.style.noise, adain)(self.content.noise)
        return self.decode(sample_ddim(denoised, start, recipe.sigmas))


class Sheet:
    """Labelled rows of tiles on white."""

    def __init__(self, columns: int, lines: int) -> None:
        size = (MARGIN + columns * (TILE[0] + GAP), GAP + lines * (LABEL + TILE[1] + GAP))
        self.image = Image.new("RGB", size, "white")
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(19)
        self.y = GAP

    def name(self, text: str) -> None:
        """Write what a row is about in front of it."""
        self.draw.multiline_text(
            (GAP, self.y + LABEL + TILE[1] / 2 - 16), text, fill="black", font=self.font, spacing=6
        )

    def tile(self, column: int, label: str, picture: Image.Image, *, marked: bool = False) -> None:
        """A picture under its label; the marked one in a frame."""
        x, y = MARGIN + column * (TILE[0] + GAP), self.y + LABEL
        self.draw.text((x, self.y), label, fill="black", font=self.font)
        if marked:
            self.draw.rectangle([x - 4, y - 4, x + TILE[0] + 3, y + TILE[1] + 3], fill="#d02a4a")
        self.image.paste(picture.resize(TILE, Image.Resampling.LANCZOS), (x, y))

    def end_row(self) -> None:
        """Go to the next row."""
        self.y += LABEL + TILE[1] + GAP


def draw(painter: DemoPainter, progress: Callable[[str], None] = print) -> Image.Image:
    """The whole sheet: the two pictures and the plain reconstruction, then a row per setting."""
    table = rows()
    sheet = Sheet(max(len(row.cells) for row in table), 1 + len(table))
    sheet.name(f"demo model,\n{painter.recipe.steps} steps;\nframed: defaults")
    first = ("content", "style", "reconstruction")
    for column, (label, picture) in enumerate(zip(first, (*painter.pictures, painter.reconstruction()), strict=True)):
        sheet.tile(column, label, picture)
    sheet.end_row()
    for row in table:
        progress(row.name.replace("\n", " "))
        sheet.name(row.name)
        for column, cell in enumerate(row.cells):
            sheet.tile(column, cell.label, painter.paint(cell), marked=cell.is_default)
        sheet.end_row()
    return sheet.image


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)  # the same sums in the same order everywhere
    picture = draw(DemoPainter(steps))
    picture.save(PICTURE, quality=QUALITY, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB, {picture.size}")


if __name__ == "__main__":
    main()

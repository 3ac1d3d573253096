"""What style guidance does to photographs of people, by the measures of benchmarks.photographs.

    python -m benchmarks.photographs_guidance --photographs A.jpg .. --styles M.jpg .. --work DIR

At the preset `fast` and 256x256, `ffa` at its defaults as the styled model. What is measured is kept in
benchmarks/photographs_guidance.json, and a rerun adds to it. Writes benchmarks/photographs_guidance.md, on the pairs
that all rows have.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.guidance import StyleGuidance
from magicstyle.core.inversion_methods import sample_back
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, fused, invert
from torch import Tensor

from .kept import kept
from .photo_measures import read_square
from .photo_options import given_options, measured_rows
from .photo_ways import Album, PhotoPainter, Way

TABLE, SCORES = (Path(__file__).with_suffix(f".{kind}") for kind in ("md", "json"))
RECIPE = Way().recipe
KEPT, COARSE = "output.3-11", "output.3-5"


class Guided(NamedTuple):
    """A row: the guidance, and the layers of the guiding model."""

    guidance: StyleGuidance | None
    layers: str = RECIPE.layers


ROWS = {
    "no guidance": Guided(None),
    "`nvqg`, scale 1": Guided(StyleGuidance("nvqg", 1.0), COARSE),
    "`nvqg`, scale 2": Guided(StyleGuidance("nvqg", 2.0), COARSE),
    "`nvqg`, scale 1, in the layers that are styled": Guided(StyleGuidance("nvqg", 1.0)),
    "`spg`, scale 1.5": Guided(StyleGuidance("spg", 1.5)),
    "`spg`, scale 2": Guided(StyleGuidance("spg", 2.0)),
}


class Painter:
    """Paints pieces; photographs and styles stay inverted."""

    def __init__(self, model: HeadlessModel, album: Album, work: Path, size: int = Way.size) -> None:
        self.model, self.album, self.work, self.size = model, album, work, size
        self._inverted: dict[tuple[Path, ...], InvertedPicture] = {}

    def painted(self, label: str, style: Path, group: slice) -> Tensor:
        """A piece painted, b 3 h w in 0..1; it lies in the folder for whoever wants to look at it."""
        file = self.work / f"guidance, {ROWS[label]}; {self.album.name(style, group)}.safetensors"
        return kept(file, lambda: self.guided(ROWS[label], style, group))

    @torch.inference_mode()
    def guided(self, row: Guided, style: Path, group: slice) -> Tensor:
        """A piece painted with a row's guidance: b 3 h w in 0..1."""
        content, source = self.inverted(self.album.photographs[group]), self.inverted((style,))
        bank = FeatureBank(content.features, (StyleEntry(source.features),))
        begin = content.noise_pair.map(adain_map(content.noise, source.noise, RECIPE.adain))
        styled, plain = fused(self.model, bank, RECIPE), self.model.denoised
        guidance = row.guidance
        if guidance is None:
            denoised = styled
        else:
            method = FusionSettings("nvqg") if guidance.kind == "nvqg" else RECIPE.settings
            guiding = fused(self.model, bank, replace(RECIPE, settings=method, layers=row.layers))
            own = styled if guidance.kind == "nvqg" else plain

            def denoised(x: Tensor, sigma: Tensor) -> Tensor:
                """b c h w, sigma b -> b c h w, at cfg 1 with one prompt."""
                answer = own(x, sigma)
                return guidance.applied(answer, answer, answer, guiding(x, sigma))

        latent = sample_back(denoised, begin, RECIPE.sigmas, RECIPE.inversion.method)
        return (self.model.decode(latent) + 1) / 2

    def inverted(self, files: tuple[Path, ...]) -> InvertedPicture:
        """Pictures with the features of all layers that any row reads."""
        if files not in self._inverted:
            shown = torch.stack([read_square(path, self.size) for path in files]) * 2 - 1
            recipe = replace(RECIPE, layers=KEPT)
            self._inverted[files] = invert(self.model, self.model.encode(shown), recipe)
        return self._inverted[files]


def main() -> None:
    """The command line."""
    given = given_options(__doc__, SCORES)
    album, model = Album(tuple(given.photographs), tuple(given.styles)), load_demo_model()
    painter, weights = Painter(model, album, given.work), PhotoPainter(model, album, given.work).weights
    rows = {label: str(row) for label, row in ROWS.items()}
    text = measured_rows(given, "guidance", album, weights, rows, painter.painted)
    TABLE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

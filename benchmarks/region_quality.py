"""Hair from one style, background from another, on drawn portraits that the demo model never saw: measured and shown.

    python -m benchmarks.region_quality       the table and the contact sheet

Style is what is left of the distance between a region of the content and the region's style, the mean of colour and
texture: 1 is the content's own look, 0 the style's. Leak is how much face and clothes, where no style acts, change
against the plain reconstruction, as a share of the change of hair and background (root mean square).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.noise_pair import NoisePair
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, Recipe, invert, paint, reconstruct
from magicstyle.headless.pictures.sheet import contact_sheet
from PIL import Image
from torch import Tensor

from .measures import fractions
from .quality import BATCH, FFA, STYLEID, draw, looks, masks, pictures, to_images

SEEDS = (3_000_000, 4_000_000, 5_000_000)  # content, style of the hair, style of the background
MAST = replace(FFA, method="mast")
STYLED = ("hair", "background")
SHOWN = 5
TABLE, SHEET = (Path(__file__).with_name(name) for name in ("region_quality.md", "region_quality.jpg"))


class Row(NamedTuple):
    """A way to paint: with regions or everywhere, with masks on the styles or not, from which initial latent."""

    label: str
    settings: FusionSettings | None
    regions: bool = True
    style_masks: bool = False
    adain: bool = True


ROWS = (
    Row("plain reconstruction", None),
    Row("ffa, both styles everywhere", FFA, regions=False),
    Row("ffa, regions", FFA),
    Row("ffa, regions, content's initial latent", FFA, adain=False),
    Row("ffa, regions and style masks", FFA, style_masks=True),
    Row("the same at temperature 1", replace(FFA, temperature=1.0), style_masks=True),
    Row("styleid, regions and style masks", STYLEID, style_masks=True),
    Row("mast, regions and style masks", MAST, style_masks=True),
    Row("the same at temperature 1", replace(MAST, temperature=1.0), style_masks=True),
    Row("mast as published", replace(MAST, content_weight=1 / 9, query_preservation=0.2, temperature=1.0),
        style_masks=True),
    Row("mast, regions and style masks, content's initial latent", MAST, style_masks=True, adain=False),
)  # fmt: skip
LABELS = ("content", "hair like", "background like", "reconstruction", "everywhere", "regions", "no AdaIN",
          "and style masks", "temperature 1", "styleid", "mast", "temperature 1", "published",
          "mast, no AdaIN")  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """Pictures b 3 h w in 0..1 of one part in the play, and their regions, bool b h w by name."""

    pictures: Tensor
    masks: list[dict[str, Tensor]]

    @classmethod
    def seeds(cls, first: int, count: int) -> Drawn:
        """Portraits of consecutive seeds."""
        drawn = draw(first, count)
        return cls(pictures(drawn), [masks(portrait) for portrait in drawn])

    def region(self, name: str, batch: slice) -> Tensor:
        """One region of a batch as a soft mask: b h w."""
        return torch.stack([found[name] for found in self.masks[batch]]).float()


def sample(model: HeadlessModel, drawn: Sequence[Drawn], rows: Sequence[Row], recipe: Recipe) -> list[Tensor]:
    """The pictures of each row: b 3 h w in 0..1. What is inverted serves all rows."""
    count = len(drawn[0].pictures)
    batches = [slice(i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
    found = []
    for batch in batches:
        inverted = [invert(model, model.encode(one.pictures[batch] * 2 - 1), recipe) for one in drawn]
        found.append([_painted(model, drawn, batch, inverted, row, recipe) for row in rows])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


def _painted(
    model: HeadlessModel,
    drawn: Sequence[Drawn],
    batch: slice,
    inverted: Sequence[InvertedPicture],
    row: Row,
    recipe: Recipe,
) -> Tensor:
    """One row's pictures of a batch: b 3 h w in 0..1."""
    content, *styles = inverted
    if row.settings is None:
        return (model.decode(reconstruct(model, content, recipe)) + 1) / 2
    regions = [drawn[0].region(name, batch) if row.regions else None for name in STYLED]
    shown = [one.region(name, batch) if row.style_masks else None for one, name in zip(drawn[1:], STYLED, strict=True)]
    entries = tuple(
        StyleEntry(style.features, 1.0, region, mask)
        for style, region, mask in zip(styles, regions, shown, strict=True)
    )
    start = _start(content, styles, regions, shown) if row.adain else content.noise
    bank = FeatureBank(content.features, entries)
    settings = Recipe(row.settings, recipe.steps, recipe.layers, recipe.adain)
    return (model.decode(paint(model, bank, NoisePair(start), settings)) + 1) / 2


def _start(
    content: InvertedPicture,
    styles: Sequence[InvertedPicture],
    regions: Sequence[Tensor | None],
    shown: Sequence[Tensor | None],
) -> Tensor:
    """The content's noise with each style's moments in its region; two styles everywhere share it evenly."""
    moved = content.noise
    for share, (style, region, mask) in enumerate(zip(styles, regions, shown, strict=True), start=1):
        strength = 1.0 / share if region is None else 1.0
        moved = adain_map(moved, style.noise, strength, region=region, style_mask=mask)(moved)
    return moved


def measure(results: Tensor, plain: Tensor, drawn: Sequence[Drawn]) -> tuple[list[float], float]:
    """What is left of each region's distance to its style, and the leak."""
    content, *styles = drawn
    left = [_left(results, content, style, name) for style, name in zip(styles, STYLED, strict=True)]
    inside = torch.stack([sum(found[name] for name in STYLED) for found in content.masks]).bool()
    change = (results - plain).square().mean(dim=1)
    leak = float(change[~inside].mean().sqrt() / change[inside].mean().sqrt().clamp(min=1e-9))
    return left, leak


def _left(results: Tensor, content: Drawn, style: Drawn, name: str) -> float:
    signatures = [
        [looks(picture, own)[name] for picture, own in zip(shown, regions, strict=True)]
        for shown, regions in (
            (results, content.masks),
            (content.pictures, content.masks),
            (style.pictures, style.masks),
        )
    ]
    kept = [found for found in zip(*signatures, strict=True) if None not in found]
    return sum(fractions([a.distance(s) for a, _, s in kept], [c.distance(s) for _, c, s in kept])) / 2


def table(rows: Sequence[tuple[str, list[float], float | None]]) -> str:
    """The measures in Markdown."""
    lines = ["| | hair | background | leak to face and clothes |", "| --- | ---: | ---: | ---: |"]
    for label, left, leak in rows:
        numbers = [*(f"{share:.2f}" for share in left), "" if leak is None else f"{leak:.2f}"]
        lines.append("| " + " | ".join([label, *numbers]) + " |")
    return "\n".join(lines)


def sheet(drawn: Sequence[Drawn], results: Sequence[Tensor]) -> Image.Image:
    """Some triples with every row's result."""
    columns = [to_images(x[:SHOWN]) for x in (*(one.pictures for one in drawn), *results)]
    return contact_sheet(list(zip(*columns, strict=True)), LABELS, tile=128)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    given = parser.parse_args()
    started, recipe, model = time.perf_counter(), Recipe(steps=given.steps), load_demo_model()
    drawn = [Drawn.seeds(first, given.pairs) for first in SEEDS]
    results = sample(model, drawn, ROWS, recipe)
    sheet(drawn, results).convert("RGB").save(SHEET, quality=90)
    found = [measure(result, results[0], drawn) for result in results]
    rows = [(row.label, left, leak if row.settings else None) for row, (left, leak) in zip(ROWS, found, strict=True)]
    text = f"{given.pairs} held-out triples, {given.steps} steps, 256x256.\n\n{table(rows)}\n"
    TABLE.write_text(text, encoding="utf-8")
    print(text, f"({time.perf_counter() - started:.0f} s)", sep="\n")


if __name__ == "__main__":
    main()

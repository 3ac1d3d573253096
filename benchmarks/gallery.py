"""What the workflows do, on the demo model: one strip of pictures for each that it can show.

    python -m benchmarks.gallery              assets/examples/*.png

Drawings that the demo model never saw, with `ffa` at its defaults, or StyleID's own settings.
Regions are the drawings' own, as a user would paint them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from magicstyle.core.adain import adain_latents
from magicstyle.core.bank import FeatureBank, StyleEntry
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.noise_pair import NoisePair
from magicstyle.headless.model import HeadlessModel, load_demo_model
from magicstyle.headless.sheet import contact_sheet
from magicstyle.headless.stylize import Inversion, Recipe, invert, paint
from magicstyle.tools.demo_model.techniques import Drawing, drawing
from torch import Tensor

from .quality import CONTENT_TECHNIQUE, FFA, STYLEID, masks, pictures, to_images

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "examples"


class Style(NamedTuple):
    """A style picture by seed and technique, and the regions of the portrait that it paints (none: everywhere)."""

    seed: int
    technique: str
    regions: tuple[str, ...] = ()


class Example(NamedTuple):
    """One workflow's picture."""

    name: str
    content: int
    styles: tuple[Style, ...]
    settings: FusionSettings = FFA
    keep: tuple[str, ...] = ()  # regions of the portrait that stay like it


EXAMPLES = (
    Example("styleid", 6_000_002, (Style(6_000_014, "halftone"),), STYLEID),
    Example(
        "two_styles_by_mask",
        3_000_003,
        (Style(4_000_003, "hatching", ("hair",)), Style(5_000_003, "halftone", ("face", "clothes", "background"))),
    ),
    Example("portrait_keep_background", 6_000_002, (Style(6_000_011, "ink", ("hair", "face", "clothes")),)),
)


def inversion(model: HeadlessModel, drawn: Drawing, recipe: Recipe) -> tuple[Tensor, Inversion]:
    """A portrait 1 3 h w in 0..1 and its inversion."""
    picture = pictures([drawn])
    return picture, invert(model, model.encode(picture * 2 - 1), recipe)


def region(portrait: Drawing, names: tuple[str, ...]) -> Tensor | None:
    """The drawing's own regions as one mask 1 h w; none without names."""
    drawn = masks(portrait)
    return torch.stack([drawn[name] for name in names]).any(0).float()[None] if names else None


def painted(model: HeadlessModel, example: Example) -> tuple[list[Tensor], list[str]]:
    """Content, regions, styles and, last, the result, each 1 3 h w; and what each is called."""
    recipe = replace(Recipe(), settings=example.settings)
    portrait = drawing(example.content, CONTENT_TECHNIQUE)
    picture, content = inversion(model, portrait, recipe)
    shown, labels, entries, start = [picture], ["portrait"], [], content.noise
    for number, style in enumerate(example.styles, start=1):
        look, inverted = inversion(model, drawing(style.seed, style.technique), recipe)
        here = region(portrait, style.regions)
        entries.append(StyleEntry(inverted.features, region=here))
        start = adain_latents(start, inverted.noise, region=here)
        shown += [look] if here is None else [look, here.expand(3, -1, -1)[None]]
        title = "style" if len(example.styles) == 1 else f"style {number}"
        labels += [title] if here is None else [title, f"{title} here"]
    bank, keep = FeatureBank(content.features, tuple(entries)), region(portrait, example.keep)
    latent = paint(model, bank, NoisePair(start), recipe, keep=keep)
    shown.append((model.decode(latent) + 1) / 2)
    return shown, [*labels, "result"]


def strip(model: HeadlessModel, example: Example) -> None:
    """Write content, regions, styles and result side by side."""
    shown, labels = painted(model, example)
    row = [to_images(x)[0] for x in shown]
    contact_sheet([row], labels, tile=192).save(FOLDER / f"{example.name}.png", optimize=True)


def main() -> None:
    """All strips."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = load_demo_model()
    for example in EXAMPLES:
        strip(model, example)
        print(FOLDER / f"{example.name}.png")


if __name__ == "__main__":
    main()

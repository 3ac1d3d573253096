"""Draw assets/demo_grid.png, the first picture of the README: portraits painted in techniques by the demo model.

    python -m tools.pictures.head

Drawings of held-out seeds, numbered on and not chosen; one documented setting for all.
"""

from __future__ import annotations

from .parameters import ROOT, FusionSettings  # first: makes the checkout a package

# isort: split
import torch
from magicstyle.benchmarks.quality import FFA
from magicstyle.headless.model import load_demo_model
from magicstyle.headless.pictures import to_images, to_tensor
from magicstyle.headless.recipe import Recipe
from magicstyle.headless.sheet import contact_sheet
from magicstyle.headless.stylize import invert, stylize
from magicstyle.tools.demo_model.techniques import drawing
from PIL import Image

PICTURE = ROOT / "assets" / "demo_grid.png"
CONTENTS = (6_000_001, 6_000_002)
STYLES = {
    "ink": 6_000_011,
    "hatching": 6_000_012,
    "stipple": 6_000_013,
    "halftone": 6_000_014,
    "cross_stitch": 6_000_015,
}
STEPS, TILE = 50, 192


def drawn(seed: int, technique: str) -> Image.Image:
    """A drawing for Pillow."""
    return Image.fromarray(drawing(seed, technique).image)


def grid(settings: FusionSettings) -> Image.Image:
    """Styles above, portraits in front, what becomes of each pair between them."""
    model, recipe = load_demo_model(), Recipe(settings, STEPS)
    contents = [drawn(seed, "flat") for seed in CONTENTS]
    styles = [drawn(seed, technique) for technique, seed in STYLES.items()]
    inverted = [[invert(model, model.encode(to_tensor(x)), recipe) for x in row] for row in (contents, styles)]
    rows = [[Image.new("RGB", contents[0].size, "white"), *styles]]
    for picture, content in zip(contents, inverted[0], strict=True):
        latents = [stylize(model, content, style, recipe) for style in inverted[1]]
        rows.append([picture, *(to_images(model.decode(latent))[0] for latent in latents)])
    return contact_sheet(rows, ["", *(name.replace("_", " ") for name in STYLES)], tile=TILE)


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    picture = grid(FFA).quantize(256, kmeans=1, dither=Image.Dither.NONE)
    picture.save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB, {picture.size}")


if __name__ == "__main__":
    main()

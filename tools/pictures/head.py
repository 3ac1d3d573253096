"""Draw assets/demo_grid.png, the first picture of the README: photographs painted like paintings and drawings.

    python -m tools.pictures.head

The demo model paints every pair at the defaults of the command line; no pair is left out. The drawings are of held-out
seeds, numbered on and not chosen. assets/PROVENANCE.md names the photographs and paintings.
"""

from __future__ import annotations

import torch
from magicstyle.benchmarks.quality import FFA
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import invert, stylize
from magicstyle.headless.pictures.reading import to_images, to_tensor
from magicstyle.headless.pictures.sheet import contact_sheet
from PIL import Image

from .parameters import ROOT, SIZE, FusionSettings
from .scenes import DRAWINGS, shown

PICTURE = ROOT / "assets" / "demo_grid.png"
CONTENTS = ("collins", "hopper")
STYLES = ("van Gogh", "Hokusai", "Arcimboldo", *tuple(DRAWINGS)[:3])
STEPS, TILE = 50, 168


def grid(settings: FusionSettings) -> Image.Image:
    """Styles above, photographs in front, what becomes of each pair between them."""
    model, recipe = load_demo_model(), Recipe(settings, STEPS)
    contents, styles = ([shown(name) for name in names] for names in (CONTENTS, STYLES))
    inverted = [[invert(model, model.encode(to_tensor(x)), recipe) for x in row] for row in (contents, styles)]
    rows = [[Image.new("RGB", SIZE, "white"), *styles]]
    for picture, content in zip(contents, inverted[0], strict=True):
        latents = [stylize(model, content, style, recipe) for style in inverted[1]]
        rows.append([picture, *(to_images(model.decode(latent))[0] for latent in latents)])
    return contact_sheet(rows, ["", *STYLES], tile=TILE)


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    picture = grid(FFA).quantize(256, kmeans=1, dither=Image.Dither.NONE)
    picture.save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB, {picture.size}")


if __name__ == "__main__":
    main()

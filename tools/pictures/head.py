"""Draw assets/demo_grid.jpg, the first picture of the README: photographs painted like paintings.

    python -m tools.pictures.head

The demo model paints every pair as `python run.py demo` does, at the preset *fast* and at the other defaults; no pair
is left out. The paintings are details, twice as large as the works. assets/PROVENANCE.md names all of them.
"""

from __future__ import annotations

import torch
from magicstyle.headless.pictures.sheet import contact_sheet
from PIL import Image

from .parameters import ROOT, SIZE
from .scenes import Look, Scene, ScenePainter, shown

PICTURE = ROOT / "assets" / "demo_grid.jpg"
CONTENTS = ("collins", "hopper")
STYLES = {
    "Hokusai": "Hokusai",
    "van Gogh": "Tanguy",
    "Arcimboldo": "Arcimboldo",
}
TILE, QUALITY = 320, 90


def grid(painter: ScenePainter) -> Image.Image:
    """Styles above, photographs in front, what becomes of each pair between them."""
    rows = [[Image.new("RGB", SIZE, "white"), *map(shown, STYLES.values())]]
    for name in CONTENTS:
        painted = [painter.painted(Scene(name, (Look(style),))) for style in STYLES.values()]
        rows.append([shown(name), *painted])
    return contact_sheet(rows, ["", *STYLES], tile=TILE)


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    picture = grid(ScenePainter())
    picture.save(PICTURE, quality=QUALITY, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1000} kB, {picture.size}")


if __name__ == "__main__":
    main()

"""Draw assets/examples/WORKFLOW.png: what goes into a workflow, and what the demo model makes of it.

    python -m tools.pictures.examples

Photographs painted as the cards of these workflows show them (thumbnails.py), at the preset *fast*.
"""

from __future__ import annotations

import torch
from magicstyle.benchmarks.quality import STYLEID
from magicstyle.headless.pictures.sheet import contact_sheet
from PIL import Image

from .parameters import ROOT
from .scenes import BACKGROUND, Look, Scene, ScenePainter, region, shown

FOLDER, TILE, COLOURS = ROOT / "assets" / "examples", 192, 256
EXAMPLES = {
    "portrait_keep_background": Scene("hopper", (Look("halftone", "person"),)),
    "two_styles_by_mask": Scene("collins", (Look("ink", "person"), Look("van Gogh", BACKGROUND))),
    "styleid": Scene("hopper", (Look("Tanguy"),), STYLEID),
}


def strip(painter: ScenePainter, scene: Scene) -> Image.Image:
    """The photograph, every style with its region, and the result side by side."""
    row, labels = [shown(scene.content)], ["portrait"]
    for number, look in enumerate(scene.looks, start=1):
        name = "style" if len(scene.looks) == 1 else f"style {number}"
        row.append(shown(look.style))
        labels.append(name)
        if (where := region(scene.content, look.region)) is not None:
            row.append(where.convert("RGB"))
            labels.append(f"{name} here")
    return contact_sheet([[*row, painter.painted(scene)]], [*labels, "result"], tile=TILE)


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    painter = ScenePainter()
    for name, scene in EXAMPLES.items():
        path = FOLDER / f"{name}.png"
        sheet = strip(painter, scene).quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
        sheet.save(path, optimize=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

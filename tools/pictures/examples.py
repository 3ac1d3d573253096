"""Draw assets/examples/WORKFLOW.jpg, what goes into a workflow and what the demo model makes of it, and
docs/likeness_faces.jpg, a face without and with a mask on it.

    python -m tools.pictures.examples

Photographs painted as these workflows paint them, whole and at the preset *fast*.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from magicstyle.benchmarks.quality import FFA, STYLEID
from magicstyle.headless.pictures.sheet import contact_sheet
from PIL import Image

from .parameters import ROOT
from .scenes import BACKGROUND, Look, Scene, ScenePainter, region, shown

FOLDER, TILE, WIDE, QUALITY = ROOT / "assets" / "examples", 192, 232, 90
EXAMPLES = {
    "portrait_keep_background": Scene("collins", (Look("Hokusai", "person"),)),
    "two_styles_by_mask": Scene("collins", (Look("Hokusai", "person"), Look("van Gogh", BACKGROUND))),
    "styleid": Scene("collins", (Look("Hokusai"),), STYLEID),
}
FACES = ROOT / "docs" / "likeness_faces.jpg"
STRONG = Scene("collins", (Look("Hokusai"),), replace(FFA, query_preservation=0.0))


def faces(painter: ScenePainter) -> Image.Image:
    """A photograph in a strong style without and with a mask on the face."""
    given = shown(STRONG.content), shown(STRONG.looks[0].style), region(STRONG.content, "face").convert("RGB")
    row = [*given, painter.painted(STRONG), painter.painted(STRONG._replace(keep="face"))]
    return contact_sheet([row], ["portrait", "style", "mask", "no mask", "face kept"], tile=WIDE)


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


def save(sheet: Image.Image, path: Path) -> None:
    """A sheet, and how large it is."""
    sheet.save(path, quality=QUALITY, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    painter = ScenePainter()
    for name, scene in EXAMPLES.items():
        save(strip(painter, scene), FOLDER / f"{name}.jpg")
    save(faces(painter), FACES)


if __name__ == "__main__":
    main()

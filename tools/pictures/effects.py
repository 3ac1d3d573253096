"""Draw web/docs/pictures/NODE_effect.png: what a node does to the demo portrait, for its help page.

python -m tools.pictures.effects
"""

from __future__ import annotations

import torch
from magicstyle.headless.pictures.sheet import contact_sheet
from PIL import Image

from .parameters import ROOT, Cell, DemoPainter, FusionSettings
from .scenes import shown

FOLDER = ROOT / "web" / "docs" / "pictures"
STEPS, TILE, COLOURS = 25, 150, 128  # a help page loads no large files
STRENGTHS = (0.0, 0.5, 1.0)
Strip = dict[str, Image.Image]


def strips(painter: DemoPainter) -> dict[str, Strip]:
    """Labelled pictures by node."""
    content, style = painter.pictures
    plain = Cell("", FusionSettings())
    painted = {strength: painter.paint(plain, strength) for strength in STRENGTHS}
    return {
        "MagicStyleDemoModel": {"content": content, "style": shown("Hokusai")},
        "MagicStylePatchFFA": {"content": content, "style": style, "result": painted[1.0]},
        "MagicStyleInitialLatent": {f"strength {strength:g}": picture for strength, picture in painted.items()},
        "MagicStyleInvertContent": {"picture": content, "sampled back": painter.reconstruction()},
    }


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    for node, strip in strips(DemoPainter(STEPS)).items():
        sheet = contact_sheet([list(strip.values())], list(strip), tile=TILE)
        path = FOLDER / f"{node}_effect.png"
        sheet.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

"""Draw web/docs/pictures/NODE_effect.jpg: what a node does to the demo's photograph, for its help page.

python -m tools.pictures.effects
"""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw, ImageFont

from .parameters import ROOT, Cell, DemoPainter, FusionSettings

FOLDER = ROOT / "web" / "docs" / "pictures"
STEPS, TILE, QUALITY = 25, (180, 240), 84  # a help page loads no large files
GAP, TEXT = 8, 26  # pixels; the page is half as wide as three pictures, and its labels are to be read there
STRENGTHS = (0.0, 0.5, 1.0)
Strip = dict[str, Image.Image]


def strips(painter: DemoPainter) -> dict[str, Strip]:
    """Labelled pictures by node."""
    content, style = painter.pictures
    plain = Cell("", FusionSettings())
    painted = {strength: painter.paint(plain, strength) for strength in STRENGTHS}
    return {
        "MagicStyleDemoModel": {"portrait": content, "style": style},
        "MagicStylePatchFFA": {"portrait": content, "style": style, "result": painted[1.0]},
        "MagicStyleInitialLatent": {f"strength {strength:g}": picture for strength, picture in painted.items()},
        "MagicStyleInvertContent": {"portrait": content, "sampled back": painter.reconstruction()},
    }


def sheet(strip: Strip) -> Image.Image:
    """A strip under its labels."""
    (wide, high), top = TILE, TEXT + 2 * GAP
    drawn = Image.new("RGB", (GAP + len(strip) * (wide + GAP), top + high + GAP), "white")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(TEXT)
    for column, (label, picture) in enumerate(strip.items()):
        x = GAP + column * (wide + GAP)
        draw.text((x, top / 2), label, fill="black", font=font, anchor="lm")
        drawn.paste(picture.resize(TILE, Image.Resampling.LANCZOS), (x, top))
    return drawn


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    for node, strip in strips(DemoPainter(STEPS)).items():
        path = FOLDER / f"{node}_effect.jpg"
        sheet(strip).save(path, quality=QUALITY, subsampling=0, optimize=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

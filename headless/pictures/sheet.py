"""Contact sheets: pictures side by side under their names."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

TILE = 256  # small pictures are enlarged to this side
GAP = 8
TEXT = 16


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], *, tile: int | None = None
) -> Image.Image:
    """Rows of pictures, a label above each column; `tile` is the width of a picture on the sheet.

    A picture of another aspect than the first is shown whole.
    """
    width, height = rows[0][0].size
    wide = tile or max(width, TILE)
    high = round(height * wide / width)
    head = TEXT + 2 * GAP
    sheet = Image.new("RGB", (len(labels) * (wide + GAP) + GAP, head + len(rows) * (high + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for column, label in enumerate(labels):
        draw.text((GAP + column * (wide + GAP), GAP), label, fill="black", font=font)
        for row, pictures in enumerate(rows):
            picture = ImageOps.pad(pictures[column], (wide, high), Image.Resampling.LANCZOS, color="white")
            sheet.paste(picture, (GAP + column * (wide + GAP), head + row * (high + GAP)))
    return sheet

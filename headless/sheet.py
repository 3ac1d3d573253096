"""Contact sheets: pictures side by side under their names."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

TILE = 256  # small pictures are enlarged to this side
GAP = 8
TEXT = 16


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], labels: Sequence[str], *, tile: int | None = None
) -> Image.Image:
    """Rows of pictures of one size, a label above each column; `tile` is the width of a picture on the sheet."""
    width, height = rows[0][0].size
    wide = tile or max(width, TILE)
    high = round(height * wide / width)
    head = TEXT + 2 * GAP
    sheet = Image.new("RGB", (len(labels) * (wide + GAP) + GAP, head + len(rows) * (high + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for column, label in enumerate(labels):
        draw.text((GAP + column * (wide + GAP), GAP), label, fill="black", font=font)
        for row, pictures in enumerate(rows):
            picture = pictures[column].resize((wide, high), Image.Resampling.LANCZOS)
            sheet.paste(picture, (GAP + column * (wide + GAP), head + row * (high + GAP)))
    return sheet

"""How the card of a workflow is put together: the painting large, small what it was made of, and who painted it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .diagrams import FAINT, GROUND, LINE, PANEL, SIDE, TEXT

BAR, GAP, FRAME = 40, 10, 3  # pixels: the line of words below, between pictures, around small ones
SMALL = (96, 128)  # of the pictures that a painting was made of; two styles are as high as this and a half
Place = tuple[int, int]


def cropped(picture: Image.Image, size: Place) -> Image.Image:
    """The top of a picture, where the head is, filling a frame."""
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS, centering=(0.5, 0.0))


def blank(words: str) -> Image.Image:
    """A card with nothing but its line of words."""
    card = Image.new("RGB", (SIDE, SIDE), GROUND)
    ImageDraw.Draw(card).text(
        (SIDE / 2, SIDE - BAR / 2), words, fill=TEXT, font=ImageFont.load_default(20), anchor="mm"
    )
    return card


def large(painting: Image.Image, words: str) -> Image.Image:
    """A painting as wide as the card."""
    card = blank(words)
    card.paste(cropped(painting, (SIDE, SIDE - BAR)), (0, 0))
    return card


def beside(paintings: Sequence[Image.Image], words: str, columns: int = 2) -> Image.Image:
    """Paintings in columns, in as many rows as they need."""
    card, rows = blank(words), -(-len(paintings) // columns)
    width, height = (SIDE - 2 * (columns - 1)) // columns, (SIDE - BAR - 2 * (rows - 1)) // rows
    for number, painting in enumerate(paintings):
        row, column = divmod(number, columns)
        card.paste(cropped(painting, (width, height)), (column * (width + 2), row * (height + 2)))
    return card


def made_of(card: Image.Image, photograph: Image.Image | None, styles: Sequence[Image.Image]) -> Image.Image:
    """Small in the corners: left the photograph, right its styles, above each other."""
    if photograph is not None:
        _inset(card, photograph, (GAP, SIDE - BAR - GAP), SMALL)
    shrunk = SMALL if len(styles) == 1 else (SMALL[0] * 3 // 4, SMALL[1] * 3 // 4)
    for number, style in enumerate(reversed(styles)):
        bottom = SIDE - BAR - GAP - number * (shrunk[1] + GAP)
        _inset(card, style, (SIDE - GAP - shrunk[0], bottom), shrunk)
    return card


def tagged(card: Image.Image, tags: Sequence[tuple[Place, str]]) -> Image.Image:
    """Words on the card, each around a middle."""
    draw, font = ImageDraw.Draw(card), ImageFont.load_default(22)
    for middle, words in tags:
        left, top, right, bottom = draw.textbbox(middle, words, font=font, anchor="mm")
        draw.rounded_rectangle((left - 10, top - 8, right + 10, bottom + 8), 8, fill=GROUND)
        draw.text(middle, words, fill=TEXT, font=font, anchor="mm")
    return card


def form(
    photograph: Image.Image, style: Image.Image, painting: Image.Image, knobs: Sequence[str], words: str
) -> Image.Image:
    """An app: two pictures to choose, a few knobs and a button, and the painting beside them."""
    card, width, high = blank(words), 150, 108
    draw, small = ImageDraw.Draw(card), ImageFont.load_default(15)
    draw.rounded_rectangle((8, 8, 16 + width, SIDE - BAR - 4), 10, fill=PANEL)
    y = 14
    for label, picture in (("Portrait", photograph), ("Style picture", style)):
        draw.text((18, y), label, fill=FAINT, font=small)
        inside = ImageOps.contain(picture, (width - 8, high), Image.Resampling.LANCZOS)
        card.paste(inside, (12 + (width - inside.width) // 2, y + 21))
        y += high + 30
    for knob in knobs:
        draw.text((18, y), knob, fill=FAINT, font=small)
        draw.line((20, y + 28, width + 4, y + 28), fill=LINE, width=3)
        draw.ellipse((96, y + 21, 110, y + 35), fill=TEXT)
        y += 45
    draw.rounded_rectangle((18, y + 2, width + 6, y + 34), 8, fill="#3a7bd5")
    draw.text((12 + width / 2, y + 18), "Run", fill=TEXT, font=ImageFont.load_default(18), anchor="mm")
    left = 16 + width + 8
    card.paste(cropped(painting, (SIDE - left - 8, SIDE - BAR - 12)), (left, 8))
    return card


def _inset(card: Image.Image, picture: Image.Image, corner: Place, size: Place) -> None:
    """A framed picture whose lower left corner is given."""
    left, top = corner[0], corner[1] - size[1]
    frame = (left - FRAME, top - FRAME, left + size[0] + FRAME - 1, top + size[1] + FRAME - 1)
    ImageDraw.Draw(card).rectangle(frame, fill="white")
    card.paste(ImageOps.fit(picture, size, Image.Resampling.LANCZOS), (left, top))

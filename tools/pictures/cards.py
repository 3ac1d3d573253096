"""How the card of a workflow is put together: the painting large, small what it was made of, and who painted it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from .drawn import FAINT, GROUND, LINE, PANEL, SIDE, TEXT

BAR, GAP, FRAME = 40, 10, 3  # pixels: the line of words below, between pictures, around small ones
SMALL = (96, 128)  # of the pictures that a painting was made of; two styles are as high as this and a half
COLOURS = ("#b39ddb", "#ffd500", "#ff6e6e", "#64b5f6", "#64b5f6", "#81c784")  # of the host's sockets
Place = tuple[int, int]
Field = tuple[str, Any]  # a label, and a picture, number or word


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


def quarters(pictures: Sequence[tuple[Image.Image, str]], words: str) -> Image.Image:
    """Four pictures, each with its name at its lower edge."""
    card = beside([picture for picture, _ in pictures], words)
    places = ((119, 197), (361, 197), (119, 418), (361, 418))
    return tagged(card, [(place, name) for place, (_, name) in zip(places, pictures, strict=True)])


def made_of(card: Image.Image, photograph: Image.Image | None, styles: Sequence[Image.Image]) -> Image.Image:
    """Small in the corners: left the photograph, right its styles, above each other."""
    if photograph is not None:
        _inset(card, photograph, (GAP, SIDE - BAR - GAP), SMALL)
    shrunk = SMALL if len(styles) == 1 else (SMALL[0] * 3 // 4, SMALL[1] * 3 // 4)
    for number, style in enumerate(reversed(styles)):
        bottom = SIDE - BAR - GAP - number * (shrunk[1] + GAP)
        _inset(card, style, (SIDE - GAP - shrunk[0], bottom), shrunk)
    return card


def of_frames(pairs: Sequence[tuple[Image.Image, Image.Image]], style: Image.Image, words: str) -> Image.Image:
    """The style, then frames of a video, beside each what became of it."""
    card, size, left, right = blank(words), 143, 146, SIDE - 145
    show(card, style, (2, (SIDE - BAR - 130) // 2), (130, 130))
    for number, (frame, painted) in enumerate(pairs):
        y = 2 + number * (size + 3)
        show(card, frame, (left, y), (size, size))
        show(card, painted, (right, y), (size, size))
        arrow(card, (left + size + 6, y + size // 2), right - 5)
    return tagged(card, (((67, 318), "style"), ((left + size // 2, 418), "video")))


def strips(
    frames: Sequence[Image.Image], painted: Sequence[Image.Image], style: Image.Image, words: str
) -> Image.Image:
    """Two strips of film, of frames and of what became of them, and between them the style."""
    card, size = blank(words), (SIDE - 8) // 3
    for top, row in ((2, frames), (SIDE - BAR - size - 2, painted)):
        for number, picture in enumerate(row):
            show(card, picture, (2 + number * (size + 2), top), (size, size))
    middle = (SIDE - BAR) // 2
    show(card, style, (60, middle - 54), (108, 108))
    ImageDraw.Draw(card).text(
        (186, middle), "video in a style,\nframe by frame", TEXT, ImageFont.load_default(26), "lm"
    )
    return card


def tagged(card: Image.Image, tags: Sequence[tuple[Place, str]]) -> Image.Image:
    """Words on the card, each around a middle."""
    draw, font = ImageDraw.Draw(card), ImageFont.load_default(22)
    for middle, words in tags:
        left, top, right, bottom = draw.textbbox(middle, words, font=font, anchor="mm")
        draw.rounded_rectangle((left - 10, top - 8, right + 10, bottom + 8), 8, fill=GROUND)
        draw.text(middle, words, fill=TEXT, font=font, anchor="mm")
    return card


def form(painting: Image.Image, pictures: Sequence[Field], fields: Sequence[Field], words: str) -> Image.Image:
    """An app: the painting, and beside it two pictures to choose, what can be set, and the button."""
    card, width, left = blank(words), 164, SIDE - 172
    draw, small = ImageDraw.Draw(card), ImageFont.load_default(14)
    card.paste(cropped(painting, (left - 16, SIDE - BAR - 12)), (8, 8))
    draw.rounded_rectangle((left, 8, left + width, SIDE - BAR - 4), 10, fill=PANEL)
    y = 13
    for label, picture in pictures:
        draw.text((left + 10, y), label, fill=FAINT, font=small)
        inside = ImageOps.contain(picture, (width - 20, 66), Image.Resampling.LANCZOS)
        card.paste(inside, (left + (width - inside.width) // 2, y + 19))
        y += 92
    for label, value in fields:
        draw.text((left + 10, y), label, fill=FAINT, font=small)
        box = (left + 10, y + 17, left + width - 10, y + 34)
        draw.rounded_rectangle(box, 4, fill=GROUND)
        if isinstance(value, float):
            draw.rounded_rectangle((*box[:2], box[0] + value * (width - 20), box[3]), 4, fill="#2f4257")
            draw.text((box[2] - 8, y + 25), "+", fill=FAINT, font=small, anchor="rm")
            draw.text((left + 18, y + 25), "-", fill=FAINT, font=small, anchor="lm")
        draw.text((left + 36, y + 25), f"{value:.2f}" if isinstance(value, float) else value, TEXT, small, anchor="lm")
        y += 38
    draw.rounded_rectangle((left + 10, y + 5, left + width - 10, y + 32), 6, fill="white")
    draw.text((left + width / 2, y + 18), "Run", fill=GROUND, font=ImageFont.load_default(16), anchor="mm")
    return card


def flow(inputs: Sequence[Image.Image], painting: Image.Image, words: str) -> Image.Image:
    """What goes in above each other, and large beside it what comes out."""
    card, gap = blank(words), 8
    height = (SIDE - BAR - gap * (len(inputs) + 1)) // len(inputs)
    width = min(height * 3 // 4, 150)
    for number, picture in enumerate(inputs):
        card.paste(cropped(picture, (width, height)), (gap, gap + number * (height + gap)))
    left = width + 46
    whole = ImageOps.contain(painting, (SIDE - left - gap, SIDE - BAR - 2 * gap), Image.Resampling.LANCZOS)
    card.paste(whole, (left, (SIDE - BAR - whole.height) // 2))
    arrow(card, (width + 14, (SIDE - BAR) // 2), left - 6)
    return card


def arrow(card: Image.Image, begin: Place, end: int) -> None:
    """An arrow to the right, to a place on the line."""
    draw, (x, y) = ImageDraw.Draw(card), begin
    draw.line((x, y, end - 6, y), fill=TEXT, width=4)
    draw.polygon((end, y, end - 12, y - 9, end - 12, y + 9), fill=TEXT)


def node(title: str, sockets: Sequence[str], knobs: Sequence[Field], painting: Image.Image, words: str) -> Image.Image:
    """A block as the canvas shows it, in front of what it paints."""
    card = blank(words)
    card.paste(cropped(painting, (SIDE - 190, SIDE - BAR)), (190, 0))
    draw, font, left, top, right = ImageDraw.Draw(card), ImageFont.load_default(16), 12, 84, 246
    bottom = top + 40 + 22 * len(sockets) + 30 * len(knobs) + 10
    draw.rounded_rectangle((left, top, right, bottom), 10, fill=PANEL, outline=LINE, width=2)
    draw.rounded_rectangle((left, top, right, top + 32), 10, fill="#3a4150")
    draw.text((left + 14, top + 16), title, fill=TEXT, font=ImageFont.load_default(18), anchor="lm")
    y = top + 48
    for number, socket in enumerate(sockets):
        draw.ellipse((left - 6, y - 6, left + 6, y + 6), fill=COLOURS[number % len(COLOURS)])
        draw.text((left + 16, y), socket, fill=TEXT, font=font, anchor="lm")
        y += 22
    draw.ellipse((right - 6, top + 42, right + 6, top + 54), fill=COLOURS[3])
    draw.text((right - 14, top + 48), "image", fill=TEXT, font=font, anchor="rm")
    for label, value in knobs:
        draw.rounded_rectangle((left + 12, y - 10, right - 12, y + 14), 12, fill=GROUND)
        draw.text((left + 24, y + 2), label, fill=FAINT, font=font, anchor="lm")
        draw.text((right - 24, y + 2), value, fill=TEXT, font=font, anchor="rm")
        y += 30
    return card


def file(card: Image.Image, middle: Place, words: str) -> None:
    """A file on a card, its name below."""
    draw, (x, y) = ImageDraw.Draw(card), middle
    draw.polygon((x - 46, y - 62, x + 20, y - 62, x + 46, y - 36, x + 46, y + 62, x - 46, y + 62), fill="white")
    draw.polygon((x + 20, y - 62, x + 20, y - 36, x + 46, y - 36), fill=LINE)
    draw.text((x, y + 6), "style", fill=GROUND, font=ImageFont.load_default(26), anchor="mm")
    draw.text((x, y + 84), words, fill=TEXT, font=ImageFont.load_default(18), anchor="mm")


def show(card: Image.Image, picture: Image.Image, corner: Place, size: Place) -> None:
    """A picture on a card, its upper left corner given."""
    card.paste(cropped(picture, size), corner)


def folder(
    pictures: Sequence[Image.Image], style: Image.Image, paintings: Sequence[Image.Image], name: str, words: str
) -> Image.Image:
    """The pictures of a folder, one style, and what becomes of each."""
    card, size = blank(words), (128, 170)
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((8, 26, 96, 60), 8, fill="#b08d45")
    draw.rounded_rectangle((8, 42, 16 + size[0] + 8, SIDE - BAR - 6), 8, fill="#b08d45")
    draw.text((16 + size[0] / 2, SIDE - BAR - 18), name, fill=GROUND, font=ImageFont.load_default(15), anchor="mm")
    for number, (picture, painting) in enumerate(zip(pictures, paintings, strict=True)):
        y = 60 + number * (size[1] + 8)
        show(card, picture, (16, y), size)
        show(card, painting, (SIDE - 180, y - 2), (174, 174))
        arrow(card, (262, y + size[1] // 2), SIDE - 188)
    _inset(card, style, (166, 300), (90, 120))
    draw.text((211, 324), "one style", fill=TEXT, font=ImageFont.load_default(18), anchor="mm")
    return card


def _inset(card: Image.Image, picture: Image.Image, corner: Place, size: Place) -> None:
    """A framed picture whose lower left corner is given."""
    left, top = corner[0], corner[1] - size[1]
    frame = (left - FRAME, top - FRAME, left + size[0] + FRAME - 1, top + size[1] + FRAME - 1)
    ImageDraw.Draw(card).rectangle(frame, fill="white")
    card.paste(ImageOps.fit(picture, size, Image.Resampling.LANCZOS), (left, top))

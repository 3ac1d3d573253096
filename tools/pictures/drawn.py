"""What diagrams are made of: frames for pictures, sheets for a prompt and a file, boxes for nodes, and the wires."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE, FINE = 480, 3  # pixels; drawn so many times larger, for smooth edges
GROUND, PANEL, LINE, TEXT, FAINT = "#1d2027", "#2b303b", "#8a93a6", "#f2f3f5", "#c3cad8"
PICTURE, MODEL = "#64b5f6", "#b39ddb"  # the host's colours of a wire that carries pictures, and of one for a model
LARGE, LEGIBLE = 19, 13  # of a node's name: as large as it gets, and the least in one line
DASH = 7  # pixels of a broken line, and of the gap after it
Place = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def scaled(places: Sequence[float]) -> tuple[int, ...]:
    """Places of a card on the finer drawing."""
    return tuple(round(FINE * place) for place in places)


def write(draw: ImageDraw.ImageDraw, middle: Place, words: str, size: int, colour: str) -> None:
    """Words around their middle."""
    draw.text(scaled(middle), words, fill=colour, font=ImageFont.load_default(size * FINE), anchor="mm")


def fitting(words: str, width: float, largest: int) -> int:
    """The size at which words are no wider than `width`."""
    return next(s for s in range(largest, 8, -1) if ImageFont.load_default(s).getlength(words) <= width)


def frame(card: Image.Image, picture: Image.Image, box: Box) -> None:
    """A picture in a light frame that fills a box, cut below where the picture is too high."""
    left, top, right, bottom = scaled(box)
    ImageDraw.Draw(card).rectangle((left, top, right, bottom), fill=TEXT)
    edge = 3 * FINE
    size = (right - left - 2 * edge + 1, bottom - top - 2 * edge + 1)
    card.paste(ImageOps.fit(picture, size, Image.Resampling.LANCZOS, centering=(0.5, 0.15)), (left + edge, top + edge))


def sheet(size: tuple[int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty picture of so many pixels of a card, and a brush for it."""
    picture = Image.new("RGB", scaled(size), "#cfd8e3")
    return picture, ImageDraw.Draw(picture)


def prompt(size: tuple[int, int], lines: Sequence[str]) -> Image.Image:
    """A sheet with a prompt."""
    (picture, draw), (width, height) = sheet(size), size
    high = 20 * len(lines) + 14
    box = (6, (height - high) / 2, width - 6, (height + high) / 2)
    draw.rounded_rectangle(scaled(box), 8 * FINE, fill="white", outline=GROUND, width=2 * FINE)
    for number, line in enumerate(lines):
        write(draw, (width / 2, box[1] + 17 + 20 * number), line, fitting(line, width - 20, 14), GROUND)
    return picture


def file(size: tuple[int, int], words: str) -> Image.Image:
    """A sheet of paper with a folded corner."""
    (picture, draw), (width, height) = sheet(size), size
    left, top, right, bottom = width / 2 - 33, height / 2 - 44, width / 2 + 33, height / 2 + 44
    outline = (left, top, right - 20, top, right, top + 20, right, bottom, left, bottom)
    draw.polygon(scaled(outline), fill="white", outline=GROUND, width=2 * FINE)
    draw.polygon(scaled((right - 20, top, right - 20, top + 20, right, top + 20)), fill=LINE)
    write(draw, (width / 2, height / 2 + 10), words, fitting(words, 54, 24), GROUND)
    return picture


def node(draw: ImageDraw.ImageDraw, box: Box, words: str) -> None:
    """A node, or a block of nodes, by its name, in two lines where one would be small."""
    draw.rounded_rectangle(scaled(box), 9 * FINE, fill=PANEL, outline=LINE, width=2 * FINE)
    left, top, right, bottom = box
    lines, width = [words], right - left - 16
    if fitting(words, width, LARGE) < LEGIBLE:
        lines = textwrap.wrap(words, len(words) // 2 + 4)
    size = min(LARGE, round(0.8 * (bottom - top) / len(lines)), *(fitting(line, width, LARGE) for line in lines))
    y = (top + bottom) / 2 - size * (len(lines) - 1) / 2
    for number, line in enumerate(lines):
        write(draw, ((left + right) / 2, y + size * number), line, size, TEXT)


def empty(draw: ImageDraw.ImageDraw, box: Box, lines: Sequence[str]) -> None:
    """The frame of a picture that nobody has painted yet."""
    left, top, right, bottom = box
    draw.rectangle(scaled(box), fill=GROUND)
    for x in _dashes(left, right):
        for y in (top, bottom):
            draw.line(scaled((x, y, min(x + DASH, right), y)), fill=TEXT, width=2 * FINE)
    for y in _dashes(top, bottom):
        for x in (left, right):
            draw.line(scaled((x, y, x, min(y + DASH, bottom))), fill=TEXT, width=2 * FINE)
    middle = (top + bottom) / 2 - 13 * (len(lines) - 1)
    for number, line in enumerate(lines):
        write(draw, ((left + right) / 2, middle + 26 * number), line, 21, TEXT)


def _dashes(begin: float, end: float) -> list[float]:
    return [begin + 2 * DASH * number for number in range(-int((begin - end) // (2 * DASH)))]


def wire(draw: ImageDraw.ImageDraw, begin: Place, end: Place, colour: str) -> None:
    """A wire that leaves to the right and comes in from the left, as the canvas draws it."""
    (x, y), (right, low) = begin, end
    middle, curve = (x + right) / 2, []
    for part in (step / 24 for step in range(25)):
        rest = 1 - part
        ends, inner = (rest**3, part**3), 3 * rest * part
        across = ends[0] * x + inner * middle + ends[1] * right
        curve.append((across, (ends[0] + inner * rest) * y + (ends[1] + inner * part) * low))
    draw.line([scaled(place) for place in curve], fill=colour, width=4 * FINE, joint="curve")
    for place in (begin, end):
        draw.ellipse(scaled((place[0] - 5, place[1] - 5, place[0] + 5, place[1] + 5)), fill=colour)


def down(draw: ImageDraw.ImageDraw, begin: Place, low: float, colour: str) -> None:
    """An arrow from a node to the one below it."""
    x, y = begin
    draw.line(scaled((x, y, x, low - 5)), fill=colour, width=4 * FINE)
    draw.polygon(scaled((x, low, x - 7, low - 9, x + 7, low - 9)), fill=colour)

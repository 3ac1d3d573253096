"""What diagrams are made of: a person, a style and a prompt, each in a look of its own, and the network that paints."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import pi, sin
from random import Random
from typing import NamedTuple

from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

SIDE, FINE = 480, 3  # pixels; drawn so many times larger, for smooth edges
GROUND, PANEL, LINE, TEXT, FAINT = "#1d2027", "#2b303b", "#8a93a6", "#f2f3f5", "#c3cad8"
TILE = 108  # of a picture inside its frame
EDGE = 12  # from which an edge is drawn, in grey levels
BAND = 20  # pixels from one wave to the next
Place = tuple[int, int]


class Person(NamedTuple):
    """A head and shoulders."""

    hair: str = "#5a4030"
    skin: str = "#e6c3a1"
    shirt: str = "#5f86b3"
    wall: str = "#cfd8e3"
    long_hair: bool = False


class Style(NamedTuple):
    """The marks of a style picture and their colours."""

    marks: str
    colours: tuple[str, ...]


def scaled(places: Sequence[float]) -> tuple[int, ...]:
    """Places of a card on the finer drawing."""
    return tuple(round(FINE * place) for place in places)


def write(draw: ImageDraw.ImageDraw, middle: Place, words: str, size: int, colour: str) -> None:
    """Words around their middle."""
    draw.text(scaled(middle), words, fill=colour, font=ImageFont.load_default(size * FINE), anchor="mm")


def fitting(words: str, width: int, largest: int) -> int:
    """The size at which words are no wider than `width`."""
    return next(s for s in range(largest, 8, -1) if ImageFont.load_default(s).getlength(words) <= width)


def framed(picture: Image.Image) -> Image.Image:
    """A picture in a light frame, TILE and 4 pixels a side."""
    frame = Image.new("RGB", scaled((TILE + 8, TILE + 8)), TEXT)
    frame.paste(picture, scaled((4, 4)))
    return frame


def sheet(colour: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty picture, and a brush for it."""
    picture = Image.new("RGB", scaled((TILE, TILE)), colour)
    return picture, ImageDraw.Draw(picture)


def portrait(person: Person) -> Image.Image:
    """A head and shoulders."""
    picture, draw = sheet(person.wall)
    if person.long_hair:
        draw.rounded_rectangle(scaled((26, 16, 82, 92)), 24 * FINE, fill=person.hair)
    draw.ellipse(scaled((10, 76, 98, 170)), fill=person.shirt)
    draw.rectangle(scaled((46, 62, 62, 84)), fill=person.skin)
    draw.ellipse(scaled((32, 20, 76, 74)), fill=person.skin)
    draw.pieslice(scaled((30, 14, 78, 68)), 180, 360, fill=person.hair)
    return picture


def _stroke(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    draw.line(scaled((x - size, y + 0.7 * size, x + size, y - 0.7 * size)), fill=colour, width=round(0.8 * size * FINE))


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    draw.ellipse(scaled((x - 0.7 * size, y - 0.7 * size, x + 0.7 * size, y + 0.7 * size)), fill=colour)


def _tile(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    draw.rectangle(scaled((x - 0.8 * size, y - 0.8 * size, x + 0.8 * size, y + 0.8 * size)), fill=colour)


def _diamond(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    draw.polygon(scaled((x, y - size, x + size, y, x, y + size, x - size, y)), fill=colour)


def _ring(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    draw.ellipse(scaled((x - size, y - size, x + size, y + size)), outline=colour, width=round(0.5 * size * FINE))


def _hatch(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    for shift in (-0.6, 0.0, 0.6):
        ends = (x - size + shift * size, y + size, x + size + shift * size, y - size)
        draw.line(scaled(ends), fill=colour, width=max(1, round(0.25 * size * FINE)))


def _wave(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    steps = [size * (step / 8 - 1) for step in range(17)]
    points = [scaled((x + step, y + 0.5 * size * sin(step * pi / size))) for step in steps]
    draw.line(points, fill=colour, width=round(0.6 * size * FINE), joint="curve")


def _stripe(draw: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    draw.rectangle(scaled((x - 0.35 * size, y - 1.3 * size, x + 0.35 * size, y + 1.3 * size)), fill=colour)


MARKS = {
    "strokes": _stroke,
    "dots": _dot,
    "tiles": _tile,
    "diamonds": _diamond,
    "rings": _ring,
    "hatching": _hatch,
    "waves": _wave,
    "stripes": _stripe,
}


def marked(picture: Image.Image, style: Style, size: int, own: float) -> Image.Image:
    """A picture in marks, each in the style's colour mixed with `own` of what it covers."""
    picture, covered = picture.copy(), picture
    draw, mark = ImageDraw.Draw(picture), MARKS[style.marks]
    for row in range(-1, TILE // size + 2):
        for column in range(-1, TILE // size + 2):
            x, y = size * (column + 0.5 * (row % 2)), size * row
            at = tuple(min(max(round(place), 0), TILE - 1) * FINE for place in (x, y))
            colour = style.colours[(2 * row + 3 * column) % len(style.colours)]
            below, new = covered.getpixel(at), ImageColor.getrgb(colour)
            mixed = (round(own * old + (1 - own) * part) for old, part in zip(below, new, strict=True))
            mark(draw, x, y, 0.62 * size, "#{:02x}{:02x}{:02x}".format(*mixed))
    return picture


def style_picture(style: Style) -> Image.Image:
    """Nothing but large marks."""
    return marked(sheet(style.colours[0])[0], style, 18, 0.0)


def painted(picture: Image.Image, style: Style) -> Image.Image:
    """A picture in small marks, whose colours are between its own and the style's."""
    return marked(picture, style, 8, 0.55)


def hair(person: Person) -> Image.Image:
    """The person's hair as a mask."""
    mask = Image.new("L", scaled((TILE, TILE)), 0)
    if person.long_hair:
        ImageDraw.Draw(mask).rounded_rectangle(scaled((26, 16, 82, 92)), 24 * FINE, fill=255)
    ImageDraw.Draw(mask).pieslice(scaled((30, 14, 78, 68)), 180, 360, fill=255)
    return mask


def masked(person: Person) -> Image.Image:
    """The person, and the region to be painted as a mask editor shows it."""
    veil = Image.composite(sheet("white")[0], portrait(person), hair(person))
    return Image.blend(portrait(person), veil, 0.75)


def hair_painted(person: Person, style: Style) -> Image.Image:
    """The person with painted hair."""
    return Image.composite(style_picture(style), portrait(person), hair(person))


def edges(person: Person) -> Image.Image:
    """The person's outlines, white on black."""
    found = portrait(person).convert("L").filter(ImageFilter.FIND_EDGES).point(lambda grey: 255 * (grey > EDGE))
    return found.filter(ImageFilter.MaxFilter(5)).convert("RGB")


def prompt() -> Image.Image:
    """A sheet with a prompt."""
    picture, draw = sheet("#cfd8e3")
    draw.rounded_rectangle(scaled((6, 26, 102, 82)), 8 * FINE, fill="white", outline=GROUND, width=2 * FINE)
    for place, line in (((54, 44), "a lighthouse"), ((54, 64), "by the sea")):
        write(draw, place, line, 14, GROUND)
    return picture


def lighthouse() -> Image.Image:
    """A lighthouse by the sea."""
    picture, draw = sheet("#cfd8e3")
    draw.rectangle(scaled((0, 76, TILE, TILE)), fill="#5f86b3")
    draw.polygon(scaled((44, 92, 48, 30, 62, 30, 66, 92)), fill="#e6c3a1")
    draw.rectangle(scaled((46, 16, 64, 30)), fill="#5a4030")
    draw.polygon(scaled((20, 108, 36, 86, 80, 84, 100, 108)), fill="#5a4030")
    return picture


def file(words: str) -> Image.Image:
    """A sheet with a folded corner."""
    picture, draw = sheet("#cfd8e3")
    draw.polygon(scaled((22, 8, 68, 8, 88, 28, 88, 100, 22, 100)), fill="white", outline=GROUND, width=2 * FINE)
    draw.polygon(scaled((68, 8, 68, 28, 88, 28)), fill=LINE)
    write(draw, (55, 62), words, fitting(words, 60, 24), GROUND)
    return picture


def noised(picture: Image.Image, share: float) -> Image.Image:
    """A picture with a share of noise, always the same one."""
    noise = Image.frombytes("RGB", (TILE // 2, TILE // 2), Random(0).randbytes(3 * (TILE // 2) ** 2))
    return Image.blend(picture, noise.resize(picture.size, Image.Resampling.NEAREST), share)


def blocks(draw: ImageDraw.ImageDraw, middle: Place, counts: Sequence[tuple[int, bool]], lit: str) -> None:
    """A transformer as a row of its blocks: how many, and whether they are fused."""
    total, width = sum(count for count, _ in counts), 420
    step, left = width / total, middle[0] - width / 2
    for count, fused in counts:
        for _ in range(count):
            box = (left + 0.14 * step, middle[1] - 20, left + 0.86 * step, middle[1] + 20)
            draw.rectangle(scaled(box), fill=lit if fused else LINE)
            left += step


def unet(draw: ImageDraw.ImageDraw, middle: Place, lit: str) -> None:
    """A UNet as its encoder going down and its decoder, which is fused, going up."""
    heights = (44, 36, 28, 20, 12, 20, 28, 36, 44)
    for number, height in enumerate(heights):
        left = middle[0] - 205 + 47 * number
        box = (left, middle[1] + 22 - height, left + 34, middle[1] + 22)
        draw.rounded_rectangle(scaled(box), 4 * FINE, fill=lit if number > len(heights) // 2 else LINE)


FLUX = partial(blocks, counts=((19, False), (38, True)))
SD35 = partial(blocks, counts=((24, True),))
QWEN = partial(blocks, counts=((60, True),))
Z_IMAGE = partial(blocks, counts=((30, True),))
KREA = partial(blocks, counts=((7, False), (21, True)))
ANIMA = partial(blocks, counts=((28, True),))

"""Cards of workflows for models that this pack has not run: a diagram of what goes in, and no painting.

A painting by the small demo model under another model's name would promise what nobody has seen.
"""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFont

SIDE, FINE = 480, 3  # pixels; drawn so many times larger, for smooth edges
GROUND, PANEL, LINE, TEXT, FAINT = "#1d2027", "#2b303b", "#8a93a6", "#f2f3f5", "#aab2c2"
SKIN, SHIRT, WALL = "#e6c3a1", "#5f86b3", "#cfd8e3"
STROKES = ("#f2b632", "#2f6db5", "#e0662f", "#58a05a", "#8a5bb0")
UNSEEN = "a diagram: we have not run this model"


class Diagram(NamedTuple):
    """What a card says."""

    model: str
    files: str  # what a user brings
    steps: str  # what happens inside


DIAGRAMS = {
    "sdxl_portrait": Diagram("SDXL", "an SDXL checkpoint", "invert, fuse, sample at 1024"),
    "inpaint_region": Diagram("SD1.5 inpainting", "a checkpoint and a mask", "paint the region alone"),
    "few_step_noising": Diagram("LCM, Lightning", "a checkpoint and a LoRA", "4 to 8 steps, no inversion"),
    "flux_portrait": Diagram("Flux.1", "four files, offered", "invert, fuse, sample at 1024"),
    "sd35_portrait": Diagram("SD3.5", "one checkpoint", "invert, fuse, sample at 1024"),
    "qwen_image_portrait": Diagram("Qwen-Image", "three files, offered", "invert, fuse, sample at 1024"),
    "z_image_portrait": Diagram("Z-Image", "three files, offered", "invert, fuse, sample at 1024"),
    "krea2_portrait": Diagram("Krea 2 Raw", "three files, offered", "invert, fuse, sample at 1024"),
    "krea2_turbo_noising": Diagram("Krea 2 Turbo", "three files, offered", "8 steps, no inversion"),
    "anima_portrait": Diagram("Anima", "three files, offered", "invert, fuse, sample at 1024"),
}


def diagram(name: str) -> Image.Image:
    """The card of a workflow in DIAGRAMS, SIDE pixels wide and high."""
    says = DIAGRAMS[name]
    card = Image.new("RGB", (SIDE * FINE, SIDE * FINE), GROUND)
    draw = ImageDraw.Draw(card)
    _write(draw, (240, 52), says.model, 40, TEXT)
    _write(draw, (240, 88), says.files, 18, FAINT)
    card.paste(_framed(_person()), _scaled((36, 124)))
    card.paste(_framed(_strokes()), _scaled((36, 266)))
    card.paste(_framed(_painted()), _scaled((328, 195)))
    for y in (182, 324):
        _arrow(draw, (156, y), (190, 253))
    draw.rounded_rectangle(_scaled((194, 206, 290, 300)), 12 * FINE, fill=PANEL, outline=LINE, width=2 * FINE)
    _write(draw, (242, 243), "Magic", 21, TEXT)
    _write(draw, (242, 267), "Style", 21, TEXT)
    _arrow(draw, (292, 253), (324, 253))
    for place, words in (((94, 252), "portrait"), ((94, 394), "style picture"), ((386, 323), "result")):
        _write(draw, place, words, 16, FAINT)
    _write(draw, (240, 424), says.steps, 19, TEXT)
    _write(draw, (240, 452), UNSEEN, 16, FAINT)
    return card.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _scaled(places: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(FINE * place for place in places)


def _write(draw: ImageDraw.ImageDraw, middle: tuple[int, int], words: str, size: int, colour: str) -> None:
    draw.text(_scaled(middle), words, fill=colour, font=ImageFont.load_default(size * FINE), anchor="mm")


def _arrow(draw: ImageDraw.ImageDraw, begin: tuple[int, int], end: tuple[int, int]) -> None:
    draw.line((*_scaled(begin), *_scaled(end)), fill=LINE, width=3 * FINE)
    x, y = end
    draw.polygon(_scaled((x + 3, y, x - 8, y - 6, x - 8, y + 6)), fill=LINE)


def _framed(picture: Image.Image) -> Image.Image:
    frame = Image.new("RGB", _scaled((116, 116)), TEXT)
    frame.paste(picture, _scaled((4, 4)))
    return frame


def _person() -> Image.Image:
    """A head and shoulders."""
    picture = Image.new("RGB", _scaled((108, 108)), WALL)
    draw = ImageDraw.Draw(picture)
    draw.ellipse(_scaled((10, 76, 98, 170)), fill=SHIRT)
    draw.rectangle(_scaled((46, 62, 62, 84)), fill=SKIN)
    draw.ellipse(_scaled((32, 20, 76, 74)), fill=SKIN)
    draw.pieslice(_scaled((30, 14, 78, 68)), 180, 360, fill="#5a4030")
    return picture


def _strokes() -> Image.Image:
    """Broad strokes of a brush."""
    picture = Image.new("RGB", _scaled((108, 108)), STROKES[1])
    draw = ImageDraw.Draw(picture)
    for row in range(-3, 12):
        for column in range(-1, 5):
            x, y = 26 * column + 9 * (row % 3), 11 * row + 5 * column
            colour = STROKES[(2 * row + 3 * column) % len(STROKES)]
            draw.line(_scaled((x, y + 18, x + 24, y)), fill=colour, width=9 * FINE)
    return picture


def _painted() -> Image.Image:
    """The head and shoulders in strokes: the person's light and dark in the style's colours."""
    light = Image.blend(_strokes(), Image.new("RGB", _scaled((108, 108)), "white"), 0.3)
    return ImageChops.multiply(_person(), light)

"""Cards of workflows for models or files that this pack has not run: a diagram of what goes in, and no painting.

A painting by the small demo model under another model's name would promise what nobody has seen.
"""

from __future__ import annotations

import colorsys
from typing import NamedTuple

from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

SIDE, FINE = 480, 3  # pixels; drawn so many times larger, for smooth edges
GROUND, PANEL, LINE, TEXT, FAINT = "#1d2027", "#2b303b", "#8a93a6", "#f2f3f5", "#c3cad8"
TURN, DEPTH = 0.382, (0.45, 0.3)  # from one ground's hue to the next, of 1; their saturation and value
SKIN, SHIRT, WALL = "#e6c3a1", "#5f86b3", "#cfd8e3"
STROKES = ("#f2b632", "#2f6db5", "#e0662f", "#58a05a", "#8a5bb0")
UNSEEN, NO_FILES = "a diagram: we have not run this model", "a diagram: we have run no such files"
EDGE = 12  # from which an edge is drawn, in grey levels
# what goes in beside or in place of a portrait or a style picture
EDGES, LORA, HAIR, WORDS = "edges", "LoRA", "hair", "words"


class Diagram(NamedTuple):
    """What a card says."""

    model: str
    files: str  # what a user brings
    steps: str  # what happens inside
    unlike: str = ""  # what sets it apart: EDGES, LORA, HAIR, WORDS


DIAGRAMS = {
    "controlnet_and_lora": Diagram("ControlNet + LoRA", "SD1.5 and two files", "the ControlNet holds the edges", EDGES),
    "lora_style_with_content_injection": Diagram("LoRA as the style", "SD1.5 and a LoRA", "no style picture", LORA),
    "sdxl_portrait": Diagram("SDXL", "an SDXL checkpoint", "invert, fuse, sample at 1024"),
    "inpaint_region": Diagram("SD1.5 inpainting", "a checkpoint and a mask", "paint the masked region alone", HAIR),
    "few_step_noising": Diagram("LCM, Lightning", "a checkpoint and a LoRA", "4 to 8 steps, no inversion"),
    "flux_portrait": Diagram("Flux.1", "four files, offered", "invert, fuse, sample at 1024"),
    "sd35_portrait": Diagram("SD3.5", "one checkpoint", "invert, fuse, sample at 1024"),
    "qwen_image_portrait": Diagram("Qwen-Image", "three files, offered", "invert, fuse, sample at 1024"),
    "z_image_portrait": Diagram("Z-Image", "three files, offered", "invert, fuse, sample at 1024"),
    "krea2_portrait": Diagram("Krea 2 Raw", "three files, offered", "invert, fuse, sample at 1024"),
    "krea2_turbo_noising": Diagram("Krea 2 Turbo", "three files, offered", "8 steps, no inversion"),
    "anima_portrait": Diagram("Anima", "three files, offered", "invert, fuse, sample at 1024"),
    "style_and_prompt": Diagram("Prompt + style", "SD1.5 or SDXL", "no portrait: a prompt is painted", WORDS),
    "krea2_style_and_prompt": Diagram("Krea 2 Turbo", "three files, offered", "a prompt in a style, 8 steps", WORDS),
}


def diagram(name: str) -> Image.Image:
    """The card of a workflow in DIAGRAMS, SIDE pixels wide and high."""
    says = DIAGRAMS[name]
    tint = colorsys.hsv_to_rgb(0.62 + TURN * tuple(DIAGRAMS).index(name), *DEPTH)
    card = Image.new("RGB", (SIDE * FINE, SIDE * FINE), tuple(round(255 * part) for part in tint))
    draw = ImageDraw.Draw(card)
    _write(draw, (240, 52), says.model, 44, TEXT)
    _write(draw, (240, 92), says.files, 21, FAINT)
    first_picture = {HAIR: _masked, WORDS: _words}.get(says.unlike, _person)
    card.paste(_framed(first_picture()), _scaled((30, 122)))
    card.paste(_framed(_file() if says.unlike == LORA else _strokes()), _scaled((30, 268)))
    made = _hair_painted() if says.unlike == HAIR else _painted(_lighthouse() if says.unlike == WORDS else _person())
    card.paste(_framed(made), _scaled((334, 195)))
    for y in (182, 324):
        _arrow(draw, (150, y), (190, 253))
    if says.unlike == EDGES:
        card.paste(_framed(_edges()).resize(_scaled((72, 72))), _scaled((206, 322)))
        draw.line(_scaled((242, 318, 242, 304)), fill=LINE, width=3 * FINE)
    draw.rounded_rectangle(_scaled((194, 206, 290, 300)), 12 * FINE, fill=PANEL, outline=LINE, width=2 * FINE)
    _write(draw, (242, 243), "Magic", 23, TEXT)
    _write(draw, (242, 267), "Style", 23, TEXT)
    _arrow(draw, (292, 253), (328, 253))
    second = "LoRA file" if says.unlike == LORA else "style picture"
    first = {HAIR: "portrait, mask", WORDS: "prompt"}.get(says.unlike, "portrait")
    for place, words in (((88, 250), first), ((88, 396), second), ((392, 323), "result")):
        _write(draw, place, words, 17, FAINT)
    _write(draw, (240, 422), says.steps, 22, TEXT)
    _write(draw, (240, 453), NO_FILES if says.unlike in (EDGES, LORA) else UNSEEN, 18, FAINT)
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


def _painted(person: Image.Image) -> Image.Image:
    """A picture in strokes, each in the colour of what it covers with some of the style's."""
    picture, fine = person.copy(), 9
    draw = ImageDraw.Draw(picture)
    for row in range(-1, 17):
        for column in range(-1, 13):
            x, y = fine * column + 3 * (row % 3), 7 * row
            middle = tuple(min(max(place, 0), 107) * FINE for place in (x + 5, y + 3))
            colour = ImageColor.getrgb(STROKES[(2 * row + 3 * column) % len(STROKES)])
            mixed = tuple((3 * own + new) // 4 for own, new in zip(person.getpixel(middle), colour, strict=True))
            draw.line(_scaled((x, y + 8, x + 11, y)), fill=mixed, width=6 * FINE)
    return picture


def _hair() -> Image.Image:
    """The person's hair as a mask."""
    mask = Image.new("L", _scaled((108, 108)), 0)
    ImageDraw.Draw(mask).pieslice(_scaled((30, 14, 78, 68)), 180, 360, fill=255)
    return mask


def _masked() -> Image.Image:
    """The person, and the region to be painted as a mask editor shows it."""
    veil = Image.composite(Image.new("RGB", _scaled((108, 108)), "white"), _person(), _hair())
    return Image.blend(_person(), veil, 0.75)


def _hair_painted() -> Image.Image:
    """The person with painted hair."""
    return Image.composite(_painted(_strokes()), _person(), _hair())


def _edges() -> Image.Image:
    """The person's outlines, white on black."""
    found = _person().convert("L").filter(ImageFilter.FIND_EDGES).point(lambda grey: 255 * (grey > EDGE))
    return found.filter(ImageFilter.MaxFilter(5)).convert("RGB")


def _words() -> Image.Image:
    """A sheet with a prompt."""
    picture = Image.new("RGB", _scaled((108, 108)), WALL)
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle(_scaled((6, 26, 102, 82)), 8 * FINE, fill="white", outline=GROUND, width=2 * FINE)
    for place, line in (((54, 44), "a lighthouse"), ((54, 64), "by the sea")):
        _write(draw, place, line, 14, GROUND)
    return picture


def _lighthouse() -> Image.Image:
    """A lighthouse by the sea."""
    picture = Image.new("RGB", _scaled((108, 108)), WALL)
    draw = ImageDraw.Draw(picture)
    draw.rectangle(_scaled((0, 76, 108, 108)), fill=SHIRT)
    draw.polygon(_scaled((44, 92, 48, 30, 62, 30, 66, 92)), fill=SKIN)
    draw.rectangle(_scaled((46, 16, 64, 30)), fill="#5a4030")
    draw.polygon(_scaled((20, 108, 36, 86, 80, 84, 100, 108)), fill="#5a4030")
    return picture


def _file() -> Image.Image:
    """A sheet with a folded corner."""
    picture = Image.new("RGB", _scaled((108, 108)), WALL)
    draw = ImageDraw.Draw(picture)
    draw.polygon(_scaled((26, 12, 66, 12, 84, 30, 84, 96, 26, 96)), fill="white", outline=GROUND, width=2 * FINE)
    draw.polygon(_scaled((66, 12, 66, 30, 84, 30)), fill=LINE)
    _write(draw, (55, 60), "LoRA", 19, GROUND)
    return picture

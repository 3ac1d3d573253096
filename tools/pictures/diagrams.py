"""Cards of workflows for models or files that this pack has not run: a diagram of what goes in, and no painting.

A painting by the small demo model under another model's name would promise what nobody has seen. Each card has the
model's name in large letters, a person and a style of its own, and the network's blocks, those lit that are fused.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageDraw

from . import drawn
from .drawn import FAINT, FINE, GROUND, LINE, PANEL, SIDE, TEXT, Person, Style, framed, scaled, write

TURN, DEPTH = 0.382, (0.5, 0.34)  # from one ground's hue to the next, of 1; their saturation and value
LIT = "#f2b632"
UNSEEN, NO_FILES = "a diagram: we have not run this model", "a diagram: we have run no such files"
ROW, SMALL = 222, 17  # the middle of the row of pictures; of the words below them
Network = Callable[..., None]
Input = tuple[str, Image.Image]


class Diagram(NamedTuple):
    """What a card says."""

    model: str
    files: str  # what a user brings
    steps: str  # what happens inside
    person: Person
    style: Style
    network: Network | None = None  # drawn below the pictures


DIAGRAMS = {
    "controlnet_and_lora": Diagram(
        "ControlNet + LoRA",
        "SD1.5 and two files",
        "the ControlNet holds the edges",
        Person("#a8612f", shirt="#7a3b6b"),
        Style("strokes", ("#f2b632", "#2f6db5", "#e0662f", "#58a05a", "#8a5bb0")),
    ),
    "sdxl_portrait": Diagram(
        "SDXL",
        "one checkpoint, 7 GB",
        "1024 pixels; the decoder is fused",
        Person("#d9b25a", shirt="#b3485f", long_hair=True),
        Style("dots", ("#2c4a7a", "#e8d9a0", "#d9603b", "#7fb0c9")),
        drawn.unet,
    ),
    "inpaint_region": Diagram(
        "Inpainting",
        "an SD1.5 inpainting checkpoint",
        "the masked region alone is painted",
        Person(),
        Style("rings", ("#f4e3b2", "#c8473a", "#274c77", "#2a9d8f")),
    ),
    "few_step_noising": Diagram(
        "LCM, Lightning",
        "a checkpoint and a LoRA",
        "4 to 8 steps, no inversion",
        Person("#2b2b2b", "#c99a72", "#c98f2b"),
        Style("hatching", ("#efe9dc", "#1f2937", "#7c2d12", "#374151")),
    ),
    "lora_style_with_content_injection": Diagram(
        "LoRA as the style",
        "an SD1.5 checkpoint and a LoRA",
        "no style picture: the LoRA is the style",
        Person("#8f3a2b", shirt="#3f7d63", long_hair=True),
        Style("tiles", ("#264653", "#2a9d8f", "#e9c46a", "#f4a261", "#e76f51")),
    ),
    "flux_portrait": Diagram(
        "Flux.1",
        "four files, 34 GB",
        "38 of its 57 blocks are fused",
        Person("#3a2a22", "#b98562", "#d9d2c3"),
        Style("waves", ("#12355b", "#d9e4ec", "#3f88c5", "#f0e2b6")),
        drawn.FLUX,
    ),
    "sd35_portrait": Diagram(
        "SD3.5",
        "one checkpoint, 12 GB",
        "all 24 blocks are fused",
        Person("#c7c7cf", shirt="#4b4e6d"),
        Style("diamonds", ("#5f0f40", "#fb8b24", "#e36414", "#9a031e")),
        drawn.SD35,
    ),
    "qwen_image_portrait": Diagram(
        "Qwen-Image",
        "three files, 30 GB",
        "all 60 blocks are fused",
        Person("#1d1a1a", "#f0d0ad", "#a8323e", long_hair=True),
        Style("stripes", ("#e8f1e4", "#31572c", "#90a955", "#d4a373")),
        drawn.QWEN,
    ),
    "z_image_portrait": Diagram(
        "Z-Image",
        "three files, 21 GB",
        "all 30 blocks are fused",
        Person("#7a4a28", shirt="#2d6a8a"),
        Style("tiles", ("#f1faee", "#e63946", "#457b9d", "#1d3557")),
        drawn.Z_IMAGE,
    ),
    "krea2_portrait": Diagram(
        "Krea 2 Raw",
        "three files, 19 GB",
        "21 of its 28 blocks are fused",
        Person("#e3c07a", shirt="#34495e", long_hair=True),
        Style("rings", ("#fff1d0", "#dd1c1a", "#06aed5", "#086788")),
        drawn.KREA,
    ),
    "krea2_turbo_noising": Diagram(
        "Krea 2 Turbo",
        "three files, 19 GB",
        "8 steps, no inversion",
        Person("#4a2c2a", "#8d5b3e", "#e0b04a"),
        Style("hatching", ("#0b132b", "#5bc0be", "#f7fff7", "#ff6b6b")),
    ),
    "anima_portrait": Diagram(
        "Anima",
        "three files, 6 GB",
        "all 28 blocks are fused",
        Person("#6a4fa3", shirt="#f28ab2", long_hair=True),
        Style("dots", ("#ffe5ec", "#ff8fab", "#8e7dbe", "#5fa8d3")),
        drawn.ANIMA,
    ),
    "style_and_prompt": Diagram(
        "Prompt + style",
        "an SD1.5 or SDXL checkpoint",
        "no portrait: a prompt is painted",
        Person(),
        Style("strokes", ("#1b4965", "#62b6cb", "#f6ae2d", "#f26419")),
    ),
    "krea2_style_and_prompt": Diagram(
        "Krea 2 + prompt",
        "Krea 2 Turbo: three files, 19 GB",
        "a prompt in a style, 8 steps",
        Person(),
        Style("diamonds", ("#0d3b66", "#faf0ca", "#f4d35e", "#ee964b")),
        drawn.KREA,
    ),
    "wan_film": Diagram(
        "Wan 2.1",
        "three files, 10 GB",
        "a video; all frames in one style",
        Person("#5a4030", "#d9a066", "#2f6f73"),
        Style("waves", ("#20324b", "#f6d6a8", "#c8553d", "#588b8b")),
    ),
    "trained_loras_by_region": Diagram(
        "LoRAs, trained",
        "SD1.5 and two style pictures",
        "a LoRA of each paints its region",
        Person("#4a2c1a", shirt="#8a6d3b", long_hair=True),
        Style("hatching", ("#f6e7cb", "#6b2d5c", "#1b4965", "#b5651d")),
    ),
}
PROMPTED, NO_STYLE = {"style_and_prompt", "krea2_style_and_prompt"}, {"lora_style_with_content_injection"}
NO_INVERSION = {"few_step_noising", "krea2_turbo_noising"}
INSIDE = {  # in a box, where no network is drawn
    "inpaint_region": "the rest stays exactly as it is",
    "lora_style_with_content_injection": "the portrait's features are injected",
    "wan_film": "all frames are inverted together",
    "trained_loras_by_region": "the portrait's features are injected",
}
WITH_FILES = {"controlnet_and_lora", *NO_STYLE}


def inputs(name: str) -> list[Input]:
    """What goes into a workflow: words and pictures."""
    says = DIAGRAMS[name]
    if name in PROMPTED:
        first = ("prompt", drawn.prompt())
    elif name == "inpaint_region":
        first = ("portrait, mask", drawn.masked(says.person))
    else:
        first = ("video" if name == "wan_film" else "portrait", drawn.portrait(says.person))
    if name in NO_STYLE:
        return [first, ("LoRA file", drawn.file("LoRA"))]
    return [first, ("style picture", drawn.style_picture(says.style))]


def result(name: str) -> Image.Image:
    """What comes out of it, as far as a drawing can tell."""
    says = DIAGRAMS[name]
    if name == "inpaint_region":
        return drawn.hair_painted(says.person, says.style)
    if name in PROMPTED:
        return drawn.marked(drawn.lighthouse(), says.style, 6, 0.75)
    return drawn.painted(drawn.portrait(says.person), says.style)


def below(card: Image.Image, draw: ImageDraw.ImageDraw, name: str) -> None:
    """The second row: the network, what comes in beside, the steps from noise, or the block."""
    says, y = DIAGRAMS[name], 355
    if name == "controlnet_and_lora":
        for x, words, picture in ((150, "edges", drawn.edges(says.person)), (330, "LoRA file", drawn.file("LoRA"))):
            _place(card, (x, y - 10), framed(picture), 72)
            write(draw, (x, y + 37), words, SMALL, FAINT)
    elif name in NO_INVERSION:
        made = result(name)
        for number in range(5):
            _place(card, (60 + 90 * number, y), framed(drawn.noised(made, 0.9 - 0.225 * number)), 76)
    elif says.network is not None:
        says.network(draw, middle=(240, y), lit=LIT)
    elif name in PROMPTED:
        draw.rounded_rectangle(scaled((70, y - 34, 410, y + 34)), 10 * FINE, fill=PANEL, outline=LINE, width=2 * FINE)
        write(draw, (240, y), "Paint from a Prompt: one block", 21, TEXT)
    else:
        draw.rounded_rectangle(scaled((70, y - 26, 410, y + 26)), 10 * FINE, fill=PANEL, outline=LINE, width=2 * FINE)
        write(draw, (240, y), INSIDE[name], 19, TEXT)


def diagram(name: str) -> Image.Image:
    """The card of a workflow in DIAGRAMS, SIDE pixels wide and high."""
    says = DIAGRAMS[name]
    tint = colorsys.hsv_to_rgb(0.62 + TURN * tuple(DIAGRAMS).index(name), *DEPTH)
    card = Image.new("RGB", scaled((SIDE, SIDE)), tuple(round(255 * part) for part in tint))
    draw = ImageDraw.Draw(card)
    write(draw, (240, 92), says.model, drawn.fitting(says.model, 450, 66), TEXT)  # the host writes above it
    write(draw, (240, 139), says.files, 22, FAINT)
    for x, sign, (words, picture) in zip((76, 226), ("+", ""), inputs(name), strict=True):
        _place(card, (x, ROW), framed(picture), 124)
        write(draw, (x, ROW + 76), words, SMALL, FAINT)
        write(draw, (x + 75, ROW), sign, 34, TEXT)
    _arrow(draw, (296, ROW), (330, ROW))
    _place(card, (404, ROW), framed(result(name)), 132)
    write(draw, (404, ROW + 76), "result", SMALL, FAINT)
    below(card, draw, name)
    write(draw, (240, 417), says.steps, drawn.fitting(says.steps, 450, 25), TEXT)
    draw.rectangle(scaled((0, SIDE - 40, SIDE, SIDE)), fill=GROUND)
    write(draw, (240, SIDE - 20), NO_FILES if name in WITH_FILES else UNSEEN, 20, TEXT)
    return card.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _place(card: Image.Image, middle: drawn.Place, picture: Image.Image, side: int) -> None:
    """A picture around its middle, `side` pixels wide on the card."""
    picture = picture.resize(scaled((side, side)), Image.Resampling.LANCZOS)
    card.paste(picture, scaled((middle[0] - side / 2, middle[1] - side / 2)))


def _arrow(draw: ImageDraw.ImageDraw, begin: drawn.Place, end: drawn.Place) -> None:
    draw.line((*scaled(begin), *scaled(end)), fill=LINE, width=3 * FINE)
    x, y = end
    draw.polygon(scaled((x + 3, y, x - 8, y - 6, x - 8, y + 6)), fill=LINE)

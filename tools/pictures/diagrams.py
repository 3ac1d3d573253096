"""Cards of workflows for models or files that this pack has not run: what goes in, the nodes, and an empty frame.

A painting by the small demo model under another model's name would promise what nobody has seen, and so would a drawn
one. Each card has the model's name in large letters on a ground of its own; nodes and pictures are the workflow's.
"""

from __future__ import annotations

import colorsys
from itertools import pairwise
from typing import NamedTuple

from magicstyle.headless.pictures.video import read_frames
from magicstyle.model_files.demo import DEMO_CLIP
from magicstyle.tools.workflows.build import WORKFLOWS
from magicstyle.tools.workflows.describe import Block, Item, Node, Workflow
from PIL import Image, ImageDraw

from . import drawn
from .drawn import FAINT, GROUND, MODEL, PICTURE, SIDE, TEXT, Box, scaled, write
from .scenes import BACKGROUND, region, shown

TURN, DEPTH = 0.382, (0.5, 0.34)  # from one ground's hue to the next, of 1; their saturation and value
UNSEEN, NO_FILES = "a diagram: we have not run this model", "a diagram: we have run no such files"
TOP, BOTTOM = 154, 396  # pixels between which the wiring is drawn
INPUTS, NODES, OUTPUT = (12, 110), (144, 344), (376, 468)  # left and right edges of the three columns
LABEL, GAP, HIGHEST, HALF = 20, 13, 46, 60  # of a name; between nodes; of a node; half of the empty frame
SAY = ("a lighthouse", "on a cliff", "above the sea")  # how the prompt of the workflows begins
LOADERS = {  # what the host's loaders bring, in the order in which it is said
    "CheckpointLoaderSimple": "Checkpoint",
    "UNETLoader": "Model",
    "CLIPLoader": "encoder",
    "DualCLIPLoader": "encoders",
    "VAELoader": "VAE",
    "LoraLoaderModelOnly": "LoRA",
    "ControlNetLoader": "ControlNet",
}
OURS = {"MagicStylePatchFFA": "FFA Model Patcher", "MagicStyleRegionsFromWords": "Regions from Words"}
Input = tuple[str, Image.Image]


class Diagram(NamedTuple):
    """What a card says."""

    model: str
    files: str  # what a user brings
    about: str


DIAGRAMS = {
    "controlnet_and_lora": Diagram("ControlNet + LoRA", "SD1.5 and two files", "the ControlNet holds the edges"),
    "sdxl_portrait": Diagram("SDXL", "one checkpoint, 7 GB", "1024x1024 pixels"),
    "inpaint_region": Diagram("Inpainting", "an SD1.5 inpainting checkpoint", "the masked region alone is painted"),
    "few_step_noising": Diagram("LCM, Lightning", "a checkpoint and a LoRA", "4 to 8 steps, no inversion"),
    "lora_style_with_content_injection": Diagram(
        "LoRA as the style", "an SD1.5 checkpoint and a LoRA", "no style picture: the LoRA is the style"
    ),
    "flux_portrait": Diagram("Flux.1", "four files, 34 GB", "20 steps, 1024x1024 pixels"),
    "sd35_portrait": Diagram("SD3.5", "one checkpoint, 12 GB", "20 steps, 1024x1024 pixels"),
    "qwen_image_portrait": Diagram("Qwen-Image", "three files, 30 GB", "20 steps, 1024x1024 pixels"),
    "z_image_portrait": Diagram("Z-Image", "three files, 21 GB", "20 steps, 1024x1024 pixels"),
    "krea2_portrait": Diagram("Krea 2 Raw", "three files, 19 GB", "20 steps, 1024x1024 pixels"),
    "krea2_turbo_noising": Diagram("Krea 2 Turbo", "three files, 19 GB", "8 steps, no inversion"),
    "anima_portrait": Diagram("Anima", "three files, 6 GB", "20 steps, 1024x1024 pixels"),
    "style_and_prompt": Diagram("Prompt + style", "an SD1.5 or SDXL checkpoint", "no portrait: a prompt is painted"),
    "krea2_style_and_prompt": Diagram(
        "Krea 2 + prompt", "Krea 2 Turbo: three files, 19 GB", "a prompt in a style, 8 steps"
    ),
    "wan_film": Diagram("Wan 2.1", "three files, 10 GB", "a video; all frames in one style"),
    "trained_loras_by_region": Diagram(
        "LoRAs, trained", "SD1.5 and two style pictures", "each LoRA paints where a word says"
    ),
}
PROMPTED, WITH_LORA = {"style_and_prompt", "krea2_style_and_prompt"}, "lora_style_with_content_injection"
WITH_FILES = {"controlnet_and_lora", WITH_LORA}


def inputs(name: str, size: tuple[int, int]) -> dict[str, Input]:
    """The pictures with which a workflow opens and what else a user gives it, by node; no two wires cross."""
    portrait = {"content": ("portrait", shown("collins"))}
    style = {"style": ("style picture", shown("Hokusai"))}
    if name in PROMPTED:
        prompt = {"words": ("prompt", drawn.prompt(size, SAY))}
        return {**style, **prompt} if name == "krea2_style_and_prompt" else {**prompt, **style}
    if name == "wan_film":
        return {"video": ("video", next(iter(read_frames(DEMO_CLIP)))), **style}
    if name == "inpaint_region":
        return {"content": ("portrait, mask", masked()), **style}
    if name == WITH_LORA:
        return {"lora": ("LoRA file", drawn.file(size, "LoRA")), **portrait}
    if name == "trained_loras_by_region":
        return {"style": ("style 1", shown("Hokusai")), "style_2": ("style 2", shown("van Gogh")), **portrait}
    return {**portrait, **style}


def masked() -> Image.Image:
    """The portrait whose background a user has painted over in the mask editor."""
    portrait, background = shown("collins"), region("collins", BACKGROUND)
    return Image.composite(Image.blend(portrait, Image.new("RGB", portrait.size), 0.75), portrait, background)


def nodes(workflow: Workflow) -> dict[str, str]:
    """What stands between the pictures and the result, by its key, as the canvas calls it: first all loaders as one."""
    types = [item.type for item in workflow.items if isinstance(item, Node)]
    loaders = [words for kind, words in LOADERS.items() if kind in types]
    others = {item.key: named for item in workflow.items if (named := called(item))}
    return {"loaders": f"Load {', '.join(loaders)}", **others}


def called(item: Item) -> str:
    """The name of a block or of a node of ours; empty for what a card leaves out."""
    if isinstance(item, Block):
        return item.title.removesuffix(" (MagicStyle)")
    return OURS.get(item.type, "") if isinstance(item, Node) else ""


def taker(workflow: Workflow, key: str) -> str:
    """The block that takes what a user gives: a picture, or a prompt that is written on the block; else the loaders."""
    for block in workflow.blocks:
        taken = {out.key for node in block.nodes for out in node.links.values()}
        if key in taken | {node.key for node in block.nodes}:
            return block.key
    return "loaders"


def wired(card: Image.Image, draw: ImageDraw.ImageDraw, workflow: Workflow) -> None:
    """Pictures on the left, nodes in the middle, on the right the frame of what they will paint."""
    names, left, right = nodes(workflow), *NODES
    step = min((BOTTOM - TOP + GAP) / len(names), HIGHEST + GAP)
    top = (TOP + BOTTOM - step * len(names) + GAP) / 2
    boxes: dict[str, Box] = {
        key: (left, top + step * number, right, top + step * (number + 1) - GAP) for number, key in enumerate(names)
    }
    pictures(card, draw, workflow, boxes)
    *_, (_, begin, _, end) = boxes.values()
    last, middle = (begin + end) / 2, min((begin + end) / 2, BOTTOM - HALF)
    drawn.wire(draw, (right, last), (OUTPUT[0], middle), PICTURE)
    for box, following in pairwise(boxes.values()):
        drawn.down(draw, ((left + right) / 2, box[3]), following[1], MODEL)
    for key, words in names.items():
        drawn.node(draw, boxes[key], words)
    lines = ("your", "video" if workflow.name == "wan_film" else "picture")
    drawn.empty(draw, (OUTPUT[0], middle - HALF, OUTPUT[1], middle + HALF), lines)


def pictures(card: Image.Image, draw: ImageDraw.ImageDraw, workflow: Workflow, boxes: dict[str, Box]) -> None:
    """The column of what goes in, each wired to the node that takes it."""
    left, right = INPUTS
    count = len(inputs(workflow.name, (right - left, 1)))
    each = (BOTTOM - TOP + 6) / count
    high = each - LABEL - 6
    size = (round(min(right - left, 1.2 * high)), round(high))
    for number, (key, (words, picture)) in enumerate(inputs(workflow.name, size).items()):
        y, (end, begin, _, low) = TOP + number * each, boxes[taker(workflow, key)]
        socket = begin + (number + 1) * (low - begin) / (count + 1)
        edge = (left + right + size[0]) / 2
        drawn.wire(draw, (edge, y + size[1] / 2), (end, socket), PICTURE)
        drawn.frame(card, picture, (edge - size[0], y, edge, y + size[1]))
        write(draw, ((left + right) / 2, y + size[1] + LABEL / 2 + 2), words, 16, FAINT)


def diagram(name: str) -> Image.Image:
    """The card of a workflow in DIAGRAMS, SIDE pixels wide and high."""
    says, (workflow,) = DIAGRAMS[name], (each for each in WORKFLOWS if each.name == name)
    tint = colorsys.hsv_to_rgb(0.62 + TURN * tuple(DIAGRAMS).index(name), *DEPTH)
    card = Image.new("RGB", scaled((SIDE, SIDE)), tuple(round(255 * part) for part in tint))
    draw = ImageDraw.Draw(card)
    write(draw, (240, 75), says.model, drawn.fitting(says.model, 450, 58), TEXT)  # the host writes above it
    write(draw, (240, 126), says.files, 22, FAINT)
    wired(card, draw, workflow)
    write(draw, (240, 419), says.about, drawn.fitting(says.about, 450, 24), TEXT)
    draw.rectangle(scaled((0, SIDE - 40, SIDE, SIDE)), fill=GROUND)
    write(draw, (240, SIDE - 20), NO_FILES if name in WITH_FILES else UNSEEN, 20, TEXT)
    return card.resize((SIDE, SIDE), Image.Resampling.LANCZOS)

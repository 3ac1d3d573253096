"""Draw workflows/TITLE.jpg, which ComfyUI's template browser shows: the graph, and below it what it is about.

    python -m tools.pictures.thumbnails

Graphs come from assets/screenshots (`python -m pytest tests/browser --write-screenshots`). Below stands the strip of
pictures in assets/examples (`python -m benchmarks.gallery`) where there is one, or what the demo model makes of its two
pictures where that is what the workflow does, else the heart of the graph in full size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .parameters import ROOT, Cell, FusionSettings, Studio

WORKFLOWS, SCREENSHOTS, EXAMPLES = (ROOT / name for name in ("workflows", "assets/screenshots", "assets/examples"))
SCALE, MARGIN = 0.6, 30  # as the browser tests draw graphs
SIDE, GRAPH, TILE = 480, 260, 152
GAP = (SIDE - 3 * TILE) // 4
BACK, WHITE = "#16161a", "#e8e8ee"
CORE_COLOUR = "#a1309b"  # of the group in which the features are fused
PAINTED = {
    "demo_no_download": FusionSettings(content_weight=0.0),  # as that workflow sets it
    "portrait_stylization": FusionSettings(),
    "style_library_apply": FusionSettings(),
    "styleid": FusionSettings("styleid"),
}
STEPS = 25
Box = tuple[int, int, int, int]


def group_box(workflow: dict[str, Any], colour: str) -> Box:
    """Where the screenshot shows the group of a colour."""
    frames = [group["bounding"] for group in workflow["groups"]]
    left, top = (min(frame[i] for frame in frames) - MARGIN for i in (0, 1))
    x, y, width, height = next(group["bounding"] for group in workflow["groups"] if group["color"] == colour)
    corners = (x - left, y - top, x - left + width, y - top + height)
    return tuple(round(value * SCALE) for value in corners)


def core_part(graph: Image.Image, workflow: dict[str, Any], size: tuple[int, int]) -> Image.Image:
    """The graph around the upper end of its fusion group, in the screenshot's own size."""
    left, top, right, _ = group_box(workflow, CORE_COLOUR)
    x = max(0, min((left + right - size[0]) // 2, graph.width - size[0]))
    return graph.crop((x, top, x + size[0], top + size[1]))


def demo_row(pictures: list[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Content, style and result, and who painted it."""
    row, font = Image.new("RGB", size, BACK), ImageFont.load_default(15)
    draw = ImageDraw.Draw(row)
    for i, (name, picture) in enumerate(zip(("content", "style", "result (demo model)"), pictures, strict=True)):
        x = GAP + i * (TILE + GAP)
        row.paste(picture.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, 30))
        draw.text((x, 8), name, fill=WHITE, font=font)
    return row


def strip(path: Path, size: tuple[int, int]) -> Image.Image:
    """A strip of pictures across the width."""
    row, pictures = Image.new("RGB", size, BACK), Image.open(path).convert("RGB")
    pictures = ImageOps.contain(pictures, size, Image.Resampling.LANCZOS)
    row.paste(pictures, ((size[0] - pictures.width) // 2, (size[1] - pictures.height) // 2))
    return row


def thumbnail(graph: Image.Image, below: Image.Image) -> Image.Image:
    """The whole graph over its detail."""
    image = Image.new("RGB", (SIDE, SIDE), BACK)
    small = ImageOps.contain(graph, (SIDE, GRAPH), Image.Resampling.LANCZOS)
    image.paste(small, ((SIDE - small.width) // 2, (GRAPH - small.height) // 2))
    image.paste(below, (0, GRAPH))
    return image


def draw(path: Path, studio: Studio) -> Path:
    """The thumbnail of one workflow."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    name = workflow["extra"]["magicstyle"]
    graph = Image.open(SCREENSHOTS / f"{name}.png").convert("RGB")
    size = (SIDE, SIDE - GRAPH)
    example = EXAMPLES / f"{name}.png"
    if example.exists():
        below = strip(example, size)
    elif name in PAINTED:
        below = demo_row([*studio.pictures, studio.paint(Cell("", PAINTED[name]))], size)
    else:
        below = core_part(graph, workflow, size)
    target = path.with_suffix(".jpg")
    thumbnail(graph, below).save(target, quality=85, optimize=True)
    return target


def main() -> None:
    """The command line."""
    torch.set_num_threads(1)
    studio = Studio(STEPS)
    for path in sorted(WORKFLOWS.glob("*.json")):
        target = draw(path, studio)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

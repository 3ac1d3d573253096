"""Draw workflows/TITLE.jpg, which ComfyUI's template browser shows: what comes out of the workflow, large.

    python -m tools.pictures.thumbnails [NAME ...]

The demo model paints drawings that it never saw, or its own two pictures where the workflow does: minutes on one core,
the same pictures every time. Run it again when the demo model changes; without names it draws all cards. Workflows for
models that the pack has not run get a diagram (diagrams.py). The card of the transformer needs a ComfyUI of 0.5.0 or
newer, which COMFYUI_PATH names.
"""

from __future__ import annotations

import argparse

import benchmarks  # noqa: F401 (first: makes the checkout a package)

# isort: split
from magicstyle.benchmarks.transformer import FlowPainter, FlowRecipe  # before diffusers

# isort: split
from .diagrams import DIAGRAMS, diagram
from .parameters import ROOT, Cell, Studio

# isort: split
import torch
from magicstyle.benchmarks.gallery import EXAMPLES, Example, Style, painted
from magicstyle.benchmarks.quality import FFA, to_images
from magicstyle.headless.model import load_demo_model
from magicstyle.headless.pictures import read_picture, to_tensor
from magicstyle.model_files.demo import DEMO_CONTENT, DEMO_STYLE
from magicstyle.tools.demo_model.techniques import drawing
from magicstyle.tools.workflows.build import WORKFLOWS
from magicstyle.tools.workflows.titles import TITLES, title
from PIL import Image

SIDE, STEPS, QUALITY = 480, 50, 85
SHIPPED = (384, 512)  # of the demo's two pictures
CONTENTS = (6_000_001, 6_000_002)  # held-out drawings, numbered on and not chosen
STYLES = {
    "ink": 6_000_011,
    "hatching": 6_000_012,
    "stipple": 6_000_013,
    "halftone": 6_000_014,
    "cross_stitch": 6_000_015,
}
BY_TRANSFORMER = "demo_transformer"
OWN_PICTURES = {"demo_no_download", "demo_app"}  # those that the demo model ships with
SHOWS_THE_STYLE = {"style_library_save"}
INK = tuple(STYLES).index("ink")
TURNS = {
    "style_library_save": INK,
    "style_library_apply": INK,
}  # which of the styles; by its number where none is named
REGIONS = {"inpaint_region": ("hair", "clothes")}  # what alone is painted
KEPT = {"keep_the_face": ("face",)}


def example(name: str) -> Example:
    """What a workflow's card shows: its example in the documentation, or a pair of the README's by its number."""
    for shown in EXAMPLES:
        if shown.name == name:
            return shown
    number = int(TITLES[name][:2])
    technique = list(STYLES)[TURNS.get(name, number) % len(STYLES)]
    style = Style(STYLES[technique], technique, REGIONS.get(name, ()))
    return Example(name, CONTENTS[number % len(CONTENTS)], (style,), FFA, KEPT.get(name, ()))


def by_transformer() -> Image.Image:
    """The demo's portrait in the style of its style picture, with the defaults, as the workflow paints it."""
    painter = FlowPainter(FlowRecipe(STEPS))
    content, style = (to_tensor(read_picture(path, SHIPPED)) / 2 + 0.5 for path in (DEMO_CONTENT, DEMO_STYLE))
    both = painter.inverted(content, "content"), painter.inverted(style, "style")
    return to_images(painter.painted(*both, FFA))[0]


def picture(name: str) -> Image.Image:
    """The result alone, or a diagram where there is none."""
    if name in DIAGRAMS:
        return diagram(name)
    if name == BY_TRANSFORMER:
        return by_transformer()
    if name in OWN_PICTURES:
        return Studio(STEPS).paint(Cell("", FFA))
    shown = example(name)
    if name in SHOWS_THE_STYLE:
        return Image.fromarray(drawing(shown.styles[0].seed, shown.styles[0].technique).image)
    return to_images(painted(load_demo_model(), shown)[0][-1])[0]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows as tools and tests call them; all, if none is named")
    torch.set_num_threads(1)
    for name in parser.parse_args().names or [workflow.name for workflow in WORKFLOWS]:
        target = ROOT / "workflows" / f"{title(name)}.jpg"
        large = picture(name).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        large.save(target, quality=QUALITY, optimize=True)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

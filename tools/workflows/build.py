"""Write every workflow's two files from its description and a running ComfyUI's node definitions.

python -m tools.workflows.build http://127.0.0.1:8188 [http://127.0.0.1:8189]

Run it against the oldest supported ComfyUI with this pack installed, so that the files load everywhere. What needs a
newer one (NEWER in titles.py) is built from the second, and stays as it is without one.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from . import (
    demo_no_download,
    demo_transformer,
    demo_variation,
    few_step,
    film,
    folder,
    keep_the_face,
    krea_and_anima,
    neighbours,
    portrait_stylization,
    published,
    regions,
    style_and_prompt,
    style_library,
    stylize_portrait,
    trained_loras,
    transformers,
)
from .definitions import NodeDefinition, parse_definitions, read_object_info
from .describe import Workflow
from .export import CORE_VERSION, NEWER_CORE, Exporter
from .titles import NEWER, title

ROOT = Path(__file__).resolve().parents[2]
UI_FOLDER = ROOT / "workflows"
BLUEPRINTS = ROOT / "subgraphs"  # where the host looks for a pack's
API_FOLDER = ROOT / "tests" / "workflows" / "api"
INDEX = """# Workflows

For who looks for a file: ComfyUI lists these among its templates under the pack's name, each titled by its file's name.
Tools and tests call each by the short name on the left.
"""
WORKFLOWS: tuple[Workflow, ...] = (
    portrait_stylization.WORKFLOW,
    stylize_portrait.PORTRAIT,
    stylize_portrait.PORTRAIT_APP,
    stylize_portrait.DEMO_APP,
    folder.WORKFLOW,
    style_library.SAVE,
    style_library.APPLY,
    demo_no_download.WORKFLOW,
    regions.TWO_STYLES,
    regions.KEEP_BACKGROUND,
    regions.WORDS,
    published.STYLEID,
    published.LORA_STYLE,
    neighbours.CONTROLNET_AND_LORA,
    neighbours.SDXL_PORTRAIT,
    neighbours.INPAINT_REGION,
    few_step.WORKFLOW,
    keep_the_face.WORKFLOW,
    transformers.FLUX_PORTRAIT,
    transformers.SD35_PORTRAIT,
    transformers.QWEN_PORTRAIT,
    transformers.Z_PORTRAIT,
    demo_transformer.WORKFLOW,
    krea_and_anima.KREA_PORTRAIT,
    krea_and_anima.KREA_TURBO,
    krea_and_anima.ANIMA_PORTRAIT,
    style_and_prompt.PROMPT,
    style_and_prompt.KREA_PROMPT,
    demo_variation.UNET,
    demo_variation.TRANSFORMER,
    film.DEMO,
    film.SD15,
    film.WAN_FILM,
    trained_loras.DEMO,
    trained_loras.WORDS,
)
# each with a workflow whose one block it is
BLOCKS = ((stylize_portrait, stylize_portrait.PORTRAIT), (style_and_prompt, style_and_prompt.PROMPT))


def pack_version() -> str:
    """The version in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]


def write(path: Path, content: dict[str, Any]) -> None:
    """JSON with a final newline, readable in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path.relative_to(ROOT))


def write_blueprints(definitions: dict[str, NodeDefinition]) -> None:
    """The blocks that do it all, for hosts that offer blocks among the nodes; a file's name is the block's there."""
    for described, workflow in BLOCKS:
        (block,) = workflow.blocks
        saved = Exporter(workflow, definitions, pack_version()).blueprint(block, described.ABOUT, described.WORDS)
        write(BLUEPRINTS / f"{block.title}.json", saved)


def index() -> str:
    """The folder's README: each file, and the name under which the tools know it."""
    names = sorted((workflow.name for workflow in WORKFLOWS), key=title)
    rows = [f"| `{name}` | [{title(name)}](<{title(name)}.json>) |" for name in names]
    return "\n".join((INDEX, "| name in tools and tests | file |", "| --- | --- |", *rows, ""))


def build(definitions: dict[str, NodeDefinition], newer: dict[str, NodeDefinition] | None = None) -> None:
    """Write all files; those that need a newer host from its definitions, if there are any."""
    for workflow in WORKFLOWS:
        if workflow.name in NEWER and newer is None:
            print(f"{workflow.name}: left as it is, it needs the definitions of a newer ComfyUI")
            continue
        known, core = (newer or {}, NEWER_CORE) if workflow.name in NEWER else (definitions, CORE_VERSION)
        exporter = Exporter(workflow, known, pack_version(), core)
        write(UI_FOLDER / f"{title(workflow.name)}.json", exporter.ui())
        write(API_FOLDER / f"{workflow.name}.json", exporter.api())
    write_blueprints(definitions)
    (UI_FOLDER / "README.md").write_text(index(), encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "definitions",
        nargs="*",
        default=["http://127.0.0.1:8188"],
        help="address of a running server, or a saved copy of its /object_info; then a newer one's",
    )
    build(*(parse_definitions(read_object_info(source)) for source in parser.parse_args().definitions[:2]))


if __name__ == "__main__":
    main()

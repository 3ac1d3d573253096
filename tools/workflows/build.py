"""Write every workflow's two files from its description and a running ComfyUI's node definitions.

python -m tools.workflows.build http://127.0.0.1:8188

Run it against the oldest supported ComfyUI with this pack installed, so that the files load everywhere.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from . import (
    demo_no_download,
    few_step,
    keep_the_face,
    neighbours,
    portrait_stylization,
    published,
    regions,
    style_library,
    transformers,
)
from .definitions import NodeDefinition, parse_definitions, read_object_info
from .describe import Workflow
from .export import Exporter
from .titles import title

ROOT = Path(__file__).resolve().parents[2]
UI_FOLDER = ROOT / "workflows"
API_FOLDER = ROOT / "tests" / "workflows" / "api"
INDEX = """# Workflows

For who looks for a file: ComfyUI lists these among its templates under the pack's name, each titled by its file's name.
Before version 0.1.0 the files were called as on the left; tools and tests call them so still.
"""
WORKFLOWS: tuple[Workflow, ...] = (
    portrait_stylization.WORKFLOW,
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
)


def pack_version() -> str:
    """The version in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]


def write(path: Path, content: dict[str, Any]) -> None:
    """JSON with a final newline, readable in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path.relative_to(ROOT))


def index() -> str:
    """The folder's README: each file, and the name under which the tools know it."""
    names = sorted((workflow.name for workflow in WORKFLOWS), key=title)
    rows = [f"| `{name}` | [{title(name)}](<{title(name)}.json>) |" for name in names]
    return "\n".join((INDEX, "| name in tools and tests | file |", "| --- | --- |", *rows, ""))


def build(definitions: dict[str, NodeDefinition]) -> None:
    """Write all files."""
    for workflow in WORKFLOWS:
        exporter = Exporter(workflow, definitions, pack_version())
        write(UI_FOLDER / f"{title(workflow.name)}.json", exporter.ui())
        write(API_FOLDER / f"{workflow.name}.json", exporter.api())
    (UI_FOLDER / "README.md").write_text(index(), encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "definitions",
        nargs="?",
        default="http://127.0.0.1:8188",
        help="address of a running server, or a saved copy of its /object_info",
    )
    build(parse_definitions(read_object_info(parser.parse_args().definitions)))


if __name__ == "__main__":
    main()

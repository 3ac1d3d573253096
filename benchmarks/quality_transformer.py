"""What stylization does with the transformer demo model, on the pairs and by the measures of benchmarks.quality.

    COMFYUI_PATH=... python -m benchmarks.quality_transformer --work DIR     the table and the contact sheet

What is painted already lies in DIR, so that --minutes may stop it and a rerun goes on. The UNet's rows below are those
of quality.md. --sweep paints a grid of settings on some of the pairs instead and prints what came of them.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .transformer import FlowPainter, FlowRecipe  # first: lets the host and diffusers live in one process

# isort: split
from magicstyle.headless.digest import digest
from magicstyle.headless.pictures.sheet import contact_sheet
from magicstyle.model_files.demo import DEMO_TRANSFORMER
from torch import Tensor

from .kept import chunks_of, paint_kept
from .quality import FFA, SHOWN, STYLEID, Pairs, Row, measure, prepare, reduced, table, to_images
from .quality import TABLE as UNET_TABLE

TABLE, SHEET = (Path(__file__).with_name(f"quality_transformer.{kind}") for kind in ("md", "png"))
BATCH = 6
ROWS = (
    Row("plain reconstruction", None, 0.0),
    Row("styleid", STYLEID),
    Row("ffa, defaults", FFA),
)
SWEEP = {"query_preservation": (0.0, 0.25, 0.5, 0.65, 0.8), "temperature": (1.25, 1.75)}


def painted(painter: FlowPainter, content: Any, style: Any, row: Row) -> Tensor:
    """Pictures b 3 h w in 0..1 of one row, from two inversions."""
    if row.settings is None:
        return painter.reconstructed(content)
    return painter.painted(content, style, row.settings, row.adain)


def place(work: Path, row: Row, recipe: FlowRecipe, chunk: slice) -> Path:
    """Where a row's pictures of some pairs are kept; other weights or settings have other names."""
    facts = (row.settings, row.adain, recipe, BATCH, digest(DEMO_TRANSFORMER.read_bytes()))
    return work / f"{row.label}, {chunk.start}-{chunk.stop}, {digest(repr(facts).encode())[:8]}.safetensors"


def sample(pairs: Pairs, rows: Sequence[Row], recipe: FlowRecipe, work: Path, until: float) -> dict[Row, Tensor]:
    """The pictures b 3 h w in 0..1 of every row that is painted by `until`, of all pairs."""
    painters: list[FlowPainter] = []  # the host starts for what is missing only

    def painter(chunk: slice) -> Callable[[Row], Tensor]:
        if not painters:
            painters.append(FlowPainter(recipe))
        content = painters[0].inverted(pairs.contents[chunk], "content")
        style = painters[0].inverted(pairs.styles[chunk], "style")
        return lambda row: painted(painters[0], content, style, row)

    chunks = chunks_of(len(pairs.contents), BATCH)
    return paint_kept(rows, chunks, lambda row, chunk: place(work, row, recipe, chunk), painter, until)


def beside(text: str, count: int) -> list[str]:
    """The lines of the UNet's table for the same rows, if it is of as many pairs."""
    labels = [row.label for row in ROWS]
    rows = [line for line in text.splitlines() if line.removeprefix("| ").partition(" |")[0] in labels]
    return [f"| UNet: {line.removeprefix('| ')}" for line in rows] if text.startswith(f"{count} held-out pairs") else []


def compared(results: dict[Row, Tensor], pairs: Pairs, recipe: FlowRecipe) -> str:
    """The table, the UNet's rows below; writes the sheet."""
    labels = ["content", "style", *(row.label for row in results)]
    columns = [to_images(x[:SHOWN]) for x in (pairs.contents, pairs.styles, *results.values())]
    sheet = contact_sheet(list(zip(*columns, strict=True)), labels, tile=160)
    reduced(sheet, sheet.width).save(SHEET, optimize=True)
    scores = [measure(row.label, result, pairs) for row, result in results.items()]
    count, unet = len(pairs.contents), UNET_TABLE.read_text(encoding="utf-8")
    head, rule, *rows = table(scores).splitlines()
    rows = [f"| transformer: {line.removeprefix('| ')}" for line in rows] + beside(unet, count)
    facts = f"{count} held-out pairs, 256x256; transformer: {recipe.steps} steps of {recipe.method}, all blocks"
    return "\n".join((f"{facts}; UNet: as [quality.md](quality.md).", "", head, rule, *rows, ""))


def grid() -> list[Row]:
    """Settings of ffa to choose from."""
    rows = []
    for values in itertools.product(*SWEEP.values()):
        chosen = dict(zip(SWEEP, values, strict=True))
        label = " ".join(f"{name[0]}={value:g}" for name, value in chosen.items())
        rows.append(Row(label, replace(FFA, **chosen)))
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=66)
    parser.add_argument("--steps", type=int, default=FlowRecipe.steps)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is painted")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop painting after so many; a rerun goes on")
    parser.add_argument("--sweep", action="store_true", help="a grid of settings instead, best technique first")
    given = parser.parse_args()
    until, recipe = time.monotonic() + 60 * given.minutes, FlowRecipe(given.steps)
    given.work.mkdir(parents=True, exist_ok=True)
    pairs, rows = prepare(given.pairs), grid() if given.sweep else ROWS
    results = sample(pairs, rows, recipe, given.work, until)
    if given.sweep:
        scores = [measure(row.label, result, pairs) for row, result in results.items()]
        print(table(sorted(scores, key=lambda score: -score.technique)))
    elif len(results) < len(rows):
        print(f"{len(results)} of {len(rows)} rows are painted: run it again.")
    else:
        text = compared(results, pairs, recipe)
        TABLE.write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()

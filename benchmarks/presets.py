"""What the presets cost and give on the demo model: model calls, seconds, structure, style and technique.

    python -m benchmarks.presets        writes benchmarks/presets.md

Pairs as in benchmarks.quality, `ffa` at its defaults. Seconds are CPU time of one pair: both inversions, which start
from latents, and sampling; the ways take turns with every few pairs, and a figure is their median.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.core.presets import PRESETS, Preset
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import Recipe, invert, stylize
from torch import Tensor

from .quality import Pairs, measure, prepare

TABLE = Path(__file__).with_name("presets.md")
TOGETHER = 2  # pairs painted between two looks at the clock
WAYS = {
    **PRESETS,
    "the nodes' defaults": Preset(50, InversionSettings(), ""),
    "for comparison": Preset(12, InversionSettings(), ""),
}
HEAD = ["`--preset`", "`steps`, `method`", "model calls", "seconds", "technique", "structure", "style"]


class Painted(NamedTuple):
    """The pictures of one way, b 3 h w in 0..1, and the CPU seconds that a pair took."""

    results: Tensor
    seconds: float


@torch.inference_mode()
def paint(model: HeadlessModel, pairs: Pairs, recipes: Sequence[Recipe]) -> list[Painted]:
    """All pairs by every recipe in turn."""
    parts: list[list[Tensor]] = [[] for _ in recipes]
    spent: list[list[float]] = [[] for _ in recipes]
    for first in range(0, len(pairs.contents), TOGETHER):
        chunk = slice(first, first + TOGETHER)
        clean = [model.encode(picture[chunk] * 2 - 1) for picture in (pairs.contents, pairs.styles)]
        for number, recipe in enumerate(recipes):
            started = time.process_time()
            latent = stylize(model, *(invert(model, latent, recipe) for latent in clean), recipe)
            spent[number].append((time.process_time() - started) / len(latent))
            parts[number].append((model.decode(latent) + 1) / 2)
    return [Painted(torch.cat(shown), median(times)) for shown, times in zip(parts, spent, strict=True)]


def table(found: dict[str, Painted], pairs: Pairs) -> str:
    """The ways in Markdown."""
    lines = [HEAD, ["---", "---", *["---:"] * (len(HEAD) - 2)]]
    for name, way in WAYS.items():
        score = measure(name, found[name].results, pairs)
        looks = (f"{number:.3f}" for number in (score.structure, score.style))
        about = [f"`{name}`" if name in PRESETS else name, f"{way.steps}, `{way.inversion.method}`", str(way.calls)]
        lines.append([*about, f"{found[name].seconds:.1f}", f"{score.technique:.2f}", *looks])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=22)
    given = parser.parse_args()
    pairs = prepare(given.pairs)
    recipes = [replace(Recipe(), steps=way.steps, inversion=way.inversion) for way in WAYS.values()]
    painted = paint(load_demo_model(), pairs, recipes)
    text = f"{given.pairs} held-out pairs, 256x256, `ffa`.\n\n{table(dict(zip(WAYS, painted, strict=True)), pairs)}"
    TABLE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

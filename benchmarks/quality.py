"""What stylization does to drawn portraits that the demo model never saw, measured and shown.

    python -m benchmarks.quality                         the table and the contact sheet
    python -m benchmarks.quality --sweep --pairs 16      the knobs of ffa and styleid, and which settings are best

Structure is the mean of gradient correlation and edge F1 against the content. Style is what is left of the distance
between content and style, the mean of colour and texture: 1 is the content's own look, 0 the style's.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from magicstyle.core.fusion import FusionSettings
from magicstyle.headless.model import HeadlessModel, load_demo_model
from magicstyle.headless.sheet import contact_sheet
from magicstyle.headless.stylize import Inversion, Recipe, invert, reconstruct, stylize
from magicstyle.tools.demo_model.portraits import Portrait, portrait
from PIL import Image
from torch import Tensor

from .measures import Signature, edge_f1, fractions, gradient_correlation, psnr, signature

CONTENT_SEED, STYLE_SEED = 3_000_000, 4_000_000  # training draws the seeds from 0 on
REGIONS = ("hair", "face", "clothes", "background")
PARTS = ("all", *REGIONS)
BATCH = 16
SHOWN = 5
TABLE, SHEET, SWEEP = (Path(__file__).with_name(name) for name in ("quality.md", "quality.png", "sweep.md"))
STYLEID = FusionSettings("styleid", style_weight=1.0, query_preservation=0.75, temperature=1.5)
FFA = FusionSettings()
SWEEP_FFA = {
    "query_preservation": (0.5, 0.75),
    "content_weight": (0.01, 0.02, 0.03, 0.05, 0.1),
    "temperature": (1.25, 1.5, 2.0),
}
SWEEP_STYLEID = {"query_preservation": (0.25, 0.5, 0.75, 1.0), "temperature": (1.25, 1.5, 2.0)}


class Row(NamedTuple):
    """A way to sample: its settings (None: no fusion) and the strength of the initial latent's AdaIN."""

    label: str
    settings: FusionSettings | None
    adain: float = 1.0


ROWS = (
    Row("plain reconstruction", None, 0.0),
    Row("latent AdaIN only", None),
    Row("styleid", STYLEID),
    Row("masactrl", FusionSettings("masactrl")),
    Row("sac", FusionSettings("sac")),
    Row("seac", FusionSettings("seac", query_preservation=0.0)),
    Row("zstar", FusionSettings("zstar")),
    Row("style_aligned", FusionSettings("style_aligned")),
    Row("rsa", FusionSettings("rsa")),
    Row("diffstyler, no LoRA", FusionSettings("diffstyler")),
    Row("ffa, defaults", FFA),
    Row("ffa, no query preservation", replace(FFA, query_preservation=0.0)),
    Row("ffa, no AdaIN start", FFA, 0.0),
    Row("ffa, no content weight", replace(FFA, content_weight=0.0)),
)
SHEET_LABELS = (
    "content", "style", "reconstruction", "AdaIN only", "styleid", "masactrl", "sac", "seac", "zstar", "style_aligned",
    "rsa", "diffstyler", "ffa", "ffa: g = 0", "ffa: no AdaIN", "ffa: w_c = 0",
)  # fmt: skip


Looks = dict[str, Signature | None]  # by part of the picture


@dataclass(frozen=True)
class Pairs:
    """Contents and styles b 3 h w in 0..1, what is compared of them, and their inversions batch by batch."""

    contents: Tensor
    styles: Tensor
    masks: list[dict[str, Tensor]]  # of the contents
    looks: list[tuple[Looks, Looks]]  # of content and style
    inversions: list[tuple[Inversion, Inversion]]


class Score(NamedTuple):
    """One row of the table."""

    label: str
    psnr: float
    correlation: float
    f1: float
    colour: float
    texture: float
    regions: dict[str, float]

    @property
    def structure(self) -> float:
        """Structure kept: 1 is the content's own."""
        return (self.correlation + self.f1) / 2

    @property
    def style(self) -> float:
        """Style distance left: 0 is the style's own."""
        return (self.colour + self.texture) / 2


def draw(first: int, count: int) -> list[Portrait]:
    """Portraits of consecutive seeds."""
    return [portrait(first + i) for i in range(count)]


def pictures(portraits: Sequence[Portrait]) -> Tensor:
    """Portraits -> b 3 h w in 0..1."""
    return torch.from_numpy(np.stack([p.image for p in portraits])).permute(0, 3, 1, 2).float() / 255


def masks(drawn: Portrait) -> dict[str, Tensor]:
    """The regions of a portrait, bool h w."""
    return {name: torch.from_numpy(drawn.masks[name].copy()) for name in REGIONS}


def looks(picture: Tensor, regions: dict[str, Tensor]) -> Looks:
    """The signatures of a picture 3 h w and of its regions."""
    return {part: signature(picture, regions.get(part)) for part in PARTS}


def prepare(model: HeadlessModel, count: int, recipe: Recipe) -> Pairs:
    """Draw and invert all pairs."""
    content, style = draw(CONTENT_SEED, count), draw(STYLE_SEED, count)
    contents, styles = pictures(content), pictures(style)
    inversions = [
        tuple(invert(model, model.encode(x[i : i + BATCH] * 2 - 1), recipe, roles=roles) for x, roles in wanted)
        for wanted in [((contents, "qkv"), (styles, "qkv"))]
        for i in range(0, count, BATCH)
    ]
    regions = [masks(drawn) for drawn in content]
    both = [
        (looks(x, own), looks(y, masks(drawn)))
        for x, y, own, drawn in zip(contents, styles, regions, style, strict=True)
    ]
    return Pairs(contents, styles, regions, both, inversions)


def sample(model: HeadlessModel, pairs: Pairs, row: Row, recipe: Recipe) -> Tensor:
    """The pictures of a row: b 3 h w in 0..1."""
    latents = [_latents(model, content, style, row, recipe) for content, style in pairs.inversions]
    return torch.cat([(model.decode(latent) + 1) / 2 for latent in latents])


def _latents(model: HeadlessModel, content: Inversion, style: Inversion, row: Row, recipe: Recipe) -> Tensor:
    if row.settings is not None:
        return stylize(model, content, style, replace(recipe, settings=row.settings, adain=row.adain))
    if row.adain == 0.0:
        return reconstruct(model, content, recipe)
    # nothing weighs anything: the stream attends to itself
    nothing = FusionSettings(style_weight=0.0, content_weight=0.0, query_preservation=0.0, temperature=1.0)
    return stylize(model, content, style, replace(recipe, settings=nothing, adain=row.adain))


def measure(label: str, results: Tensor, pairs: Pairs) -> Score:
    """Everything that the table says about a row."""
    found = [looks(result, own) for result, own in zip(results, pairs.masks, strict=True)]
    colour, texture = _left(found, pairs, "all")
    return Score(
        label,
        float(psnr(results, pairs.contents).mean()),
        float(gradient_correlation(results, pairs.contents).mean()),
        float(edge_f1(results, pairs.contents).mean()),
        colour,
        texture,
        {region: sum(_left(found, pairs, region)) / 2 for region in REGIONS},
    )


def _left(results: Sequence[Looks], pairs: Pairs, part: str) -> tuple[float, float]:
    """What is left of the colour and texture distances, of whole pictures or region to region."""
    compared = [
        (result[part], content[part], style[part])
        for result, (content, style) in zip(results, pairs.looks, strict=True)
        if content[part] is not None and style[part] is not None
    ]
    after = [result.distance(style) for result, _, style in compared]
    return fractions(after, [content.distance(style) for _, content, style in compared])


def table(scores: Sequence[Score]) -> str:
    """The scores in Markdown."""
    head = ["", "PSNR dB", "gradient corr.", "edge F1", "**structure**", "colour", "texture", "**style**", *REGIONS]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for score in scores:
        numbers = (score.correlation, score.f1, score.structure, score.colour, score.texture, score.style)
        loop = f"{score.psnr:.1f}" if score.label == ROWS[0].label else ""
        regions = (f"{score.regions[region]:.2f}" for region in REGIONS)
        lines.append([score.label, loop, *(f"{number:.2f}" for number in numbers), *regions])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def front(scores: Sequence[Score]) -> list[Score]:
    """Those that no other beats in both structure and style."""
    return [a for a in scores if not any(b.structure > a.structure and b.style < a.style for b in scores)]


def structure_at(curve: Sequence[Score], style: float) -> float | None:
    """The best structure of a method at this style distance, between its settings in a straight line."""
    best = sorted(front(curve), key=lambda score: score.style)
    for a, b in itertools.pairwise(best):
        if a.style <= style <= b.style:
            share = (style - a.style) / max(b.style - a.style, 1e-9)
            return a.structure + share * (b.structure - a.structure)
    return None


def sheet(pairs: Pairs, results: Sequence[Tensor]) -> Image.Image:
    """Some pairs with every row's result."""
    columns = [to_images(x[:SHOWN]) for x in (pairs.contents, pairs.styles, *results)]
    return contact_sheet(list(zip(*columns, strict=True)), SHEET_LABELS, tile=128)


def to_images(x: Tensor) -> list[Image.Image]:
    """Pictures b 3 h w in 0..1 for Pillow."""
    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return [Image.fromarray(picture) for picture in pixels.numpy()]


def compare(model: HeadlessModel, count: int, recipe: Recipe) -> str:
    """All rows: writes the sheet, returns the table."""
    pairs = prepare(model, count, recipe)
    results = [sample(model, pairs, row, recipe) for row in ROWS]
    sheet(pairs, results).save(SHEET, optimize=True)
    scores = [measure(row.label, result, pairs) for row, result in zip(ROWS, results, strict=True)]
    own = measure("autoencoder alone", (model.decode(model.encode(pairs.contents * 2 - 1)) + 1) / 2, pairs)
    best = ", ".join(score.label for score in front(scores))
    facts = (
        f"{count} held-out pairs, {recipe.steps} steps, 128x128. Autoencoder alone: {own.psnr:.1f} dB. Front: {best}."
    )
    return f"{facts}\n\n{table(scores)}\n"


def sweep(model: HeadlessModel, count: int, recipe: Recipe) -> str:
    """Every setting of the grids, best structure first within each method."""
    pairs = prepare(model, count, recipe)
    rows = [*_grid("ffa", SWEEP_FFA), *_grid("styleid", SWEEP_STYLEID)]
    scores = {row: measure(row.label, sample(model, pairs, row, recipe), pairs) for row in rows}
    curve = [score for row, score in scores.items() if row.settings.method == "styleid"]
    best = front(list(scores.values()))
    lines = ["| setting | structure | style | hair | face | clothes | background | styleid there | front |"]
    lines.append("| --- |" + " ---: |" * 7 + " --- |")
    for score in sorted(scores.values(), key=lambda score: score.style):
        there = structure_at(curve, score.style)
        cells = [f"{score.structure:.3f}", f"{score.style:.3f}", *(f"{score.regions[name]:.2f}" for name in REGIONS)]
        cells += ["" if there is None else f"{there:.3f}", "front" if score in best else ""]
        lines.append("| " + " | ".join([score.label, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _grid(method: str, knobs: dict[str, tuple[float, ...]]) -> list[Row]:
    rows = []
    for values in itertools.product(*knobs.values()):
        chosen = dict(zip(knobs, values, strict=True))
        label = f"{method} " + " ".join(f"{name[0]}={value:g}" for name, value in chosen.items())
        rows.append(Row(label, FusionSettings(method, **chosen)))
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--sweep", action="store_true", help="try a grid of settings instead")
    given = parser.parse_args()
    started, recipe = time.perf_counter(), Recipe(steps=given.steps)
    text = (sweep if given.sweep else compare)(load_demo_model(), given.pairs, recipe)
    (SWEEP if given.sweep else TABLE).write_text(text, encoding="utf-8")
    print(text, f"({time.perf_counter() - started:.0f} s)", sep="\n")


if __name__ == "__main__":
    main()

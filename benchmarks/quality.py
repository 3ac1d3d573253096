"""What stylization does to drawings that the demo model never saw, measured and shown.

    python -m benchmarks.quality                         the table and the contact sheet
    python -m benchmarks.quality --sweep --pairs 33      the knobs of ffa and styleid, and which settings are best

Contents are flat drawings, styles are other portraits in the other techniques in turn. Technique is the share of
results that a classifier takes for the style's technique. Structure is the mean of gradient correlation and edge F1
against the content, both on means of 4x4 pixels, since finer gradients are what a technique must change. Style is what
is left of the distance between content and style on means of 2x2 pixels, the mean of colour and texture: 1 is the
content's own look, 0 the style's. Of the face: the distance in pixels at which a small network finds eyes, brows, nose
and mouth from where they were drawn, the structure inside these, and the technique inside the face.
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
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, Recipe, invert, reconstruct, stylize
from magicstyle.headless.pictures.sheet import contact_sheet
from magicstyle.tools.demo_model.landmarks import Face, face_of
from magicstyle.tools.demo_model.techniques import NAMES, Drawing, drawing
from PIL import Image
from torch import Tensor

from .faces import Likeness, likeness
from .measures import Signature, edge_f1, fractions, gradient_correlation, psnr, signature, smaller
from .technique import techniques

CONTENT_SEED, STYLE_SEED = 3_000_000, 4_000_000  # training draws the seeds from 0 on
REGIONS = ("hair", "face", "clothes", "background")
PARTS = ("all", *REGIONS)
BATCH = 8
SHOWN = 11
CONTENT_TECHNIQUE = "flat"
OTHERS = tuple(name for name in NAMES if name != CONTENT_TECHNIQUE)
STRUCTURE_CELL, LOOKS_CELL = 4, 2  # pixels of 256 whose mean is one pixel of what is measured
TABLE, SHEET, SWEEP = (Path(__file__).with_name(name) for name in ("quality.md", "quality.png", "sweep.md"))
STYLEID = FusionSettings("styleid", style_weight=1.0, query_preservation=0.75, temperature=1.5)
FFA = FusionSettings()
STRONG = replace(FFA, query_preservation=0.6)  # as the README names it
MILD = replace(FFA, content_weight=0.1, query_preservation=0.5, temperature=1.5)  # as docs/measurements.md names it
SWEEP_FFA = {
    "query_preservation": (0.5, 0.65, 0.75),
    "content_weight": (0.0, 0.003, 0.01, 0.1),
    "temperature": (1.5, 1.75),
}
SWEEP_STYLEID = {"query_preservation": (0.25, 0.5, 0.75, 1.0), "temperature": (1.5,)}


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
    Row("ffa, strong", STRONG),
    Row("ffa, no query preservation", replace(FFA, query_preservation=0.0)),
    Row("ffa, mild", MILD),
    Row("ffa, mild, no query preservation", replace(MILD, query_preservation=0.0)),
    Row("ffa, mild, no AdaIN start", MILD, 0.0),
)
SHEET_LABELS = (
    "content", "style", "reconstruction", "AdaIN only", "styleid", "masactrl", "sac", "seac", "zstar", "style_aligned",
    "rsa", "diffstyler", "ffa", "ffa: strong", "ffa: g = 0", "ffa: mild", "mild: g = 0", "mild: no AdaIN",
)  # fmt: skip


Looks = dict[str, Signature | None]  # by part of the picture


@dataclass(frozen=True)
class Pairs:
    """Contents and styles b 3 h w in 0..1, and what is compared of them."""

    contents: Tensor
    styles: Tensor
    redrawn: Tensor  # the content's portraits as the draughtsman draws them in the styles' techniques
    masks: list[dict[str, Tensor]]  # of the contents
    looks: list[tuple[Looks, Looks]]  # of content and style
    techniques: list[str]  # of the styles
    faces: list[Face]  # of the contents


class Score(NamedTuple):
    """One row of the table."""

    label: str
    psnr: float
    correlation: float
    f1: float
    colour: float
    texture: float
    technique: float
    regions: dict[str, float]
    likeness: Likeness

    @property
    def structure(self) -> float:
        """Structure kept: 1 is the content's own."""
        return (self.correlation + self.f1) / 2

    @property
    def style(self) -> float:
        """Style distance left: 0 is the style's own."""
        return (self.colour + self.texture) / 2


def draw(first: int, count: int) -> list[Drawing]:
    """Drawings of consecutive seeds, each in the technique of its seed."""
    return [drawing(first + i) for i in range(count)]


def pictures(drawings: Sequence[Drawing]) -> Tensor:
    """Drawings -> b 3 h w in 0..1."""
    return torch.from_numpy(np.stack([drawn.image for drawn in drawings])).permute(0, 3, 1, 2).float() / 255


def masks(drawn: Drawing) -> dict[str, Tensor]:
    """The regions of a drawing, bool h w."""
    return {name: torch.from_numpy(drawn.masks[name].copy()) for name in REGIONS}


def looks(picture: Tensor, regions: dict[str, Tensor]) -> Looks:
    """The signatures of a picture 3 h w and of its regions."""
    seen = smaller(picture[None], LOOKS_CELL)[0]
    parts = {name: mask[::LOOKS_CELL, ::LOOKS_CELL] for name, mask in regions.items()}
    return {part: signature(seen, parts.get(part)) for part in PARTS}


def prepare(count: int) -> Pairs:
    """Draw all pairs."""
    chosen = [OTHERS[i % len(OTHERS)] for i in range(count)]
    content = [drawing(CONTENT_SEED + i, CONTENT_TECHNIQUE) for i in range(count)]
    style, redrawn = (
        [drawing(first + i, technique) for i, technique in enumerate(chosen)] for first in (STYLE_SEED, CONTENT_SEED)
    )
    contents, styles = pictures(content), pictures(style)
    regions = [masks(drawn) for drawn in content]
    both = [
        (looks(x, own), looks(y, masks(drawn)))
        for x, y, own, drawn in zip(contents, styles, regions, style, strict=True)
    ]
    faces = [face_of(CONTENT_SEED + i) for i in range(count)]
    return Pairs(contents, styles, pictures(redrawn), regions, both, chosen, faces)


def sample(model: HeadlessModel, pairs: Pairs, rows: Sequence[Row], recipe: Recipe) -> list[Tensor]:
    """The pictures of every row: b 3 h w in 0..1; the features of a few pairs at a time are kept."""
    parts = []
    for contents, styles in zip(pairs.contents.split(BATCH), pairs.styles.split(BATCH), strict=True):
        content, style = (invert(model, model.encode(x * 2 - 1), recipe) for x in (contents, styles))
        latents = [_latents(model, content, style, row, recipe) for row in rows]
        parts.append([(model.decode(latent) + 1) / 2 for latent in latents])
    return [torch.cat(found) for found in zip(*parts, strict=True)]


def _latents(
    model: HeadlessModel, content: InvertedPicture, style: InvertedPicture, row: Row, recipe: Recipe
) -> Tensor:
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
    coarse, wanted = smaller(results, STRUCTURE_CELL), smaller(pairs.contents, STRUCTURE_CELL)
    named = techniques(results)
    return Score(
        label,
        float(psnr(results, pairs.contents).mean()),
        float(gradient_correlation(coarse, wanted).mean()),
        float(edge_f1(coarse, wanted).mean()),
        colour,
        texture,
        sum(a == b for a, b in zip(named, pairs.techniques, strict=True)) / len(named),
        {region: sum(_left(found, pairs, region)) / 2 for region in REGIONS},
        likeness(results, pairs.contents, pairs.faces, pairs.techniques),
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
    head = ["", "PSNR dB", "**technique**", "gradient corr.", "edge F1", "**structure**"]
    head += ["colour", "texture", "**style**", *REGIONS, "landmarks, px", "features' structure", "face technique"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for score in scores:
        numbers = (score.technique, score.correlation, score.f1, score.structure)
        numbers += (score.colour, score.texture, score.style)
        loop = f"{score.psnr:.1f}" if score.label == ROWS[0].label else ""
        regions = (f"{score.regions[region]:.2f}" for region in REGIONS)
        face = (f"{number:.2f}" for number in score.likeness)
        lines.append([score.label, loop, *(f"{number:.2f}" for number in numbers), *regions, *face])
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


def reduced(picture: Image.Image, width: int = 1400) -> Image.Image:
    """A sheet in a size and number of colours that a repository can hold."""
    height = round(picture.height * width / picture.width)
    return picture.resize((width, height), Image.Resampling.LANCZOS).quantize(256, kmeans=1)


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
    pairs = prepare(count)
    results = sample(model, pairs, ROWS, recipe)
    reduced(sheet(pairs, results)).save(SHEET, optimize=True)
    scores = [measure(row.label, result, pairs) for row, result in zip(ROWS, results, strict=True)]
    own = psnr((model.decode(model.encode(pairs.contents * 2 - 1)) + 1) / 2, pairs.contents).mean()
    best = ", ".join(score.label for score in front(scores))
    facts = f"{count} held-out pairs, {recipe.steps} steps, 256x256. Autoencoder alone: {own:.1f} dB. Front: {best}."
    ends = {"the style picture itself": pairs.styles, "the content redrawn in the technique": pairs.redrawn}
    scores += [measure(label, shown, pairs) for label, shown in ends.items()]
    return f"{facts}\n\n{table(scores)}\n"


def sweep(model: HeadlessModel, count: int, recipe: Recipe) -> str:
    """Every setting of the grids, best structure first within each method."""
    pairs = prepare(count)
    rows = [*_grid("ffa", SWEEP_FFA), *_grid("styleid", SWEEP_STYLEID)]
    results = sample(model, pairs, rows, recipe)
    scores = {row: measure(row.label, result, pairs) for row, result in zip(rows, results, strict=True)}
    curve = [score for row, score in scores.items() if row.settings.method == "styleid"]
    best = front(list(scores.values()))
    lines = [
        f"{count} held-out pairs, {recipe.steps} steps, 256x256: query preservation q, content weight c, temperature t."
    ]
    lines += [
        "",
        "| setting | technique | structure | style | hair | face | clothes | background | styleid there | front |",
    ]
    lines.append("| --- |" + " ---: |" * 8 + " --- |")
    for score in sorted(scores.values(), key=lambda score: score.style):
        there = structure_at(curve, score.style)
        cells = [f"{score.technique:.2f}", f"{score.structure:.3f}", f"{score.style:.3f}"]
        cells += [*(f"{score.regions[name]:.2f}" for name in REGIONS)]
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
    parser.add_argument("--pairs", type=int, default=66)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--sweep", action="store_true", help="try a grid of settings instead")
    given = parser.parse_args()
    started, recipe = time.perf_counter(), Recipe(steps=given.steps)
    text = (sweep if given.sweep else compare)(load_demo_model(), given.pairs, recipe)
    (SWEEP if given.sweep else TABLE).write_text(text, encoding="utf-8")
    print(text, f"({time.perf_counter() - started:.0f} s)", sep="\n")


if __name__ == "__main__":
    main()

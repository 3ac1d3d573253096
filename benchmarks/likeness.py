"""The face kept against the style taken: global settings, and a mask on the face, on drawings that are held out.

    python -m benchmarks.likeness --work DIR     the table, the plot and the pictures; what is painted lies in DIR

Pairs as in benchmarks.quality. A row is a setting of `ffa`, with or without a mask of the face on `keep`. Landmarks is
the distance, in pixels of 256, between where eyes, brows, nose and mouth are drawn and where a small network sees them
in the result. Style is that of the whole picture.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion_methods import sample_back
from magicstyle.core.noise_pair import NoisePair
from magicstyle.core.regions import keep_mask
from magicstyle.headless.digest import digest
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, Recipe, fused, invert, paint
from magicstyle.headless.pictures.sheet import contact_sheet
from magicstyle.model_files.demo import DEMO_MODEL
from magicstyle.tools.demo_model.landmarks import Face
from PIL import Image
from torch import Tensor

from .faces import soft_mask
from .kept import chunks_of, paint_kept
from .quality import BATCH, Pairs, Score, measure, prepare, to_images

TABLE = Path(__file__).with_name("likeness.md")
PLOT, FACES = Path(__file__).parents[1] / "docs" / "likeness.png", Path(__file__).with_name("likeness_faces.png")
SHOWN = slice(0, 4)
PARTS = {"face": "oval", "features": "features"}


class Way(NamedTuple):
    """A way to paint: query preservation and content weight, the mask that keeps, and how the preservation ends."""

    preservation: float
    weight: float
    keep: str = ""  # a key of PARTS
    strength: float = 1.0
    last: float | None = None  # the query preservation of the last step, towards which it goes evenly

    def __str__(self) -> str:
        kept = f", keep {self.keep} {self.strength:g}" if self.keep else ""
        changing = "" if self.last is None else f" to {self.last:g}"
        return f"g={self.preservation:g}{changing} wc={self.weight:g}{kept}"


GLOBAL = [Way(g, 0.0) for g in (0.0, 0.25, 0.5, 0.75)]
KEPT = [Way(g, 0.0, "face") for g in (0.0, 0.25)]
TIMED = [Way(1.0, 0.0, last=0.0), Way(0.0, 0.0, last=1.0)]


def painted(
    model: HeadlessModel,
    content: InvertedPicture,
    style: InvertedPicture,
    faces: Sequence[Face],
    way: Way,
    recipe: Recipe,
) -> Tensor:
    """Pictures b 3 h w in 0..1 of one way."""
    settings = FusionSettings(query_preservation=way.preservation, content_weight=way.weight)
    recipe = replace(recipe, settings=settings)
    keep = None
    if way.keep:
        masks = torch.cat([soft_mask(face, PARTS[way.keep]) for face in faces])
        keep = keep_mask(masks, way.strength, len(faces))
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    begin = content.noise_pair.map(adain_map(content.noise, style.noise, recipe.adain))
    if way.last is None:
        latent = paint(model, bank, begin, recipe, keep=keep)
    else:
        latent = _paint_changing(model, bank, begin, recipe, way.last)
    return (model.decode(latent) + 1) / 2


@torch.inference_mode()
def _paint_changing(model: HeadlessModel, bank: FeatureBank, begin: NoisePair, recipe: Recipe, last: float) -> Tensor:
    """Sampled with a query preservation that goes evenly from the recipe's to `last`."""
    levels = recipe.sigmas[:-1].tolist()
    shares = torch.linspace(recipe.settings.query_preservation, last, len(levels)).tolist()
    steps = [replace(recipe, settings=replace(recipe.settings, query_preservation=share)) for share in shares]
    each = [fused(model, bank, step) for step in steps]

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        now = min(range(len(levels)), key=lambda i: abs(levels[i] - float(sigma[0])))
        return each[now](x, sigma)

    return sample_back(denoised, begin, recipe.sigmas, recipe.inversion.method)


def sample(
    model: HeadlessModel, pairs: Pairs, ways: Sequence[Way], recipe: Recipe, work: Path, until: float
) -> dict[Way, Tensor]:
    """The pictures of every way that is painted by `until`; what is painted is kept in `work`, b 3 h w in 0..1."""
    weights = digest(DEMO_MODEL.read_bytes())[:8]

    def place(way: Way, chunk: slice) -> Path:
        return work / f"{way}; {recipe.steps} steps, {weights}, {chunk.start}-{chunk.stop}.safetensors"

    def painter(chunk: slice) -> Callable[[Way], Tensor]:
        content, style = (invert(model, model.encode(x[chunk] * 2 - 1), recipe) for x in (pairs.contents, pairs.styles))
        return lambda way: painted(model, content, style, pairs.faces[chunk], way, recipe)

    return paint_kept(ways, chunks_of(len(pairs.contents), BATCH), place, painter, until)


def error_at(curve: Sequence[Score], style: float) -> float | None:
    """The least landmark error of some settings at a style distance, between them in a straight line."""
    ordered = sorted(curve, key=lambda score: score.style)
    best = [a for a in ordered if not any(_error(b) < _error(a) and b.style < a.style for b in ordered)]
    for a, b in itertools.pairwise(best):
        if a.style <= style <= b.style:
            return _error(a) + (style - a.style) / max(b.style - a.style, 1e-9) * (_error(b) - _error(a))
    return _error(best[-1]) if style > best[-1].style else None


def _error(score: Score) -> float:
    return score.likeness.landmarks


def table(scores: dict[Way, Score], ends: Sequence[Score]) -> str:
    """The rows in Markdown, best style first; the last column is the global settings' error at the same style."""
    head = ["setting", "style", "technique", "structure", "landmarks, px", "features' structure", "face technique"]
    head += ["face style", "landmarks of the best global setting there", "less by"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    curve = [score for way, score in scores.items() if not way.keep and way.last is None]
    for way, score in sorted(scores.items(), key=lambda item: item[1].style):
        there = error_at(curve, score.style) if way.keep or way.last is not None else None
        compared = ["", ""] if there is None else [f"{there:.2f}", f"{1 - _error(score) / there:.0%}"]
        lines.append([str(way), *_cells(score), *compared])
    lines += [[score.label, *_cells(score), "", ""] for score in ends]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cells(score: Score) -> list[str]:
    face = score.likeness
    numbers = (score.style, score.technique, score.structure)
    rest = (face.structure, face.technique, score.regions["face"])
    return [*(f"{x:.2f}" for x in numbers), f"{face.landmarks:.2f}", *(f"{x:.2f}" for x in rest)]


def plot(scores: dict[Way, Score], path: Path) -> None:
    """Landmark error against style distance, a line for the global settings and one for each mask."""
    from .likeness_plot import Curve, draw

    kinds: dict[str, Callable[[Way], bool]] = {
        "one setting for the whole picture": lambda way: not way.keep and way.last is None and way.weight == 0.0,
        "keep on the face": lambda way: way.keep == "face",
    }
    curves = []
    for name, belongs in kinds.items():
        rows = sorted((score for way, score in scores.items() if belongs(way)), key=lambda score: score.style)
        curves.append(Curve(name, [(score.style, _error(score), score.likeness.technique) for score in rows]))
    draw(curves).save(path, optimize=True)


def sheet(pairs: Pairs, results: dict[Way, Tensor]) -> Image.Image:
    """A few pairs without and with the mask of the face."""
    ways = (Way(0.25, 0.0), Way(0.25, 0.0, "face"))
    shown = [to_images(x[SHOWN]) for x in (pairs.contents, pairs.styles, *(results[way] for way in ways))]
    return contact_sheet(list(zip(*shown, strict=True)), ("portrait", "style", "no mask", "face kept"), tile=224)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is painted")
    parser.add_argument("--timed", action="store_true", help="also a query preservation that changes over the steps")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop painting after so many; a rerun goes on")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    given.work.mkdir(parents=True, exist_ok=True)
    pairs, recipe = prepare(given.pairs), Recipe(steps=given.steps)
    ways = [*GLOBAL, *KEPT, *(TIMED if given.timed else [])]
    results = sample(load_demo_model(), pairs, ways, recipe, given.work, until)
    if len(results) < len(ways):
        print(f"{len(results)} of {len(ways)} settings are painted: run it again.")
        return
    scores = {way: measure(str(way), result, pairs) for way, result in results.items()}
    known = {"the portrait itself": pairs.contents, "the portrait redrawn in the technique": pairs.redrawn}
    ends = [measure(label, shown, pairs) for label, shown in known.items()]
    text = f"{given.pairs} held-out pairs, {given.steps} steps, 256x256, `ffa`.\n\n{table(scores, ends)}"
    TABLE.write_text(text, encoding="utf-8")
    plot(scores, PLOT)
    sheet(pairs, results).quantize(256, kmeans=1).save(FACES, optimize=True)
    print(text)


if __name__ == "__main__":
    main()

"""How near features of every n-th noise level come to the picture of every level's, on the demo model.

    python -m benchmarks.every                                  ffa on 16 held-out pairs, every 5th level
    python -m benchmarks.every --methods rsa zstar --pairs 4    other methods
    python -m benchmarks.every --latents --pairs 4              replayed latents instead of features

A pair is a flat drawing and a portrait in one of the other techniques, as in benchmarks.quality. Each is inverted once
with the features of all levels kept; those of every n-th level are taken from them, which is what an inversion with
`level_stride` keeps (tests/headless/test_every.py). Of each method, at its defaults: PSNR between the two pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import NamedTuple

import torch
from magicstyle.banks.stored_features import ResNetInputs, StoredFeatures
from magicstyle.core.features import RESNET, ROLES
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import InvertedPicture, invert, stylize
from magicstyle.tools.demo_model.techniques import drawing
from torch import Tensor

from .measures import psnr
from .quality import CONTENT_SEED, CONTENT_TECHNIQUE, OTHERS, STYLE_SEED, pictures


class Pair(NamedTuple):
    """The inversions of a content and a style that keep every level, and those that keep fewer."""

    whole: tuple[InvertedPicture, InvertedPicture]
    grouped: tuple[InvertedPicture, InvertedPicture]


def grouped(inversion: InvertedPicture, every: int) -> InvertedPicture:
    """What an inversion that keeps one level in `every` would have kept."""
    features = inversion.features
    header = replace(features.header, every=every)
    kept = list(header.groups.kept)
    stacks = {
        (layer, role): features.tensors[f"{layer}.{role}"][kept]
        for layer in header.layers
        for role in features.roles.replace(RESNET, "")
    }
    entering = features.resnet
    resnet = None if entering is None else ResNetInputs(entering.layer, entering.stack[kept])
    return inversion._replace(features=StoredFeatures(header, stacks, features.noise_pair, resnet=resnet))


def pair(model: HeadlessModel, number: int, recipe: Recipe, every: int, *, latents: bool) -> Pair:
    """Held-out pair `number`."""
    content = drawing(CONTENT_SEED + number, CONTENT_TECHNIQUE)
    style = drawing(STYLE_SEED + number, OTHERS[number % len(OTHERS)])
    clean = [model.encode(picture[None] * 2 - 1) for picture in pictures([content, style])]
    whole = [invert(model, latent, recipe, roles=ROLES + RESNET) for latent in clean]
    coarse = replace(recipe, every=every)
    fewer = [invert(model, latent, coarse, storage="latents") for latent in clean] if latents else []
    return Pair(tuple(whole), tuple(fewer or (grouped(found, every) for found in whole)))


def likeness(model: HeadlessModel, found: Pair, recipe: Recipe) -> float:
    """PSNR in dB between the pictures of all levels and of fewer."""
    whole, fewer = (shown(model, stylize(model, *both, recipe)) for both in found)
    return float(psnr(fewer, whole))


def shown(model: HeadlessModel, latent: Tensor) -> Tensor:
    """b c h w -> a picture b 3 h w in 0..1."""
    return (model.decode(latent) + 1) / 2


@torch.inference_mode()
def measure(methods: Sequence[str], pairs: Sequence[int], steps: int, every: int, *, latents: bool) -> None:
    """Print each pair's figures as they come, then the means."""
    model, recipe = load_demo_model(), Recipe(steps=steps)
    found: dict[str, list[float]] = {method: [] for method in methods}
    for number in pairs:
        both = pair(model, number, recipe, every, latents=latents)
        for method in methods:
            found[method].append(likeness(model, both, replace(recipe, settings=FusionSettings(method))))
            print(f"pair {number}: {method} {found[method][-1]:.1f} dB", flush=True)
    for method, values in found.items():
        print(f"{method}: mean {mean(values):.1f} dB, least {min(values):.1f} dB, of {len(values)} pairs")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(FUSIONS), default=["ffa"])
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--first", type=int, default=0, help="number of the first pair, to measure in parts")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--latents", action="store_true", help="keep latents of every n-th level and replay them")
    given = parser.parse_args()
    pairs = range(given.first, given.first + given.pairs)
    measure(given.methods, pairs, given.steps, given.every, latents=given.latents)


if __name__ == "__main__":
    main()

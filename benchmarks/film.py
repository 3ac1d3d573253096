"""How much a stylized film flickers on the demo model: a drawn portrait whose true motion is known.

    python -m benchmarks.film                       two films of six frames, 20 steps
    python -m benchmarks.film --films 1 --frames 4  a shorter look; --write FOLDER keeps the frames as PNGs
    python -m benchmarks.film --fade 0.5            the light goes down to a half from the first frame to the last

A head moves, tilts, turns and blinks while a camera pans. The drawing says where each pixel was in the frame before.
Flicker is the mean absolute difference between a frame and the one before, warped onto it, over the pixels where the
content itself agrees with that warp; `in place` is the same without the warp. Style left and structure are those of
benchmarks.quality, technique the share of frames that a classifier takes for the style's. Fade is how much of the
content's change of brightness over the frames the result has: the slope of one over the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from magicstyle.attention_patches.call import Call, Handler, Handlers
from magicstyle.attention_patches.views import step_views
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.controls import StyleControls
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion_methods import InversionSettings, sample_back
from magicstyle.core.schedule import LEVELS
from magicstyle.headless.engine.fused_model import FusedModel
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import InvertedPicture, invert, reconstruct
from magicstyle.tools.demo_model.portraits import Portrait, Shape, on_picture, portrait, shape_of
from magicstyle.tools.demo_model.techniques import drawing
from PIL import Image
from torch import Tensor

from .measures import fractions, gradient_correlation, signature
from .quality import CONTENT_SEED, OTHERS, STYLE_SEED, pictures
from .technique import techniques

SIZE, CANVAS = 256, 288  # pixels of a frame, and of the drawing that the camera pans over
AGREES = 0.06  # of the content's own colours under a warp
Array = np.ndarray


class Film(NamedTuple):
    """Frames b 3 h w in 0..1, and of each but the first where its pixels were in the one before, b h w 2 in -1..1."""

    frames: Tensor
    before: Tensor
    light: Tensor  # b: what the drawing's colours were multiplied by in each frame


class Setting(NamedTuple):
    """A way to paint a film: the method, and what its frames share."""

    name: str
    settings: FusionSettings
    together: bool = False  # one mean and spread in the initial latent for all frames
    inversion: str = "ddim"
    over_time: bool = False  # running keys and values of all frames for each
    one_start: bool = False  # the first frame's initial latent for all


def posed(share: float, *, blink: bool) -> Callable[[Shape], Shape]:
    """The shape of a frame at -1..1 of the film."""

    def pose(shape: Shape) -> Shape:
        eyes = "closed" if blink else shape.eyes
        moved = {"x": shape.x + 0.025 * share, "y": shape.y + 0.01 * share * share, "tilt": shape.tilt + 0.08 * share}
        return replace(shape, **moved, gaze=shape.gaze + 0.1 * share, eyes=eyes)

    return pose


def pan(frame: int) -> tuple[int, int]:
    """Where the camera stands on the canvas, x and y in pixels."""
    return 3 * frame, 2 * frame


def drawn_film(seed: int, count: int, fade: float = 1.0) -> Film:
    """A film of a held-out portrait, drawn flat; its light goes from 1 to `fade`."""
    shares = [2.0 * t / max(1, count - 1) - 1.0 for t in range(count)]
    poses = [posed(share, blink=t == count // 2) for t, share in enumerate(shares)]
    drawn = [portrait(seed, size=CANVAS, plain=True, pose=pose) for pose in poses]
    shapes = [pose(shape_of(seed)) for pose in poses]
    frames = []
    for t, each in enumerate(drawn):
        x, y = pan(t)
        frames.append(torch.from_numpy(each.image[y : y + SIZE, x : x + SIZE].copy()).permute(2, 0, 1).float() / 255)
    before = [origins(drawn[t], shapes[t], shapes[t - 1], t) for t in range(1, count)]
    light = torch.linspace(1.0, fade, count)
    return Film(torch.stack(frames) * light.view(-1, 1, 1, 1), torch.stack(before), light)


def origins(drawn: Portrait, now: Shape, then: Shape, frame: int) -> Tensor:
    """Where each pixel of a frame was in the frame before: h w 2, (x, y) in -1..1."""
    x, y = pan(frame)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float64)
    points = np.stack([columns + x + 0.5, rows + y + 0.5], axis=-1).reshape(-1, 2) / CANVAS
    labels = {name: mask[y : y + SIZE, x : x + SIZE].reshape(-1) for name, mask in drawn.masks.items()}
    found = points.copy()
    head = labels["face"] | labels["hair"]
    found[head] = on_picture(then, in_head(now, points[head]))
    found[labels["clothes"], 0] += then.x - now.x
    x, y = pan(frame - 1)
    pixels = found * CANVAS - np.array([x, y])
    return torch.from_numpy(2 * pixels / SIZE - 1).view(SIZE, SIZE, 2).float()


def in_head(shape: Shape, points: Array) -> Array:
    """The inverse of `on_picture`: n 2 -> n 2."""
    x, y = (points - np.array([shape.x, shape.y + shape.height])).T
    cos, sin = np.cos(shape.tilt), np.sin(shape.tilt)
    return np.stack([(x * cos + y * sin) / shape.width, (y * cos - x * sin) / shape.height + 1], axis=1)


def warped(frames: Tensor, before: Tensor) -> Tensor:
    """Each frame but the last as it looks in the next one: b 3 h w, b h w 2 -> b 3 h w."""
    return F.grid_sample(frames[:-1], before, align_corners=False, padding_mode="border")


def seen_before(film: Film) -> Tensor:
    """Where the content agrees with its own motion: b 1 h w, bool."""
    inside = (film.before.abs() < 1).all(dim=-1).unsqueeze(1)
    frames = film.frames / film.light.view(-1, 1, 1, 1)
    off = (warped(frames, film.before) - frames[1:]).abs().amax(dim=1, keepdim=True)
    return inside & (off < AGREES)


def flicker(frames: Tensor, film: Film) -> tuple[float, float]:
    """What changes between frames b 3 h w beside the motion, in 1/255, and what changes in place."""
    seen = seen_before(film).expand(-1, 3, -1, -1)
    along = (warped(frames, film.before) - frames[1:]).abs()[seen].mean()
    return 255 * float(along), 255 * float((frames[:-1] - frames[1:]).abs()[seen].mean())


def seeing_all_frames(handler: Handler) -> Handler:
    """A handler to whom every frame's call shows the running keys and values of all."""

    def handle(call: Call) -> Tensor | None:
        """b n c."""
        rows = call.live.q.shape[0]
        shared = {role: rearrange(getattr(call.live, role), "b n c -> 1 (b n) c").expand(rows, -1, -1) for role in "kv"}
        return handler(call._replace(live=call.live.replace(**shared)))

    return handle


def painted(model: HeadlessModel, content: InvertedPicture, style: InvertedPicture, way: Setting, steps: int) -> Tensor:
    """The latent of a film of frames b c h w."""
    recipe = recipe_of(way, steps)
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    with_bank = FusedModel(model, bank, recipe)
    moved = adain_map(content.noise, style.noise, together=way.together)
    start = content.noise_pair.map(moved)
    if way.one_start:
        start = start.map(lambda latent: latent[:1].expand_as(latent))

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """b c h w, sigma b -> b c h w."""
        level, noise = float(sigma[0]), float(model.timesteps(sigma[:1])) / LEVELS
        views = step_views(with_bank.patch, bank, level, with_bank.rerun_like(x))
        handlers = with_bank.patch.handlers(views, with_bank.patch.moment(level, noise))
        if way.over_time:
            handlers = Handlers(seeing_all_frames(handlers.attention))
        with model.hooks.answered_by(handlers):
            return model.denoised(x, sigma)

    return sample_back(denoised, start, recipe.sigmas, recipe.inversion.method)


def recipe_of(way: Setting, steps: int) -> Recipe:
    """How the engine paints a setting."""
    return Recipe(way.settings, steps, inversion=InversionSettings(way.inversion))


def settings(frames: int) -> list[Setting]:
    """What is compared; where all frames are seen a style weighs as much beside them as beside one."""
    zstar, aligned = FusionSettings("zstar"), FusionSettings("style_aligned")
    together = StyleControls(frames_together=True)
    return [
        Setting("ffa, frame by frame", FusionSettings()),
        Setting("ffa, common statistics", FusionSettings(), together=True),
        Setting("ffa, common statistics, one noise", FusionSettings(), together=True, inversion="noising"),
        Setting("ffa, common statistics, one start", FusionSettings(), together=True, one_start=True),
        Setting("ffa, preservation 1", FusionSettings(query_preservation=1.0)),
        Setting("ffa, midpoint", FusionSettings(), inversion="midpoint"),
        Setting("ffa, midpoint, preservation 1", FusionSettings(query_preservation=1.0), inversion="midpoint"),
        Setting("ffa, midpoint, content weight 0.01", FusionSettings(content_weight=0.01), inversion="midpoint"),
        Setting("gar, midpoint", FusionSettings("gar"), inversion="midpoint"),
        Setting(
            "gar, midpoint, common statistics",
            FusionSettings("gar", controls=together),
            together=True,
            inversion="midpoint",
        ),
        Setting("style_aligned, frame by frame", aligned),
        Setting("style_aligned, common statistics", replace(aligned, controls=together), together=True),
        Setting("zstar, frame by frame", zstar),
        Setting("zstar, common statistics", zstar, together=True),
        Setting(
            "zstar, common statistics, keys over time",
            replace(zstar, style_weight=float(frames)),
            together=True,
            over_time=True,
        ),
        Setting(
            "zstar, common statistics, keys over time, one noise",
            replace(zstar, style_weight=float(frames)),
            together=True,
            over_time=True,
            inversion="noising",
        ),
    ]


class Score(NamedTuple):
    """Of one film in one setting."""

    along: float  # flicker along the motion
    in_place: float
    structure: float
    colour: float  # of the style's distance, what is left
    texture: float
    technique: float
    fade: float


def faded(frames: Tensor, film: Film) -> float:
    """The slope of the brightness of frames b 3 h w over the film's; 0 where the film's light stays."""
    ours, own = (x.mean((1, 2, 3)) - x.mean() for x in (frames, film.frames))
    return float((ours * own).sum() / (own * own).sum()) if bool((film.light != 1).any()) else 0.0


def score(frames: Tensor, film: Film, style: Tensor, technique: str) -> Score:
    """Frames b 3 h w, a style 3 h w."""
    target = signature(style)
    pairs = [
        (signature(after).distance(target), signature(first).distance(target))
        for after, first in zip(frames, film.frames, strict=True)
    ]
    left = fractions([after for after, _ in pairs], [first for _, first in pairs])
    named = techniques(frames)
    return Score(
        *flicker(frames, film),
        float(gradient_correlation(frames, film.frames).mean()),
        *left,
        named.count(technique) / len(named),
        faded(frames, film),
    )


def shown(model: HeadlessModel, latent: Tensor) -> Tensor:
    """b c h w -> pictures b 3 h w in 0..1."""
    return ((model.decode(latent) + 1) / 2).clamp(0, 1)


@torch.inference_mode()
def measure(films: int, frames: int, steps: int, folder: Path | None, fade: float = 1.0) -> dict[str, list[Score]]:
    """Every setting on every film, printed as they come."""
    model, scores = load_demo_model(), dict[str, list[Score]]()

    def note(name: str, painted: Tensor, film: Film, style: Tensor, technique: str) -> None:
        """Frames b 3 h w, a style 3 h w."""
        scores.setdefault(name, []).append(score(painted, film, style, technique))
        print(f"film {len(scores[name]) - 1}: {line(name, scores[name][-1:])}", flush=True)
        if folder is not None:
            sheet = rearrange(painted, "b c h w -> h (b w) c").mul(255).round().byte().numpy()
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sheet).save(folder / f"{len(scores[name]) - 1} {name}.png")

    for number in range(films):
        film, technique = drawn_film(CONTENT_SEED + number, frames, fade), OTHERS[number * 5 % len(OTHERS)]
        (style,) = pictures([drawing(STYLE_SEED + number, technique)])
        clean, styled = (model.encode(x * 2 - 1) for x in (film.frames, style[None]))
        note("the film itself", film.frames, film, style, technique)
        inverted: dict[str, tuple[InvertedPicture, InvertedPicture]] = {}
        for way in settings(frames):
            if way.inversion not in inverted:
                recipe = recipe_of(way, steps)
                inverted[way.inversion] = invert(model, clean, recipe), invert(model, styled, recipe)
                if way.inversion == "ddim":
                    note(
                        "plain reconstruction",
                        shown(model, reconstruct(model, inverted["ddim"][0], recipe)),
                        film,
                        style,
                        technique,
                    )
            latent = painted(model, *inverted[way.inversion], way, steps)
            note(way.name, shown(model, latent), film, style, technique)
    return scores


def line(name: str, found: Sequence[Score]) -> str:
    """A row of the table."""
    along, in_place, *shares = (sum(column) / len(found) for column in zip(*found, strict=True))
    return " | ".join([f"| {name}", f"{along:.1f}", f"{in_place:.1f}", *(f"{share:.2f}" for share in shares)]) + " |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=2)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--fade", type=float, default=1.0, help="the light of the last frame, of that of the first")
    parser.add_argument("--write", type=Path, help="a folder for the frames side by side")
    given = parser.parse_args()
    scores = measure(given.films, given.frames, given.steps, given.write, given.fade)
    columns = "flicker along the motion", "in place", "structure", "colour left", "texture left", "technique", "fade"
    print(" | ".join(["\n| setting", *columns]) + " |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, found in scores.items():
        print(line(name, found))


if __name__ == "__main__":
    main()

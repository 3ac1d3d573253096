"""What is shown in this repository: photographs, styles, regions painted on photographs, and a painter of them.

assets/PROVENANCE.md names the photographs and paintings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.core.noise_pair import NoisePair
from magicstyle.core.presets import PRESETS
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, invert, paint
from magicstyle.headless.pictures.reading import read_picture, to_images, to_tensor
from magicstyle.model_files.demo import ASSETS, DEMO_CONTENT, DEMO_STYLE
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from torch import Tensor

from .parameters import SIZE, FusionSettings, Recipe

GALLERY = ASSETS / "gallery"
FILES = {
    "collins": DEMO_CONTENT,
    "hopper": GALLERY / "grace_hopper.jpg",
    "Hokusai": DEMO_STYLE,
    "van Gogh": GALLERY / "cafe_terrace.jpg",
}
# twice as large, so that a stroke is as wide as a token of the demo model: left, top, right, bottom in a painting
DETAILS = {
    "Tanguy": (GALLERY / "pere_tanguy.jpg", (96, 60, 288, 316)),
    "Arcimboldo": (GALLERY / "arcimboldo_spring.jpg", (60, 30, 252, 286)),
}
SOFT = 4  # pixels by which the brush blurs a region's edge
Outline = tuple[tuple[int, int], ...]
# fmt: off
COLLINS: Outline = (
    (80, 114), (86, 91), (106, 71), (137, 54), (166, 34), (200, 26), (240, 29), (271, 43), (294, 63), (311, 94),
    (316, 131), (311, 166), (294, 194), (274, 208), (263, 220), (254, 246), (243, 280), (268, 294), (297, 326),
    (317, 366), (321, 377), (354, 394), (384, 423), (384, 512), (0, 512), (0, 343), (14, 331), (17, 303), (34, 280),
    (51, 257), (86, 243), (126, 237), (124, 211), (111, 200), (91, 177), (83, 148),
)
COLLINS_FACE: Outline = (
    (132, 123), (171, 134), (223, 136), (260, 143), (264, 171), (262, 206), (251, 240), (234, 268), (206, 286),
    (171, 280), (143, 257), (128, 228), (123, 188), (126, 160),
)
HOPPER: Outline = (
    (94, 40), (108, 17), (119, 0), (248, 0), (268, 17), (279, 34), (282, 50), (295, 50), (299, 74), (299, 114),
    (296, 143), (304, 160), (303, 188), (291, 228), (285, 257), (276, 280), (259, 286), (262, 294), (296, 314),
    (353, 340), (384, 357), (384, 512), (0, 512), (0, 345), (45, 337), (97, 311), (116, 294), (116, 277), (91, 263),
    (74, 246), (79, 217), (68, 183), (70, 160), (68, 140), (66, 114), (66, 86), (68, 63), (77, 54),
)
HOPPER_FACE: Outline = (
    (97, 114), (137, 102), (182, 96), (239, 98), (276, 114), (294, 149), (288, 194), (274, 246), (256, 286),
    (211, 314), (159, 311), (119, 286), (97, 246), (77, 194), (77, 149),
)
# fmt: on
REGIONS = {"collins": {"person": COLLINS, "face": COLLINS_FACE}, "hopper": {"person": HOPPER, "face": HOPPER_FACE}}
EVERYWHERE, BACKGROUND = "", "background"


class Look(NamedTuple):
    """A style picture, and the region of the photograph that it paints."""

    style: str
    region: str = EVERYWHERE


class Way(NamedTuple):
    """How pictures are inverted and sampled, and to which size they are brought first."""

    steps: int
    inversion: InversionSettings
    size: tuple[int, int] = SIZE


FAST, BALANCED = (Way(preset.steps, preset.inversion) for preset in (PRESETS["fast"], PRESETS["balanced"]))
CROPPED = Way(50, InversionSettings(), (512, 512))  # as the workflows for SD1.5 open


class Scene(NamedTuple):
    """A photograph, the looks that it is painted in, how, and the region that stays like the photograph."""

    content: str
    looks: tuple[Look, ...]
    settings: FusionSettings = FusionSettings()
    keep: str = ""
    way: Way = FAST


def shown(name: str, size: tuple[int, int] = SIZE) -> Image.Image:
    """A photograph, a painting or a detail of one; of another shape, what is in its middle."""
    return ImageOps.fit(_upright(name), size, Image.Resampling.LANCZOS)


def _upright(name: str) -> Image.Image:
    if name in DETAILS:
        path, box = DETAILS[name]
        return read_picture(path, SIZE).resize(SIZE, Image.Resampling.LANCZOS, box=box)
    return read_picture(FILES[name], SIZE)


def region(content: str, name: str, size: tuple[int, int] = SIZE) -> Image.Image | None:
    """A region as a user paints it with a soft brush, white on black, cropped as `shown` is; none for all of it."""
    if name == EVERYWHERE:
        return None
    outlines, outside = REGIONS[content], name == BACKGROUND
    mask = Image.new("L", SIZE, 255 if outside else 0)
    ImageDraw.Draw(mask).polygon(outlines["person" if outside else name], fill=0 if outside else 255)
    return ImageOps.fit(mask.filter(ImageFilter.GaussianBlur(SOFT)), size, Image.Resampling.BILINEAR)


def _weights(content: str, name: str, size: tuple[int, int]) -> Tensor | None:
    """A region as the engine takes it: 1 h w in 0..1."""
    mask = region(content, name, size)
    return None if mask is None else to_tensor(mask.convert("RGB"))[:, 0] / 2 + 0.5


class ScenePainter:
    """The demo model; what it has inverted or painted once it remembers."""

    def __init__(self) -> None:
        self.model = load_demo_model()
        self._inverted: dict[tuple[str, Way], InvertedPicture] = {}
        self._painted: dict[Scene, Image.Image] = {}

    def inverted(self, name: str, way: Way = FAST) -> InvertedPicture:
        """A picture's noise and features."""
        if (name, way) not in self._inverted:
            self._inverted[name, way] = self.inverted_frames([shown(name, way.size)], way)
        return self._inverted[name, way]

    def inverted_frames(self, frames: Sequence[Image.Image], way: Way) -> InvertedPicture:
        """Noise and features of pictures of one size, as one batch."""
        return invert(self.model, self.model.encode(torch.cat([to_tensor(frame) for frame in frames])), recipe(way))

    def decoded(self, latent: Tensor) -> Image.Image:
        """A latent 1 c h w as a picture."""
        return to_images(self.model.decode(latent))[0]

    def painted(self, scene: Scene) -> Image.Image:
        """What the workflows make of a scene: every look in its region, in the features and in the colours."""
        if scene not in self._painted:
            self._painted[scene] = self._paint(scene)
        return self._painted[scene]

    @torch.inference_mode()
    def painted_frames(self, frames: Sequence[Image.Image], style: str, way: Way) -> list[Image.Image]:
        """Frames of a film in a style, as one batch with one mean and spread."""
        film, look = self.inverted_frames(frames, way), self.inverted(style, way)
        start = film.noise_pair.map(adain_map(film.noise, look.noise, together=True))
        latents = paint(self.model, FeatureBank(film.features, (StyleEntry(look.features),)), start, recipe(way))
        return [self.decoded(latent) for latent in latents.split(1)]

    @torch.inference_mode()
    def _paint(self, scene: Scene) -> Image.Image:
        content, entries = self.inverted(scene.content, scene.way), []
        start = content.noise
        for look in scene.looks:
            style, where = self.inverted(look.style, scene.way), _weights(scene.content, look.region, scene.way.size)
            entries.append(StyleEntry(style.features, region=where))
            start = adain_map(start, style.noise, region=where)(start)
        bank = FeatureBank(content.features, tuple(entries))
        keep = _weights(scene.content, scene.keep, scene.way.size)
        chosen = replace(recipe(scene.way), settings=scene.settings)
        return self.decoded(paint(self.model, bank, NoisePair(start), chosen, keep=keep))


def recipe(way: Way) -> Recipe:
    """What the engine takes, at the default settings of the fusion."""
    return Recipe(steps=way.steps, inversion=way.inversion)

"""What is shown in this repository: photographs, styles, regions painted on photographs, and a painter of them.

assets/PROVENANCE.md names the photographs and paintings. The drawings are of held-out seeds, numbered on and not
chosen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.noise_pair import NoisePair
from magicstyle.core.presets import PRESETS
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, invert, paint, reconstruct
from magicstyle.headless.pictures.reading import read_picture, to_images, to_tensor
from magicstyle.model_files.demo import ASSETS, DEMO_CONTENT, DEMO_STYLE
from magicstyle.tools.demo_model.techniques import drawing
from PIL import Image, ImageDraw, ImageFilter
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
DRAWINGS = {
    "ink": 6_000_011,
    "hatching": 6_000_012,
    "mosaic": 6_000_013,
    "stipple": 6_000_014,
    "halftone": 6_000_015,
    "cross_stitch": 6_000_016,
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


class Scene(NamedTuple):
    """A photograph, the looks that it is painted in, how, and the region that stays like the photograph."""

    content: str
    looks: tuple[Look, ...]
    settings: FusionSettings = FusionSettings()
    keep: str = ""


def drawn(seed: int, technique: str) -> Image.Image:
    """A drawing, its middle in the shape of the photographs."""
    picture = Image.fromarray(drawing(seed, technique).image)
    width = picture.height * SIZE[0] / SIZE[1]
    left = (picture.width - width) / 2
    return picture.resize(SIZE, Image.Resampling.LANCZOS, box=(left, 0, left + width, picture.height))


def shown(name: str) -> Image.Image:
    """A photograph, a painting or a detail of one, or a drawing."""
    if name in DETAILS:
        path, box = DETAILS[name]
        return read_picture(path, SIZE).resize(SIZE, Image.Resampling.LANCZOS, box=box)
    return drawn(DRAWINGS[name], name) if name in DRAWINGS else read_picture(FILES[name], SIZE)


def region(content: str, name: str) -> Image.Image | None:
    """A region as a user paints it with a soft brush, white on black; none for the whole picture."""
    if name == EVERYWHERE:
        return None
    outlines, outside = REGIONS[content], name == BACKGROUND
    mask = Image.new("L", SIZE, 255 if outside else 0)
    ImageDraw.Draw(mask).polygon(outlines["person" if outside else name], fill=0 if outside else 255)
    return mask.filter(ImageFilter.GaussianBlur(SOFT))


def _weights(content: str, name: str) -> Tensor | None:
    """A region as the engine takes it: 1 h w in 0..1."""
    mask = region(content, name)
    return None if mask is None else to_tensor(mask.convert("RGB"))[:, 0] / 2 + 0.5


class ScenePainter:
    """The demo model at the preset *fast*; what it has inverted or painted once it remembers."""

    def __init__(self) -> None:
        preset = PRESETS["fast"]
        self.model = load_demo_model()
        self.recipe = Recipe(steps=preset.steps, inversion=preset.inversion)
        self._inverted: dict[str, InvertedPicture] = {}
        self._painted: dict[Scene, Image.Image] = {}

    def inverted(self, name: str) -> InvertedPicture:
        """A picture's noise and features."""
        if name not in self._inverted:
            self._inverted[name] = invert(self.model, self.model.encode(to_tensor(shown(name))), self.recipe)
        return self._inverted[name]

    def decoded(self, latent: Tensor) -> Image.Image:
        """A latent 1 c h w as a picture."""
        return to_images(self.model.decode(latent))[0]

    def returned(self, name: str) -> Image.Image:
        """A picture sampled back from its noise."""
        return self.decoded(reconstruct(self.model, self.inverted(name), self.recipe))

    def painted(self, scene: Scene) -> Image.Image:
        """What the workflows make of a scene: every look in its region, in the features and in the colours."""
        if scene not in self._painted:
            self._painted[scene] = self._paint(scene)
        return self._painted[scene]

    @torch.inference_mode()
    def _paint(self, scene: Scene) -> Image.Image:
        content, entries = self.inverted(scene.content), []
        start = content.noise
        for look in scene.looks:
            style, where = self.inverted(look.style), _weights(scene.content, look.region)
            entries.append(StyleEntry(style.features, region=where))
            start = adain_map(start, style.noise, region=where)(start)
        bank, keep = FeatureBank(content.features, tuple(entries)), _weights(scene.content, scene.keep)
        recipe = replace(self.recipe, settings=scene.settings)
        return self.decoded(paint(self.model, bank, NoisePair(start), recipe, keep=keep))

"""Ways to paint photographs with the demo model, and their pictures, some photographs beside one style at a time.

A piece is one style on one group of photographs. Pieces come in turns, in each of which every style has one group, the
next style the next group: a few pieces show many photographs and styles already, all of them every pair. What is
painted is kept in files, so that a run that was stopped goes on where it was.

Letters: b photographs of a group, h w pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.adain import adain_map
from magicstyle.core.features import ROLES
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion_methods import sample_back
from magicstyle.core.presets import PRESETS
from magicstyle.core.regions import keep_mask
from magicstyle.core.schedule import LEVELS
from magicstyle.headless.digest import digest
from magicstyle.headless.engine.model import HeadlessModel
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import InvertedPicture, fused, invert
from magicstyle.headless.pictures.reading import read_picture, to_tensor
from magicstyle.model_files.demo import DEMO_MODEL
from torch import Tensor

from .kept import chunks_of, kept

TOGETHER = 8  # photographs in one model call
HELD = 20  # inversions in memory: of a group of 8 photographs 150 MB at 256 pixels and 12 steps


@dataclass(frozen=True)
class Way:
    """How a photograph is painted: what a user can set, with the nodes' defaults and the preset `fast`."""

    settings: FusionSettings = field(default_factory=FusionSettings)
    adain: float = 1.0
    end: float = 1.0  # end_percent: the share of sampling in which features are fused
    preset: str = "fast"
    size: int = 256
    keep: float = 0.0  # keep_strength of a mask on the face; 0 is no mask

    @property
    def recipe(self) -> Recipe:
        """What the headless functions take."""
        preset = PRESETS[self.preset]
        return Recipe(self.settings, preset.steps, adain=self.adain, inversion=preset.inversion)

    def __str__(self) -> str:
        s = self.settings
        knobs = f"s={s.style_weight:g} c={s.content_weight:g} q={s.query_preservation:g} t={s.temperature:g}"
        knobs += f" m={s.controls.match_weight:g}" if s.matches else ""
        return f"{s.method} {knobs} a={self.adain:g} e={self.end:g} k={self.keep:g} {self.preset} {self.size}"


@dataclass(frozen=True)
class Album:
    """Photographs and style pictures, by their files, and where faces are, b h w in 0..1, at any resolution."""

    photographs: tuple[Path, ...]
    styles: tuple[Path, ...]
    faces: Tensor | None = None

    @property
    def groups(self) -> list[slice]:
        """The photographs that are painted together."""
        return chunks_of(len(self.photographs), TOGETHER)

    @property
    def order(self) -> list[tuple[Path, slice]]:
        """All pieces, in an order in which the first few are spread over photographs and styles."""
        found, groups = [], self.groups
        for turn in range(len(groups)):
            each = [(style, groups[(place + turn) % len(groups)]) for place, style in enumerate(self.styles)]
            found += each[::2] + each[1::2]
        return found

    def name(self, style: Path, group: slice) -> str:
        """What tells a piece from others in a file's name."""
        shown = "\n".join(path.name for path in self.photographs[group])
        return f"{digest(shown.encode())[:8]}, {style.stem}"


class PhotoPainter:
    """Paints an album; photographs and styles stay inverted for the settings that follow."""

    def __init__(self, model: HeadlessModel, album: Album, work: Path) -> None:
        self.model, self.album, self.work = model, album, work
        self._held: OrderedDict[tuple[str, int, tuple[Path, ...]], InvertedPicture] = OrderedDict()
        self.weights = digest(DEMO_MODEL.read_bytes())[:8]

    def paint(self, way: Way, style: Path, group: slice) -> Tensor:
        """A piece painted one way, b 3 h w in 0..1; it lies in the folder for whoever wants to look at it."""
        file = self.work / f"{way}; {self.weights}, {self.album.name(style, group)}.safetensors"
        return kept(file, lambda: self.picture(way, (style, group)))

    def picture(self, way: Way, piece: tuple[Path, slice] | None = None) -> Tensor:
        """A piece painted, the first unless another is named: b 3 h w in 0..1."""
        style, group = self.album.order[0] if piece is None else piece
        content = self._inverted(way, self.album.photographs[group])
        latent = painted(self.model, content, self._inverted(way, (style,)), way, self._keep(way, group))
        return (self.model.decode(latent) + 1) / 2

    def _inverted(self, way: Way, files: tuple[Path, ...]) -> InvertedPicture:
        """Pictures inverted side by side, with the settings of a way."""
        key = (way.preset, way.size, files)
        if key not in self._held:
            while len(self._held) >= HELD:
                self._held.popitem(last=False)
            shown = torch.cat([to_tensor(read_picture(path, (way.size, way.size))) for path in files])
            self._held[key] = invert(self.model, self.model.encode(shown), way.recipe, roles=ROLES)
        self._held.move_to_end(key)
        return self._held[key]

    def _keep(self, way: Way, group: slice) -> Tensor | None:
        if way.keep == 0.0 or self.album.faces is None:
            return None
        masks = self.album.faces[group]
        return keep_mask(masks, way.keep, len(masks))


@torch.inference_mode()
def painted(
    model: HeadlessModel, content: InvertedPicture, style: InvertedPicture, way: Way, keep: Tensor | None = None
) -> Tensor:
    """Latents b c h w of photographs, b rows, beside one style; `keep` is b h w."""
    recipe = way.recipe
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    begin = content.noise_pair.map(adain_map(content.noise, style.noise, way.adain))
    within = fused(model, bank, recipe, keep)
    least = (1.0 - way.end) * (LEVELS - 1)

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """b c h w, sigma b -> b c h w: past `end` the model by itself."""
        acts = float(model.timesteps(sigma[:1])) >= least
        return within(x, sigma) if acts else model.denoised(x, sigma)

    return sample_back(denoised, begin, recipe.sigmas, recipe.inversion.method)

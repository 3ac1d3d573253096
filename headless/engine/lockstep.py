"""Contents times styles painted in lockstep: every stored latent runs through the model once for the whole block.

At each step the pictures of one side, those of the shorter, are replayed one by one; those of the other side are joined
into columns of a few rows, and each column is replayed beside all of them. What is held at a time is the features of
the shorter side and of one column, whatever the number of pictures. Where several levels share what is kept (`every`),
all columns are held until sampling leaves the group.

Letters: b rows of a model call, c channels, h w of a latent, r numbers of all latents of the block side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...attention_patches.checks import check_roles, stored_layers
from ...attention_patches.fusion_patch import FusionPatch
from ...attention_patches.replay import Catcher, Rerun
from ...banks.bank import FeatureBank, StyleEntry
from ...banks.image_features import ImageFeatures
from ...banks.trajectory import Trajectory
from ...core.adain import adain_map
from ...core.errors import MagicStyleError
from ...core.features import AttentionFeatures, View
from ...core.inversion import Denoiser
from ...core.inversion_methods import sample_back
from ...core.layers import LayerId
from ...core.noise_pair import NoisePair
from ...core.scene import Moment
from ...core.schedule import LEVELS
from .model import HeadlessModel
from .recipe import Recipe
from .stylize import EVERYWHERE, rerun_like

Callback = Callable[[dict[str, Any]], None]

# a view of a picture that the method does not read
NOTHING = View(lambda layer, roles: AttentionFeatures())


class Shown:
    """One picture, or several side by side, as the running step sees it: replayed once for all who ask."""

    def __init__(self, places: Sequence[int], features: ImageFeatures) -> None:
        self.places = tuple(places)  # of its pictures among those of the block, a row each
        self.features = features
        self._group: int | None = None
        self._view: View | None = None

    @property
    def lasts(self) -> bool:
        """Whether the next noise level may see the same."""
        kept = self.features
        return isinstance(kept, Trajectory) and len(kept.latents) < len(kept.header.sigmas)

    def view(self, sigma: float, layers: frozenset[LayerId], roles: str, rerun: Rerun) -> View:
        """The features at a noise level."""

        def replay(trajectory: Trajectory, group: int) -> View:
            if self._view is None or self._group != group:
                self.forget()
                catcher = Catcher(layers, roles, trajectory.header.grids)
                rerun(trajectory, group, catcher.handlers)
                self._group, self._view = group, catcher.view
            return self._view

        return self.features.view(sigma, replay) if roles else NOTHING

    def forget(self) -> None:
        """Let go of what was replayed."""
        self._group = self._view = None


class Tile(NamedTuple):
    """The rows of one model call: one content beside several styles, or one style beside several contents."""

    content: Shown
    style: Shown
    patch: FusionPatch
    start: NoisePair  # b c h w

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The (content, style) of each row."""
        rows = range(max(len(self.content.places), len(self.style.places)))
        return [(_row(self.content.places, row), _row(self.style.places, row)) for row in rows]


class Strip(NamedTuple):
    """A column beside every single picture of the other side."""

    column: Shown
    tiles: list[Tile]


@torch.inference_mode()
def paint_block(
    model: HeadlessModel,
    contents: Sequence[ImageFeatures],
    styles: Sequence[ImageFeatures],
    recipe: Recipe,
    rows: int,
    callback: Callback | None = None,
    keep: Sequence[Tensor | None] = (),
) -> dict[tuple[int, int], Tensor]:
    """Every content, b = 1, with every style, b = 1, `rows` in a model call -> by (content, style) a latent 1 c h w.

    `keep` says for each content how far it stays as it is, 1 h w, or None.
    """
    strips = _strips(model, contents, styles, recipe, rows, keep)
    tiles = [tile for strip in strips for tile in strip.tiles]
    start = _packed_pair([tile.start for tile in tiles])
    sigmas = recipe.sigmas.to(model.device)
    flat = sample_back(_in_lockstep(model, strips), start, sigmas, recipe.inversion.method, callback)
    found = zip(tiles, _unpacked(flat, tiles), strict=True)
    return {pair: row for tile, latents in found for pair, row in zip(tile.pairs, latents.split(1), strict=True)}


def _strips(
    model: HeadlessModel,
    contents: Sequence[ImageFeatures],
    styles: Sequence[ImageFeatures],
    recipe: Recipe,
    rows: int,
    keep: Sequence[Tensor | None],
) -> list[Strip]:
    """The longer side in columns, each beside all pictures of the shorter one; `keep` is 1 h w of each content."""
    if len(styles) >= len(contents):
        single = _singly(contents)
        return [Strip(c, [_tile(model, one, c, recipe, keep) for one in single]) for c in joined(styles, rows)]
    single = _singly(styles)
    return [Strip(c, [_tile(model, c, one, recipe, keep) for one in single]) for c in joined(contents, rows)]


def _in_lockstep(model: HeadlessModel, strips: Sequence[Strip]) -> Denoiser:
    """One denoiser of all tiles: samplers work number by number, so that latents of any sizes go through together."""
    tiles = [tile for strip in strips for tile in strip.tiles]

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """1 r, sigma 1 -> 1 r."""
        level, latents, found = float(sigma[0]), iter(_unpacked(x, tiles)), []
        for strip in strips:
            found += [_denoised_tile(model, tile, next(latents), level) for tile in strip.tiles]
            if not strip.column.lasts:
                strip.column.forget()
        return _packed(found)

    return denoised


def _denoised_tile(model: HeadlessModel, tile: Tile, x: Tensor, level: float) -> Tensor:
    """b c h w -> b c h w."""
    sigma = x.new_full((x.shape[0],), level)
    patch, rerun = tile.patch, rerun_like(model, x)
    pictures = zip((tile.content, tile.style), patch.roles, strict=False)
    views = [shown.view(level, patch.layers, roles, rerun) for shown, roles in pictures]
    moment = Moment(patch.progress(level), float(model.timesteps(sigma[:1])) / LEVELS)
    with model.hooks.answered_by(patch.handlers(views, moment)):
        return model.denoised(x, sigma)


def _tile(model: HeadlessModel, content: Shown, style: Shown, recipe: Recipe, keep: Sequence[Tensor | None]) -> Tile:
    """One content beside several styles or one style beside several contents; `keep` is 1 h w of each content."""
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    layers = stored_layers(model.architecture, bank, recipe.layers)
    patch = FusionPatch(bank, recipe.settings, layers, EVERYWHERE, keep=_masks(content, keep))
    check_roles(bank, patch.roles, recipe.settings.method)
    b = max(content.features.header.batch, style.features.header.batch)
    own, other = (_rows_of(shown.features, b, model.device) for shown in (content, style))
    return Tile(content, style, patch, own.mapped(adain_map(own.noise, other.noise, recipe.adain)))


def _masks(content: Shown, keep: Sequence[Tensor | None]) -> Tensor | None:
    """The masks of contents, b h w, black for those that have none; None where none has one."""
    found = [keep[place] for place in content.places if keep]
    like = next((mask for mask in found if mask is not None), None)
    return None if like is None else torch.cat([torch.zeros_like(like) if mask is None else mask for mask in found])


def _rows_of(features: ImageFeatures, b: int, device: torch.device) -> NoisePair:
    """The ends of an inversion on b rows, b c h w each."""
    if features.ends is None:
        raise MagicStyleError("a picture lacks the end of its inversion, where painting starts: invert it again.")
    return features.ends.mapped(lambda end: end.to(device, torch.float32).expand(b, -1, -1, -1))


def joined(pictures: Sequence[ImageFeatures], rows: int) -> list[Shown]:
    """Trajectories of equal headers side by side, at most so many; every other picture by itself."""
    columns: list[list[int]] = []
    for place, features in enumerate(pictures):
        fits = [c for c in columns if len(c) < rows and _alike(pictures[c[0]], features)]
        fits[0].append(place) if fits else columns.append([place])
    return [Shown(column, _side_by_side([pictures[place] for place in column])) for column in columns]


def _alike(one: ImageFeatures, other: ImageFeatures) -> bool:
    if not isinstance(one, Trajectory) or not isinstance(other, Trajectory):
        return False
    return one.header == other.header and one.latents.dtype == other.latents.dtype


def _side_by_side(pictures: Sequence[Any]) -> ImageFeatures:
    """Trajectories as one of several rows, without the prompt, which is the model's own in every replay here."""
    first = pictures[0]
    if len(pictures) == 1:
        return first
    header = replace(first.header, latent_shape=(len(pictures), *first.header.latent_shape[1:]))
    latents = torch.cat([picture.latents for picture in pictures], dim=1)
    ends = [picture.ends.tensors for picture in pictures]
    together = NoisePair(**{name: torch.cat([pair[name] for pair in ends]) for name in ends[0]})
    return Trajectory(header, latents, {}, together)


def _singly(pictures: Sequence[ImageFeatures]) -> list[Shown]:
    return [Shown([place], features) for place, features in enumerate(pictures)]


def _packed(latents: Iterable[Tensor]) -> Tensor:
    """Latents b c h w of any sizes -> 1 r."""
    return torch.cat([latent.flatten() for latent in latents]).unsqueeze(0)


def _packed_pair(ends: Sequence[NoisePair]) -> NoisePair:
    """Both ends of all tiles, b c h w each -> 1 r each."""
    companions = [pair.companion for pair in ends if pair.companion is not None]
    return NoisePair(_packed(pair.noise for pair in ends), _packed(companions) if companions else None)


def _unpacked(flat: Tensor, tiles: Sequence[Tile]) -> list[Tensor]:
    """1 r -> latents b c h w: the inverse of `_packed`."""
    shapes = [tile.start.noise.shape for tile in tiles]
    parts = flat[0].split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _row(places: Sequence[int], row: int) -> int:
    return places[row if len(places) > 1 else 0]

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

from ...attention_patches.replay import Held, Rerun
from ...attention_patches.views import held_view
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
from .fused_model import FusedModel
from .model import HeadlessModel
from .recipe import Recipe

Callback = Callable[[dict[str, Any]], None]

# a view of a picture that the method does not read
NOTHING = View(lambda layer, roles: AttentionFeatures())


class ReplayedColumn:
    """One picture, or several side by side, as the running step sees it: replayed once for all batches that read it."""

    def __init__(self, places: Sequence[int], features: ImageFeatures) -> None:
        self.places = tuple(places)  # of its pictures among those of the block, a row each
        self.features = features
        self._held = Held()

    @property
    def reused_next_step(self) -> bool:
        """Whether the next noise level may see the same."""
        kept = self.features
        return isinstance(kept, Trajectory) and len(kept.latents) < len(kept.header.sigmas)

    @property
    def is_held(self) -> bool:
        """Whether what was replayed is in memory."""
        return len(self._held) > 0

    def view(self, sigma: float, layers: frozenset[LayerId], roles: str, rerun: Rerun) -> View:
        """The features at a noise level."""
        return held_view(self.features, sigma, layers, roles, rerun, self._held) if roles else NOTHING

    def clear(self) -> None:
        """Let go of what was replayed."""
        self._held.clear()


class PairBatch(NamedTuple):
    """The rows of one model call: one content beside several styles, or one style beside several contents."""

    content: ReplayedColumn
    style: ReplayedColumn
    model: FusedModel
    start: NoisePair  # b c h w

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The (content, style) of each row."""
        rows = range(max(len(self.content.places), len(self.style.places)))
        return [(_row(self.content.places, row), _row(self.style.places, row)) for row in rows]


class Strip(NamedTuple):
    """A column beside every single picture of the other side."""

    column: ReplayedColumn
    batches: list[PairBatch]


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
    batches = [batch for strip in strips for batch in strip.batches]
    start = _packed_pair([batch.start for batch in batches])
    sigmas = recipe.sigmas.to(model.device)
    flat = sample_back(_in_lockstep(strips), start, sigmas, recipe.inversion.method, callback)
    found = zip(batches, _unpacked(flat, batches), strict=True)
    return {pair: row for batch, latents in found for pair, row in zip(batch.pairs, latents.split(1), strict=True)}


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
        return [Strip(c, [_batch(model, one, c, recipe, keep) for one in single]) for c in joined(styles, rows)]
    single = _singly(styles)
    return [Strip(c, [_batch(model, c, one, recipe, keep) for one in single]) for c in joined(contents, rows)]


def _in_lockstep(strips: Sequence[Strip]) -> Denoiser:
    """One denoiser of all batches: samplers work number by number, so that latents of any sizes go through together."""
    batches = [batch for strip in strips for batch in strip.batches]

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """1 r, sigma 1 -> 1 r."""
        level, latents, found = float(sigma[0]), iter(_unpacked(x, batches)), []
        for strip in strips:
            found += [_denoised_batch(batch, next(latents), level) for batch in strip.batches]
            if not strip.column.reused_next_step:
                strip.column.clear()
        return _packed(found)

    return denoised


def _denoised_batch(batch: PairBatch, x: Tensor, level: float) -> Tensor:
    """b c h w -> b c h w."""
    reader, rerun = batch.model, batch.model.rerun_like(x)
    columns = zip((batch.content, batch.style), reader.roles, strict=False)
    views = [column.view(level, reader.layers, roles, rerun) for column, roles in columns]
    return batch.model.denoised(x, x.new_full((x.shape[0],), level), views)


def _batch(
    model: HeadlessModel, content: ReplayedColumn, style: ReplayedColumn, recipe: Recipe, keep: Sequence[Tensor | None]
) -> PairBatch:
    """One content beside several styles or one style beside several contents; `keep` is 1 h w of each content."""
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    with_bank = FusedModel(model, bank, recipe, _masks(content, keep))
    b = max(content.features.header.batch, style.features.header.batch)
    own, other = (_rows_of(column.features, b, model.device) for column in (content, style))
    return PairBatch(content, style, with_bank, own.map(adain_map(own.noise, other.noise, recipe.adain)))


def _masks(content: ReplayedColumn, keep: Sequence[Tensor | None]) -> Tensor | None:
    """The masks of contents, b h w, black for those that have none; None where none has one."""
    found = [keep[place] for place in content.places if keep]
    like = next((mask for mask in found if mask is not None), None)
    return None if like is None else torch.cat([torch.zeros_like(like) if mask is None else mask for mask in found])


def _rows_of(features: ImageFeatures, b: int, device: torch.device) -> NoisePair:
    """The noise pair of an inversion on b rows, b c h w each."""
    if features.noise_pair is None:
        raise MagicStyleError("a picture lacks the end of its inversion, where painting starts: invert it again.")
    return features.noise_pair.map(lambda end: end.to(device, torch.float32).expand(b, -1, -1, -1))


def joined(pictures: Sequence[ImageFeatures], rows: int) -> list[ReplayedColumn]:
    """Trajectories of equal headers side by side, at most so many; every other picture by itself."""
    columns: list[list[int]] = []
    for place, features in enumerate(pictures):
        fits = [c for c in columns if len(c) < rows and _alike(pictures[c[0]], features)]
        fits[0].append(place) if fits else columns.append([place])
    return [ReplayedColumn(column, _side_by_side([pictures[place] for place in column])) for column in columns]


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
    parts = [picture.noise_pair.tensors for picture in pictures]
    together = NoisePair.of_tensors({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return Trajectory(header, latents, {}, together)


def _singly(pictures: Sequence[ImageFeatures]) -> list[ReplayedColumn]:
    return [ReplayedColumn([place], features) for place, features in enumerate(pictures)]


def _packed(latents: Iterable[Tensor]) -> Tensor:
    """Latents b c h w of any sizes -> 1 r."""
    return torch.cat([latent.flatten() for latent in latents]).unsqueeze(0)


def _packed_pair(pairs: Sequence[NoisePair]) -> NoisePair:
    """The noise pairs of all batches, b c h w each -> 1 r each."""
    steps_from = [pair.step_from for pair in pairs if pair.step_from is not None]
    return NoisePair(_packed(pair.noise for pair in pairs), _packed(steps_from) if steps_from else None)


def _unpacked(flat: Tensor, batches: Sequence[PairBatch]) -> list[Tensor]:
    """1 r -> latents b c h w: the inverse of `_packed`."""
    shapes = [batch.start.noise.shape for batch in batches]
    parts = flat[0].split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _row(places: Sequence[int], row: int) -> int:
    return places[row if len(places) > 1 else 0]

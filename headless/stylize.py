"""The method in three calls: invert each picture, put their features into a bank, sample with fusion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.adain import adain_map
from ..core.attention import Kernel
from ..core.bank import FeatureBank, StyleEntry
from ..core.features import AttentionFeatures, FeatureHeader
from ..core.fusion import FusionSettings, content_roles, fuse, style_roles
from ..core.inversion import Denoiser, Steps, sampling_grid
from ..core.inversion_methods import invert_latent, sample_back
from ..core.layers import LayerId, select_layers
from ..core.noise_pair import NoisePair
from ..core.regions import Grid, mask_to_tokens
from ..core.scene import Moment, Scene, StyleFeatures
from ..core.schedule import LEVELS
from ..core.stored_features import FeatureWriter, StoredFeatures
from .attention import Handler
from .model import HeadlessModel
from .recipe import Recipe

Callback = Callable[[dict[str, Any]], None]


class Inversion(NamedTuple):
    """An inverted picture (or batch of pictures): where it ended, in the model's scale, and the features on the way."""

    ends: NoisePair
    features: StoredFeatures

    @property
    def noise(self) -> Tensor:
        """The noise latent: b c h w."""
        return self.ends.noise


@torch.inference_mode()
def invert(
    model: HeadlessModel,
    latent: Tensor,
    recipe: Recipe,
    *,
    roles: str = "qkv",
    dtype: torch.dtype = torch.float16,
    callback: Callback | None = None,
) -> Inversion:
    """Walk a latent b c h w up to its noise and keep the features of the recipe's layers."""
    sigmas = recipe.sigmas.to(latent.device)
    grid = tuple(sampling_grid(sigmas).tolist())
    writer = FeatureWriter(select_layers(recipe.layers, model.layers), len(grid), roles, dtype)

    @contextmanager
    def record(step: Steps, x: Tensor) -> Iterator[None]:
        with model.hooks.answered_by(_capture(writer, step if isinstance(step, tuple) else (step,))):
            yield

    found = invert_latent(model.denoised, latent, sigmas, recipe.inversion, callback=callback, record=record)
    header = FeatureHeader(model.id, recipe.inversion.method, grid, tuple(latent.shape), {})
    return Inversion(found.ends, writer.close(header))


@torch.inference_mode()
def stylize(
    model: HeadlessModel, content: Inversion, style: Inversion, recipe: Recipe, callback: Callback | None = None
) -> Tensor:
    """The content latent painted with the style's features: b c h w."""
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    moved = adain_map(content.noise, style.noise, recipe.adain)
    return paint(model, bank, content.ends.mapped(moved), recipe, callback)


@torch.inference_mode()
def paint(
    model: HeadlessModel,
    bank: FeatureBank,
    start: NoisePair,
    recipe: Recipe,
    callback: Callback | None = None,
) -> Tensor:
    """An initial latent sampled with a bank's features -> b c h w: any number of styles, with regions and masks."""
    sigmas = recipe.sigmas.to(start.noise.device)
    return sample_back(fused(model, bank, recipe), start, sigmas, recipe.inversion.method, callback)


@torch.inference_mode()
def reconstruct(model: HeadlessModel, content: Inversion, recipe: Recipe, callback: Callback | None = None) -> Tensor:
    """The content latent sampled back from its noise without any fusion: b c h w."""
    sigmas = recipe.sigmas.to(content.noise.device)
    return sample_back(model.denoised, content.ends, sigmas, recipe.inversion.method, callback)


def fused(model: HeadlessModel, bank: FeatureBank, recipe: Recipe) -> Denoiser:
    """The model's denoiser with the bank's features in the recipe's layers."""
    layers = frozenset(select_layers(recipe.layers, model.layers))

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        noise = float(model.timesteps(sigma[:1])) / LEVELS
        with model.hooks.answered_by(_fusion(bank, recipe.settings, layers, float(sigma[0]), noise)):
            return model.denoised(x, sigma)

    return denoised


def _capture(writer: FeatureWriter, steps: tuple[int, ...]) -> Handler:
    def handle(layer: LayerId, grid: Grid, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if layer in writer:
            rows = zip(*(tensor.chunk(len(steps)) for tensor in (q, k, v)), strict=True)
            for step, own in zip(steps, rows, strict=True):
                writer.write(layer, grid, step, AttentionFeatures(*own))
        return kernel.call(q, k, v, None)

    return handle


def _fusion(
    bank: FeatureBank, settings: FusionSettings, layers: frozenset[LayerId], sigma: float, noise: float
) -> Handler:
    roles = content_roles(settings, bank), *(style_roles(settings) for _ in bank.styles)
    steps = [features.nearest(sigma).step for features in bank]
    moment = Moment(steps[0] / len(bank.content.header.sigmas), noise)

    def handle(layer: LayerId, grid: Grid, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if layer not in layers:
            return kernel.call(q, k, v, None)
        content, *styles = (
            _on_rows(features.at(layer, step, kept), q) for features, step, kept in zip(bank, steps, roles, strict=True)
        )
        placed = tuple(_placed(found, entry, layer, grid) for found, entry in zip(styles, bank.styles, strict=True))
        return fuse(kernel, Scene(AttentionFeatures(q, k, v), content, placed, moment), settings)

    return handle


def _placed(features: AttentionFeatures, entry: StyleEntry, layer: LayerId, grid: Grid) -> StyleFeatures:
    """One style's features with its weight, and its masks on the layer's tokens."""
    region = None if entry.region is None else mask_to_tokens(entry.region, grid)
    mask = entry.style_mask
    shown = None if mask is None else mask_to_tokens(mask, entry.features.header.grids[layer]).to(features.k)
    return StyleFeatures(features, entry.weight, region, shown)


def _on_rows(features: AttentionFeatures, q: Tensor) -> AttentionFeatures:
    """Features of one picture, or of as many as q has rows, on the device and in the precision of q."""
    return AttentionFeatures(*(None if t is None else t.to(q).expand(q.shape[0], -1, -1) for t in features))

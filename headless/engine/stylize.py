"""The method in three calls: invert each picture, put their features into a bank, sample with fusion.

Capture, fusion and replay are those of attention_patches; what is diffusers' own is in attention.py beside this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...attention_patches.capture import RECORDERS, RecordingSpec, TrajectoryRecorder
from ...attention_patches.checks import check_run
from ...attention_patches.prefetch import lane_to
from ...attention_patches.replay import Held
from ...attention_patches.views import step_views
from ...banks.bank import FeatureBank, StyleEntry
from ...banks.image_features import FeatureHeader, ImageFeatures
from ...banks.level_groups import LevelGroups
from ...core.adain import adain_map
from ...core.features import RESNET
from ...core.grid import Grid
from ...core.inversion import Denoiser
from ...core.inversion_methods import invert_latent, sample_back
from ...core.layers import LayerId, select_layers
from ...core.noise_pair import NoisePair
from .fused_model import FusedModel
from .model import HeadlessModel
from .recipe import Recipe

Callback = Callable[[dict[str, Any]], None]


class InvertedPicture(NamedTuple):
    """An inverted picture (or batch of pictures): where it ended, in the model's scale, and the features on the way."""

    noise_pair: NoisePair
    features: ImageFeatures

    @property
    def noise(self) -> Tensor:
        """The noise latent: b c h w."""
        return self.noise_pair.noise


@torch.inference_mode()
def invert(
    model: HeadlessModel,
    latent: Tensor,
    recipe: Recipe,
    *,
    roles: str | None = None,
    dtype: torch.dtype = torch.float16,
    storage: str = "features",
    callback: Callback | None = None,
) -> InvertedPicture:
    """Walk a latent b c h w up to its noise; keep the features of the recipe's layers, or the latents that replay them.

    `roles` are letters of ALL_ROLES; by default all that the recipe can read of a content.
    """
    roles = recipe.content_roles if roles is None else roles
    sigmas = recipe.sigmas.to(latent.device)
    levels, grids = recipe.inversion.spec.levels(sigmas).tolist(), _kept_grids(model, latent, recipe, roles)
    groups = LevelGroups(len(levels), recipe.every)
    recorder = RECORDERS[storage](RecordingSpec(tuple(grids), groups, roles, dtype))
    if isinstance(recorder, TrajectoryRecorder):
        recorder.inputs = {"c_crossattn": model.prompt.expand(latent.shape[0], -1, -1).cpu()}
    with model.hooks.answered_by(recorder.handlers):
        found = invert_latent(
            model.denoised, latent, sigmas, recipe.inversion, callback=callback, record=recorder.recording
        )
    heads = {layer: facts.heads for layer, facts in model.architecture.layers.items() if layer in grids}
    method, shape = recipe.inversion.method, tuple(latent.shape)
    header = FeatureHeader(model.id, method, tuple(levels), shape, grids=grids, heads=heads, every=groups.every)
    return InvertedPicture(found.noise_pair, recorder.close(header, found.noise_pair))


@torch.inference_mode()
def stylize(
    model: HeadlessModel,
    content: InvertedPicture,
    style: InvertedPicture,
    recipe: Recipe,
    callback: Callback | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """The content latent painted with the style's features: b c h w; `keep`, b h w, says how far it stays as it is."""
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    moved = adain_map(content.noise, style.noise, recipe.adain)
    return paint(model, bank, content.noise_pair.map(moved), recipe, callback, keep)


@torch.inference_mode()
def paint(
    model: HeadlessModel,
    bank: FeatureBank,
    start: NoisePair,
    recipe: Recipe,
    callback: Callback | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """An initial latent sampled with a bank's features -> b c h w: any number of styles, with regions and masks."""
    sigmas = recipe.sigmas.to(start.noise.device)
    return sample_back(fused(model, bank, recipe, keep), start, sigmas, recipe.inversion.method, callback)


@torch.inference_mode()
def reconstruct(
    model: HeadlessModel, content: InvertedPicture, recipe: Recipe, callback: Callback | None = None
) -> Tensor:
    """The content latent sampled back from its noise without any fusion: b c h w."""
    sigmas = recipe.sigmas.to(content.noise.device)
    return sample_back(model.denoised, content.noise_pair, sigmas, recipe.inversion.method, callback)


def fused(model: HeadlessModel, bank: FeatureBank, recipe: Recipe, keep: Tensor | None = None) -> Denoiser:
    """The model's denoiser with the bank's features in the recipe's layers; `keep` is a mask b h w."""
    with_bank, lane, held = FusedModel(model, bank, recipe, keep), lane_to(model.device), Held()

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """b c h w, sigma b -> b c h w."""
        check_run(bank, latent=x)
        views = step_views(with_bank, bank, float(sigma[0]), with_bank.rerun_like(x), lane, held)
        return with_bank.denoised(x, sigma, views)

    return denoised


def _kept_grids(model: HeadlessModel, latent: Tensor, recipe: Recipe, roles: str) -> dict[LayerId, Grid]:
    """The token grids of the layers that are kept for a latent b c h w, and of the block whose ResNet's inputs are."""
    every = model.architecture.grids(tuple(latent.shape[2:]))
    chosen, resnet = set(select_layers(recipe.kept_layers, every)), model.architecture.resnet
    if RESNET in roles and resnet is not None:
        chosen.add(resnet.layer)
    return {layer: grid for layer, grid in every.items() if layer in chosen}

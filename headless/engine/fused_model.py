"""A headless model with a bank's features in its layers: what pairs and blocks paint with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...attention_patches.call import Handlers
from ...attention_patches.checks import check_detail, check_roles, stored_layers
from ...attention_patches.correspondences import Correspondences
from ...attention_patches.fusion_patch import FusionPatch, SigmaWindow
from ...attention_patches.replay import Rerun
from ...banks.bank import FeatureBank
from ...banks.trajectory import Trajectory
from ...core.features import View
from ...core.schedule import LEVELS
from .model import HeadlessModel
from .recipe import Recipe

EVERYWHERE = SigmaWindow(float("inf"), 0.0)


class FusedModel:
    """A model whose layers, those of the recipe, fuse the features of a bank; `keep` says where the content stays."""

    def __init__(self, model: HeadlessModel, bank: FeatureBank, recipe: Recipe, keep: Tensor | None = None) -> None:
        """`keep` is b h w."""
        self._model = model
        self._bank = bank
        self._correspondences = Correspondences()
        layers = stored_layers(model.architecture, bank, recipe.layers)
        check_detail(bank, recipe.settings, layers)
        self.patch = FusionPatch(bank, recipe.settings, layers, EVERYWHERE, keep=keep)
        check_roles(bank, self.patch.roles, recipe.settings.method)

    def denoised(self, x: Tensor, sigma: Tensor, views: Sequence[View]) -> Tensor:
        """x b c h w at one level, sigma b, with a view of each of the bank's pictures there -> b c h w."""
        level, noise = float(sigma[0]), float(self._model.timesteps(sigma[:1])) / LEVELS
        matches = self._correspondences.of(self.patch, self._bank, self.rerun_like(x), x.device)
        handlers = self.patch.handlers(views, self.patch.moment(level, noise), matches=matches)
        with self._model.hooks.answered_by(handlers):
            return self._model.denoised(x, sigma)

    def rerun_like(self, like: Tensor) -> Rerun:
        """Runs stored latents through the model, on the device and in the precision of `like`, b c h w."""

        def rerun(trajectory: Trajectory, group: int, handlers: Handlers) -> None:
            x = trajectory.latents[group].to(like)
            with self._model.hooks.answered_by(handlers):
                self._model.denoised(x, x.new_full((x.shape[0],), trajectory.header.kept_sigmas[group]))

        return rerun

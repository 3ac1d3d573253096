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
from ...core.features import ALL_ROLES, View
from ...core.fusion import FusionSettings
from ...core.layers import LayerId
from ...core.schedule import LEVELS
from .model import HeadlessModel
from .recipe import GUIDING_LAYERS, Recipe

EVERYWHERE = SigmaWindow(float("inf"), 0.0)


class FusedModel:
    """A model whose layers, those of the recipe, fuse the features of a bank; `keep` says where the content stays.

    With style guidance two passes make a step, at cfg 1 with one prompt.
    """

    def __init__(self, model: HeadlessModel, bank: FeatureBank, recipe: Recipe, keep: Tensor | None = None) -> None:
        """`keep` is b h w."""
        self._model = model
        self._bank = bank
        self._guidance = recipe.guidance
        self._correspondences = Correspondences()
        layers = stored_layers(model.architecture, bank, recipe.layers)
        check_detail(bank, recipe.settings, layers)
        self._styled = FusionPatch(bank, recipe.settings, layers, EVERYWHERE, keep=keep)
        self._against: FusionPatch | None = None
        if recipe.against_style:
            guiding = stored_layers(model.architecture, bank, GUIDING_LAYERS)
            self._against = FusionPatch(bank, FusionSettings("nvqg"), guiding, EVERYWHERE, keep=keep)
        for patch in self._patches:
            check_roles(bank, patch.roles, patch.settings.method)

    @property
    def _patches(self) -> list[FusionPatch]:
        return [self._styled, *([] if self._against is None else [self._against])]

    @property
    def layers(self) -> frozenset[LayerId]:
        """The layers whose features are read."""
        return frozenset().union(*(patch.layers for patch in self._patches))

    @property
    def roles(self) -> tuple[str, ...]:
        """Which roles are read of each of the bank's pictures."""
        read = zip(*(patch.roles for patch in self._patches), strict=True)
        return tuple("".join(role for role in ALL_ROLES if role in {*"".join(own)}) for own in read)

    def denoised(self, x: Tensor, sigma: Tensor, views: Sequence[View]) -> Tensor:
        """x b c h w at one level, sigma b, with a view of each of the bank's pictures there -> b c h w."""
        styled = self._answer(self._styled, x, sigma, views)
        if self._guidance.scale == 0.0:
            return styled
        if self._against is not None:
            against = self._answer(self._against, x, sigma, views)
            return self._guidance.applied(styled, styled, styled, against)
        plain = self._model.denoised(x, sigma)
        return self._guidance.applied(plain, plain, plain, styled)

    def _answer(self, patch: FusionPatch, x: Tensor, sigma: Tensor, views: Sequence[View]) -> Tensor:
        """What one patch makes of x, b c h w at the levels b: b c h w."""
        level, noise = float(sigma[0]), float(self._model.timesteps(sigma[:1])) / LEVELS
        matches = self._correspondences.of(patch, self._bank, self.rerun_like(x), x.device)
        handlers = patch.handlers(views, patch.moment(level, noise), matches=matches)
        with self._model.hooks.answered_by(handlers):
            return self._model.denoised(x, sigma)

    def rerun_like(self, like: Tensor) -> Rerun:
        """Runs stored latents through the model, on the device and in the precision of `like`, b c h w."""

        def rerun(trajectory: Trajectory, group: int, handlers: Handlers) -> None:
            x = trajectory.latents[group].to(like)
            with self._model.hooks.answered_by(handlers):
                self._model.denoised(x, x.new_full((x.shape[0],), trajectory.header.kept_sigmas[group]))

        return rerun

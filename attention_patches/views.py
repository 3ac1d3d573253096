"""Views: the features of a bank's pictures at one noise level, stored ones looked up and others made anew."""

from __future__ import annotations

from ..core.bank import FeatureBank
from ..core.features import ImageFeatures, View
from ..core.trajectory import Trajectory
from .fusion_patch import FusionPatch
from .prefetch import Lane, prefetched
from .replay import Catcher, Rerun


def step_views(
    patch: FusionPatch, bank: FeatureBank, sigma: float, rerun: Rerun, lane: Lane | None = None
) -> list[View]:
    """A view of each picture; features elsewhere than on the lane's device reach it a layer ahead."""
    pictures = zip(bank.pictures, patch.roles, strict=True)
    return [_view(patch, features, roles, sigma, rerun, lane) for features, roles in pictures]


def _view(
    patch: FusionPatch, features: ImageFeatures, roles: str, sigma: float, rerun: Rerun, lane: Lane | None
) -> View:
    def replay(trajectory: Trajectory, step: int) -> View:
        catcher = Catcher(patch.layers, roles, trajectory.header.grids)
        rerun(trajectory, step, catcher.handlers)
        return catcher.view

    view = features.view(sigma, replay)
    layers = [layer for layer in features.header.layers if layer in patch.layers]
    if lane is None or features.device is None or features.device.type == lane.device.type or not roles:
        return view
    return prefetched(view, layers, roles, lane)

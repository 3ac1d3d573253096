"""Views: the features of a bank's pictures at one noise level, stored ones looked up and others made anew."""

from __future__ import annotations

from ..banks.bank import FeatureBank
from ..banks.image_features import ImageFeatures
from ..banks.trajectory import Trajectory
from ..core.features import View
from .fusion_patch import FusionPatch
from .prefetch import Lane, prefetched
from .replay import Catcher, Held, Rerun


def step_views(
    patch: FusionPatch,
    bank: FeatureBank,
    sigma: float,
    rerun: Rerun,
    lane: Lane | None = None,
    held: Held | None = None,
) -> list[View]:
    """A view of each picture; features elsewhere than on the lane's device reach it a layer ahead.

    What was replayed is taken from `held` while the group of levels is the same, else made anew at every call.
    """
    held = held or Held()

    def seen(number: int, features: ImageFeatures, roles: str) -> View:
        def replay(trajectory: Trajectory, group: int) -> View:
            return held.view(number, group, lambda: _replayed(patch, trajectory, group, roles, rerun))

        return _ahead(patch, features, roles, features.view(sigma, replay), lane)

    return [seen(number, *picture) for number, picture in enumerate(zip(bank.pictures, patch.roles, strict=True))]


def _replayed(patch: FusionPatch, trajectory: Trajectory, group: int, roles: str, rerun: Rerun) -> View:
    catcher = Catcher(patch.layers, roles, trajectory.header.grids)
    rerun(trajectory, group, catcher.handlers)
    return catcher.view


def _ahead(patch: FusionPatch, features: ImageFeatures, roles: str, view: View, lane: Lane | None) -> View:
    layers = [layer for layer in features.header.layers if layer in patch.layers]
    if lane is None or features.device is None or features.device.type == lane.device.type or not roles:
        return view
    return prefetched(view, layers, roles, lane)

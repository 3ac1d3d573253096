"""Views: the features of a bank's pictures at one noise level, stored ones looked up and trajectories replayed."""

from __future__ import annotations

from ..core.bank import FeatureBank
from ..core.stored_features import StoredFeatures
from ..core.trajectory import Trajectory
from .fusion_patch import FusionPatch, StepView, nearest_view
from .prefetch import Lane, prefetched
from .replay import Catcher, Rerun, replay_view


def step_views(
    patch: FusionPatch, bank: FeatureBank, sigma: float, rerun: Rerun, lane: Lane | None = None
) -> list[StepView]:
    """A view per picture, the content first; features elsewhere than on the lane's device reach it a layer ahead."""
    made: dict[int, StepView] = {}  # a picture that serves twice is replayed once
    for features, roles in patch.pictures(bank):
        if id(features) not in made and isinstance(features, Trajectory):
            catcher = Catcher(patch.layers, roles, features.header.grids)
            made[id(features)] = replay_view(rerun, features, sigma, catcher)
        elif id(features) not in made:
            made[id(features)] = _stored_view(features, sigma, patch, roles, lane)
    return [made[id(features)] for features in bank]


def _stored_view(features: StoredFeatures, sigma: float, patch: FusionPatch, roles: str, lane: Lane | None) -> StepView:
    view = nearest_view(features, sigma)
    layers = [layer for layer in features.header.layers if layer in patch.layers]
    if lane is None or features.device.type == lane.device.type or not roles:
        return view
    return prefetched(view, layers, roles, lane)

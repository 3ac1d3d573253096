"""Views: the features of a bank's pictures at one noise level, stored ones looked up and others made anew."""

from __future__ import annotations

from collections.abc import Collection

from ..banks.bank import FeatureBank
from ..banks.image_features import ImageFeatures
from ..banks.trajectory import Trajectory
from ..core.features import View
from ..core.layers import LayerId
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
    held = Held() if held is None else held

    def seen(number: int, features: ImageFeatures, roles: str) -> View:
        view = held_view(features, sigma, patch.layers, roles, rerun, held, number)
        return _ahead(patch, features, roles, view, lane)

    return [seen(number, *picture) for number, picture in enumerate(zip(bank.pictures, patch.roles, strict=True))]


def held_view(
    features: ImageFeatures,
    sigma: float,
    layers: Collection[LayerId],
    roles: str,
    rerun: Rerun,
    held: Held,
    number: int = 0,
) -> View:
    """A view of one picture, known to `held` by its number: what is replayed serves its group of levels."""

    def replay(trajectory: Trajectory, group: int) -> View:
        return held.view(number, group, lambda: _replayed(layers, trajectory, group, roles, rerun))

    return features.view(sigma, replay)


def _replayed(layers: Collection[LayerId], trajectory: Trajectory, group: int, roles: str, rerun: Rerun) -> View:
    catcher = Catcher(layers, roles, trajectory.header.grids)
    rerun(trajectory, group, catcher.handlers)
    return catcher.view


def _ahead(patch: FusionPatch, features: ImageFeatures, roles: str, view: View, lane: Lane | None) -> View:
    layers = [layer for layer in features.header.layers if layer in patch.layers]
    if lane is None or features.device is None or features.device.type == lane.device.type or not roles:
        return view
    return prefetched(view, layers, roles, lane)

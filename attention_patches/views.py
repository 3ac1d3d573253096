"""Views: the features of a bank's pictures at one noise level, stored ones looked up and others made anew."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ..banks.bank import FeatureBank
from ..banks.image_features import ImageFeatures
from ..banks.trajectory import Trajectory
from ..core.features import View
from ..core.layers import LayerId
from .prefetch import Lane, prefetched
from .replay import Catcher, Held, Rerun


class Reader(Protocol):
    """What reads a bank: a FusionPatch, or several together."""

    @property
    def layers(self) -> Collection[LayerId]:
        """The layers whose features it reads."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Which roles it reads of each of the bank's pictures."""


def step_views(
    reader: Reader,
    bank: FeatureBank,
    sigma: float,
    rerun: Rerun,
    lane: Lane | None = None,
    held: Held | None = None,
    frames: tuple[int, ...] = (),
) -> list[View]:
    """A view of each picture; features elsewhere than on the lane's device reach it a layer ahead.

    Of films that are replayed those `frames` alone, which the rerun runs; none at all: all of them.
    What was replayed is taken from `held` while the group of levels is the same, else made anew at every call.
    """
    held = Held() if held is None else held

    def seen(number: int, features: ImageFeatures, roles: str) -> View:
        view = held_view(features, sigma, reader.layers, roles, rerun, held, number, frames)
        return _ahead(reader, features, roles, view, lane)

    return [seen(number, *picture) for number, picture in enumerate(zip(bank.pictures, reader.roles, strict=True))]


def held_view(
    features: ImageFeatures,
    sigma: float,
    layers: Collection[LayerId],
    roles: str,
    rerun: Rerun,
    held: Held,
    number: int = 0,
    frames: tuple[int, ...] = (),
) -> View:
    """A view of one picture, known to `held` by its number: what is replayed serves its group of levels."""

    def replay(trajectory: Trajectory, group: int) -> View:
        own = frames if trajectory.header.size.frames > 1 else ()
        return held.view(number, group, lambda: _replayed(layers, trajectory, group, roles, rerun, own), own)

    return features.view(sigma, replay)


def _replayed(
    layers: Collection[LayerId],
    trajectory: Trajectory,
    group: int,
    roles: str,
    rerun: Rerun,
    frames: tuple[int, ...],
) -> View:
    grids = trajectory.header.grids
    if frames:
        grids = {layer: grid.with_frames(len(frames)) for layer, grid in grids.items()}
    catcher = Catcher(layers, roles, grids, alone=bool(frames))
    rerun(trajectory, group, catcher.handlers)
    return catcher.view


def _ahead(reader: Reader, features: ImageFeatures, roles: str, view: View, lane: Lane | None) -> View:
    layers = [layer for layer in features.header.layers if layer in reader.layers]
    if lane is None or features.device is None or features.device.type == lane.device.type or not roles:
        return view
    return prefetched(view, layers, roles, lane)

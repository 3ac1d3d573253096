"""The ways of keeping an inverted picture: a row for each."""

from __future__ import annotations

from .image_features import ImageFeatures
from .stored_features import StoredFeatures
from .trajectory import Trajectory

REPRESENTATIONS: dict[str, type[ImageFeatures]] = {kind.representation: kind for kind in (StoredFeatures, Trajectory)}

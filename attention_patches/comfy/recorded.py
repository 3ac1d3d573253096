"""Recorded features in place of latents that the sampling model would replay otherwise than their own model did.

A LoRA that comes after the inversion is in the weights while sampling, and so it would be in a replay. Switching
weights at every step would cost more than the step; hence the latents run through their own model once, before the run,
within the free memory, and what was recorded serves every later run with the same bank.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.utils

from ...banks.bank import FeatureBank
from ...banks.budget import (
    FEATURES_EVERY,
    PictureNeed,
    Recording,
    readable_bytes,
    readable_levels,
    settle_recording,
    total_bytes,
)
from ...banks.image_features import ImageFeatures
from ...banks.placement import latent_precision
from ...banks.stored_features import StoredFeatures, feature_bytes
from ...banks.trajectory import Trajectory
from ...core.errors import MagicStyleError
from ..architectures import find
from ..fusion_patch import FusionPatch
from .manner import answers_alike
from .memory import allocator, free_memory, free_on_disk
from .walks import Chosen, ModelSource, record_trajectory

logger = logging.getLogger("magicstyle")


class Foreign(NamedTuple):
    """A picture of a bank whose latents the sampling model would replay otherwise, and what a run reads of it."""

    trajectory: Trajectory
    source: ModelSource
    chosen: Chosen

    @property
    def need(self) -> PictureNeed:
        """What recording it takes, in the precision of its latents."""
        header, architecture = self.trajectory.header, find(self.source.model)
        grids = {layer: header.grids[layer] for layer in self.chosen.layers}
        found = architecture.resnet
        resnet = {found.layer: found.channels} if found is not None and found.layer in grids else {}
        dtype = latent_precision(self.trajectory.latents.dtype)
        level = feature_bytes(grids, architecture.widths, 1, header.batch, self.chosen.roles, dtype, resnet)
        return PictureNeed(header.groups.count, level)


def with_foreign_latents_recorded(guider: Any, bank: FeatureBank, patch: FusionPatch) -> FeatureBank:
    """The bank as a run may read it: latents that the guider's model would replay otherwise are features."""
    if _of_files(bank) and (guider.model_patcher.patches or guider.model_patcher.injections):
        logger.info(
            "FFA Model Patcher: a file does not hold the model of its latents: they are replayed by the sampling model "
            "as it is, LoRAs included."
        )
    foreign = dict(_foreign(guider, bank, patch))
    missing = {number: picture for number, picture in foreign.items() if picture.source.kept(picture.chosen) is None}
    if missing:
        _record(missing)
    if not foreign:
        return bank
    return bank.with_pictures([_read(features, foreign.get(i)) for i, features in enumerate(bank.pictures)])


def weights_change(guider: Any) -> bool:
    """Whether hooks schedule weights, which are in place for some model calls, those of a replay included."""
    return any(cond.get("hooks") for conds in guider.conds.values() for cond in conds or ())


def _of_files(bank: FeatureBank) -> list[ImageFeatures]:
    """The pictures whose latents come from a file."""
    return [picture for picture in bank.pictures if isinstance(picture, Trajectory) and picture.source is None]


def _foreign(guider: Any, bank: FeatureBank, patch: FusionPatch) -> Any:
    """Numbers and pictures of those latents whose model is known and answers otherwise than the guider's."""
    for number, (picture, roles) in enumerate(zip(bank.pictures, patch.roles, strict=True)):
        if not isinstance(picture, Trajectory) or not isinstance(picture.source, ModelSource) or not roles:
            continue
        alike = answers_alike(picture.source.model, guider.model_patcher, picture.header.kept_sigmas)
        if weights_change(guider) or not alike:
            yield number, Foreign(picture, picture.source, Chosen(patch.layers, roles))


def _read(features: ImageFeatures, foreign: Foreign | None) -> ImageFeatures:
    return features if foreign is None else foreign.source.kept(foreign.chosen) or features


def _record(missing: Mapping[int, Foreign]) -> None:
    """Record pictures, within the budget, with progress, to be kept with their trajectories."""
    recording = _settled([picture.need for picture in missing.values()])
    thin = {number: picture.trajectory.thinned(recording.every) for number, picture in missing.items()}
    bar = comfy.utils.ProgressBar(sum(trajectory.header.groups.count for trajectory in thin.values()))
    for number, picture in missing.items():
        dtype = latent_precision(picture.trajectory.latents.dtype)
        room = allocator("disk" if recording.place == "disk" else "auto", picture.source.model, recording.estimate)
        features: StoredFeatures = record_trajectory(
            picture.source.model,
            thin[number],
            picture.chosen,
            dtype=dtype,
            allocate=room,
            step_done=lambda: bar.update(1),
        )
        picture.source.keep(picture.chosen, features)


def _settled(needs: list[PictureNeed]) -> Recording:
    """How much is recorded and where, said in the log; refused where neither memory nor disk has room."""
    memory, disk = free_memory(), free_on_disk()
    recording = settle_recording(needs, memory, disk)
    because = (
        "the sampling model answers otherwise than the inversion's (a LoRA that came later, or hooks), so that the "
        "features of the bank's latents are recorded with the inversion's model"
    )
    if recording is None:
        least = readable_bytes(total_bytes(needs, FEATURES_EVERY[-1]))
        raise MagicStyleError(
            f"{because}, and those of {readable_levels(FEATURES_EVERY[-1])} take {least}, more than half of what is "
            f"free of memory ({readable_bytes(memory)}) and of the disk ({readable_bytes(disk)}): give both DDIM "
            "Inversion nodes the MODEL that is sampled with, or choose fewer layers on FFA Model Patcher."
        )
    free = memory if recording.place == "cpu" else disk
    logger.log(
        logging.INFO if (recording.every, recording.place) == (1, "cpu") else logging.WARNING,
        "FFA Model Patcher: %s, once: those of %s take %s %s, of which %s were free%s",
        because,
        readable_levels(recording.every),
        readable_bytes(recording.estimate),
        "of memory" if recording.place == "cpu" else "of the disk",
        readable_bytes(free),
        "" if recording.every == 1 else "; give both DDIM Inversion nodes the same MODEL to replay every level.",
    )
    return recording

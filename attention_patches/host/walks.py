"""Walks: a stored trajectory run through the model that made it, by the host's own sampling."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ...core.bank import FeatureBank
from ...core.errors import MagicStyleError
from ...core.features import ROLES, AttentionFeatures, ImageFeatures
from ...core.layers import LayerId
from ...core.stored_features import FeatureWriter, StoredFeatures
from ...core.trajectory import Trajectory
from ..capture import Recorder
from ..fusion_patch import FusionPatch
from .models import weights_id
from .recording import install_capture

logger = logging.getLogger("magicstyle")


def with_other_weights_recorded(guider: Any, bank: FeatureBank, patch: FusionPatch) -> FeatureBank:
    """Trajectories of a model with other weights (a LoRA came later): their features, from that model, for this run."""
    running = weights_id(guider.model_patcher)
    # weights that hooks schedule are in place for some model calls, those of a replay included
    hooked_weights = any(cond.get("hooks") for conds in guider.conds.values() for cond in conds or ())
    replaced: dict[int, ImageFeatures] = {}
    for place, (features, roles) in enumerate(patch.pictures(bank)):
        if not isinstance(features, Trajectory) or features.source is None:
            continue
        if hooked_weights or features.weights != running:
            logger.info("FFA Model Patcher: the sampling model has other weights than the inversion's; recording first")
            replaced[place] = record_trajectory(features, patch.layers, roles)
    return bank.with_features(replaced) if replaced else bank


def features_at(features: ImageFeatures, layer: LayerId, step: int) -> AttentionFeatures:
    """One layer's features at one step, whatever the representation: b n c each."""
    if not isinstance(features, Trajectory):
        return features.at(layer, step)
    if features.source is None:
        raise MagicStyleError(
            "bank holds latents from a file, which need a model to become features: "
            "preview the bank before saving it, or invert with storage features."
        )
    header = replace(features.header, sigmas=features.header.sigmas[step : step + 1])
    moment = Trajectory(header, features.latents[step : step + 1], features.inputs, source=features.source)
    return record_trajectory(moment, (layer,), ROLES).at(layer, 0)


def record_trajectory(trajectory: Trajectory, chosen: Collection[LayerId], roles: str) -> StoredFeatures:
    """Run a whole trajectory through the model that made it: its features at every step, in the live precision."""
    layers = tuple(layer for layer in trajectory.header.layers if layer in chosen)
    recorder = Recorder(FeatureWriter(layers, len(trajectory.header.sigmas), roles, torch.float32))
    sampler = _ReplaySampler(trajectory, recorder)
    zeros = torch.zeros(trajectory.header.latent_shape)
    sigmas = torch.tensor([*trajectory.header.sigmas, 0.0])
    model = install_capture(trajectory.source, recorder)
    comfy.sample.sample_custom(model, zeros, 1.0, sampler, sigmas, [], [], zeros, disable_pbar=True, seed=0)
    return recorder.close(trajectory.header)


class _ReplaySampler(comfy.samplers.Sampler):
    """Evaluates the model on the stored latents, each at its own level."""

    def __init__(self, trajectory: Trajectory, recorder: Recorder) -> None:
        self._trajectory = trajectory
        self._recorder = recorder

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        options = extra_args["model_options"]["transformer_options"]
        inputs = {name: tensor.to(noise.device) for name, tensor in self._trajectory.inputs.items()}
        for step, latent in enumerate(self._trajectory.latents):
            x = latent.to(noise)
            level = sigmas[step].expand(x.shape[0])
            own = {**options, "cond_or_uncond": [0], "sigmas": level}
            with self._recorder.recording((step,), x):
                model_wrap.inner_model.apply_model(x, level, transformer_options=own, **inputs)
        return noise

"""Walks: a stored trajectory run through the model that made it, by the host's own sampling."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ...core.bank import FeatureBank
from ...core.layers import LayerId
from ...core.stored_features import FeatureWriter, StoredFeatures
from ...core.trajectory import Trajectory, mapped_inputs
from ..capture import Recorder
from ..fusion_patch import FusionPatch
from ..protocols import Model
from .models import weights_id
from .recording import install_capture

logger = logging.getLogger("magicstyle")


def with_other_weights_recorded(guider: Any, bank: FeatureBank, patch: FusionPatch) -> FeatureBank:
    """Trajectories of a model with other weights (a LoRA came later): their features, from that model, for this run."""
    running = weights_id(guider.model_patcher)
    weights = None if weights_change(guider) else running
    read = zip(bank.pictures, patch.roles, strict=True)
    pictures = [features.settled(weights, patch.layers, roles) for features, roles in read]
    if all(new is old for new, old in zip(pictures, bank.pictures, strict=True)):
        return bank
    logger.info("FFA Model Patcher: the sampling model has other weights than the inversion's; recorded first")
    return bank.with_pictures(pictures)


def weights_change(guider: Any) -> bool:
    """Whether hooks schedule weights, which are in place for some model calls, those of a replay included."""
    return any(cond.get("hooks") for conds in guider.conds.values() for cond in conds or ())


class ModelSource:
    """The host's model that made a trajectory."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.weights = weights_id(model)

    def record(self, trajectory: Trajectory, layers: Collection[LayerId], roles: str) -> StoredFeatures:
        """The features of every latent that is kept, in the live precision."""
        return record_trajectory(self.model, trajectory, layers, roles)


def record_trajectory(model: Model, trajectory: Trajectory, chosen: Collection[LayerId], roles: str) -> StoredFeatures:
    """Run a whole trajectory through the model that made it: the features of every latent, in the live precision."""
    layers = tuple(layer for layer in trajectory.header.layers if layer in chosen)
    levels = trajectory.header.kept_sigmas
    recorder = Recorder(FeatureWriter(layers, len(levels), roles, torch.float32))
    sampler = _ReplaySampler(trajectory, recorder)
    zeros = torch.zeros(trajectory.header.latent_shape)
    sigmas = torch.tensor([*levels, 0.0])
    model = install_capture(model, recorder)
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
        """The host's call; gives back its noise, b c h w."""
        options = extra_args["model_options"]["transformer_options"]
        inputs = mapped_inputs(self._trajectory.inputs, lambda tensor: tensor.to(noise.device))
        for step, latent in enumerate(self._trajectory.latents):
            x = latent.to(noise)
            level = sigmas[step].expand(x.shape[0])
            own = {**options, "cond_or_uncond": [0], "sigmas": level}
            with self._recorder.recording((step,), x):
                model_wrap.inner_model.apply_model(x, level, transformer_options=own, **inputs)
        return noise

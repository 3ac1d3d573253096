"""Walks: a stored trajectory run through the model that made it, by the host's own sampling."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ...banks.placement import Allocate
from ...banks.stored_features import FeatureWriter, StoredFeatures
from ...banks.trajectory import Trajectory, map_inputs
from ...core.layers import LayerId
from ..architectures import find
from ..capture import Recorder
from ..protocols import Model
from .recording import install_capture


class Chosen(NamedTuple):
    """What of a picture's features is recorded."""

    layers: frozenset[LayerId]
    roles: str

    def covers(self, other: Chosen) -> bool:
        """Whether all that the other chooses is in it."""
        return self.layers >= other.layers and set(self.roles) >= set(other.roles)


class ModelSource:
    """The host's model that made a trajectory, and what was recorded with it for models that answer otherwise."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._kept: dict[Chosen, StoredFeatures] = {}

    def record(self, trajectory: Trajectory, layers: Collection[LayerId], roles: str) -> StoredFeatures:
        """The features of every latent that is kept, in the live precision; nothing of them stays here."""
        return record_trajectory(self.model, trajectory, Chosen(frozenset(layers), roles))

    def keep(self, chosen: Chosen, features: StoredFeatures) -> None:
        """Hold features for later runs, as long as the trajectory lives; they replace those that they cover."""
        self._kept = {known: held for known, held in self._kept.items() if not chosen.covers(known)}
        self._kept[chosen] = features

    def kept(self, chosen: Chosen) -> StoredFeatures | None:
        """What an earlier run has recorded of all that is chosen."""
        return next((held for known, held in self._kept.items() if known.covers(chosen)), None)

    @property
    def resident(self) -> list[Tensor]:
        """The recorded tensors, of any shape, that take main memory."""
        return [tensor for held in self._kept.values() for tensor in held.resident]


def record_trajectory(
    model: Model,
    trajectory: Trajectory,
    chosen: Chosen,
    *,
    dtype: torch.dtype = torch.float32,
    allocate: Allocate | None = None,
    step_done: Callable[[], None] = lambda: None,
) -> StoredFeatures:
    """Run a whole trajectory through the model that made it: the features of every latent that it keeps."""
    layers = tuple(layer for layer in trajectory.header.layers if layer in chosen.layers)
    levels = trajectory.header.kept_sigmas
    recorder = Recorder(FeatureWriter(layers, len(levels), chosen.roles, dtype, allocate))
    sampler = _ReplaySampler(trajectory, recorder, step_done)
    zeros = torch.zeros(trajectory.header.latent_shape)
    sigmas = torch.tensor([*levels, 0.0])
    model = install_capture(model, find(model), recorder)
    comfy.sample.sample_custom(model, zeros, 1.0, sampler, sigmas, [], [], zeros, disable_pbar=True, seed=0)
    return recorder.close(trajectory.header)


class _ReplaySampler(comfy.samplers.Sampler):
    """Evaluates the model on the stored latents, each at its own level; an interrupt ends it between two of them."""

    def __init__(self, trajectory: Trajectory, recorder: Recorder, step_done: Callable[[], None]) -> None:
        self._trajectory = trajectory
        self._recorder = recorder
        self._step_done = step_done

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
        inputs = map_inputs(self._trajectory.inputs, lambda tensor: tensor.to(noise.device))
        for step, latent in enumerate(self._trajectory.latents):
            comfy.model_management.throw_exception_if_processing_interrupted()
            x = latent.to(noise)
            level = sigmas[step].expand(x.shape[0])
            own = {**options, "cond_or_uncond": [0], "sigmas": level}
            with self._recorder.recording((step,), x):
                model_wrap.inner_model.apply_model(x, level, transformer_options=own, **inputs)
            self._step_done()
        return noise

"""Capture: what passes by while a picture is inverted, kept as features or as the trajectory alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..core.features import AttentionFeatures, FeatureHeader
from ..core.inversion import Steps
from ..core.layers import LayerId
from ..core.level_groups import EVERY_STEP, LevelGroups
from ..core.noise_pair import NoisePair
from ..core.placement import Allocate, in_memory, latent_precision, narrowed
from ..core.stored_features import FeatureWriter, StoredFeatures
from ..core.trajectory import Input, Source, Trajectory, constants_of, mapped_inputs
from .call import Call, Handlers, ResNetCall
from .model_call import ModelCall

_T = TypeVar("_T")


class Recorder:
    """Writes the features of the chosen layers while `recording` a step, and lets every call through unchanged.

    Of a walk only the steps `kept` are written, at their place among them.
    """

    def __init__(self, writer: FeatureWriter, kept: Sequence[int] = EVERY_STEP) -> None:
        self._writer = writer
        self._kept = kept
        self._steps: tuple[int, ...] = ()

    @contextmanager
    def recording(self, steps: Steps, x: Tensor) -> Iterator[None]:
        """The `record` of core.inversion: model calls inside belong to `steps`, x is b c h w of each."""
        self._steps = steps
        try:
            yield
        finally:
            self._steps = ()

    def close(
        self, header: FeatureHeader, ends: NoisePair | None = None, source: Source | None = None
    ) -> StoredFeatures:
        """The finished features; they do not need the model any more."""
        return self._writer.close(header, ends)

    def see_inputs(self, call: ModelCall) -> None:
        """Nothing of them is kept."""

    @property
    def handlers(self) -> Handlers | None:
        """Who sees the calls of a model; the ResNet that is copied where its inputs are asked for."""
        return Handlers(self._see, resnet=self._see_resnet if self._writer.wants_resnet else None)

    def _see(self, call: Call) -> None:
        """Keep a copy of q, k and v, b n c each, and leave the answer to the host."""
        if self._steps and call.layer in self._writer:
            rows = zip(*(tensor.chunk(len(self._steps)) for tensor in call.live), strict=True)
            for place, own in _placed(self._steps, rows, self._kept):
                self._writer.write(call.layer, call.layout.grid, place, AttentionFeatures(*own))

    def _see_resnet(self, call: ResNetCall) -> Tensor:
        """Keep a copy of what enters: (steps b) n c."""
        if self._steps:
            for place, own in _placed(self._steps, call.x.chunk(len(self._steps)), self._kept):
                self._writer.write_resnet(call.layer, place, own)
        return call.x


def _placed(steps: Steps, rows: Iterable[_T], kept: Sequence[int]) -> Iterator[tuple[int, _T]]:
    """What belongs to each step that is kept, with its place among those."""
    return ((kept.index(step), own) for step, own in zip(steps, rows, strict=True) if step in kept)


class TrajectoryRecorder:
    """Keeps the latent of each step, of a walk those of the steps `kept`, and the other inputs of the model once."""

    def __init__(self, steps: int, dtype: torch.dtype, kept: Sequence[int] = EVERY_STEP) -> None:
        self._latents: dict[int, Tensor] = {}
        self._steps = steps
        self._kept = kept
        self._dtype = dtype
        self._together = 1
        self.inputs: Mapping[str, Input] = {}

    @contextmanager
    def recording(self, steps: Steps, x: Tensor) -> Iterator[None]:
        """The `record` of core.inversion, x (steps b) c h w."""
        for place, own in _placed(steps, x.chunk(len(steps)), self._kept):
            self._latents[place] = own.detach().to("cpu", torch.float32, copy=True)
        self._together = len(steps)
        yield

    def see_inputs(self, call: ModelCall) -> None:
        """Keep the model's other inputs of the first call, those of one step."""
        if not self.inputs:
            self.inputs = mapped_inputs(call.repeatable, lambda tensor: tensor.chunk(self._together)[0].clone())

    @property
    def handlers(self) -> Handlers | None:
        """Nobody: the attention runs as it does."""
        return None

    def close(self, header: FeatureHeader, ends: NoisePair, source: Source | None = None) -> Trajectory:
        """The finished trajectory."""
        latents = narrowed(torch.stack([self._latents[step] for step in range(self._steps)]), self._dtype)
        header = replace(header, constants=constants_of(self.inputs))
        return Trajectory(header, latents, self.inputs, ends, source=source)


AnyRecorder = Recorder | TrajectoryRecorder


@dataclass(frozen=True)
class Wanted:
    """What an inversion is to keep of a picture."""

    layers: tuple[LayerId, ...]
    groups: LevelGroups
    roles: str
    dtype: torch.dtype
    room: Callable[[], Allocate] = in_memory  # for features; asked only where they are kept


# by representation: what a new one needs beside its class and its row in core.representations
RECORDERS: dict[str, Callable[[Wanted], AnyRecorder]] = {
    "features": lambda wanted: Recorder(
        FeatureWriter(wanted.layers, wanted.groups.count, wanted.roles, wanted.dtype, wanted.room()),
        wanted.groups.kept,
    ),
    "latents": lambda wanted: TrajectoryRecorder(
        wanted.groups.count, latent_precision(wanted.dtype), wanted.groups.kept
    ),
}

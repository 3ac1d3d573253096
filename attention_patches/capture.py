"""Capture: what passes by while a picture is inverted, kept as features or as the trajectory alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..banks.image_features import FeatureHeader
from ..banks.level_groups import EVERY_STEP, LevelGroups
from ..banks.placement import Allocate, in_memory, latent_precision, narrowed
from ..banks.stored_features import FeatureWriter, StoredFeatures
from ..banks.trajectory import Input, Trajectory, TrajectoryModel, constants_of, map_inputs
from ..core.errors import MagicStyleError
from ..core.features import AttentionFeatures
from ..core.inversion import Steps
from ..core.layers import LayerId
from ..core.noise_pair import NoisePair
from .call import Call, Handlers, ResNetCall
from .model_call import ModelCall

_T = TypeVar("_T")


class Watch:
    """Whether the model itself answers every call of a walk, for whole pictures."""

    def __init__(self) -> None:
        self.calls = 0  # of the model
        self.answered = 0  # by its network
        self.hosted = False  # whether calls of the model are shown here
        self.windowed = False  # whether a call held some frames of a film
        self._cut = False  # whether a call held a part of a step's pictures
        self._shape: torch.Size | None = None  # b c h w of what the calls of a step are to hold
        self._called_steps, self._steps = 0, 0  # of all steps those for which the model was called

    @contextmanager
    def walking(self, x: Tensor) -> Iterator[None]:
        """The pictures b c h w of which the calls inside are to be."""
        self._shape, before = x.shape, self.calls
        self._steps += 1
        try:
            yield
        finally:
            self._shape = None
            self._called_steps += self.calls > before

    def whole(self, call: ModelCall) -> bool:
        """Whether a call is of all of them."""
        self.calls += 1
        same = self._shape is None or call.x.shape == self._shape
        windowed = not same and self._some_frames(call.x)
        self.windowed |= windowed
        self._cut |= not same and not windowed
        return same

    def _some_frames(self, x: Tensor) -> bool:
        """Whether x b c t h w is the step's film, but for the number of frames."""
        whole = self._shape or ()
        return len(whole) == x.ndim == 5 and (*whole[:2], *whole[3:]) == (*x.shape[:2], *x.shape[3:])

    def close(self) -> None:
        """Refuse a walk in which no call, or not each step's, reached the model as it was made."""
        if self._cut:
            raise MagicStyleError(
                "another node cuts the picture into tiles or windows, or a batch into its pictures, before the "
                "inversion's model sees it, so that no layer was seen whole: take it off the inversion's model; the "
                "sampler's may have it."
            )
        if self.hosted and self._called_steps < self._steps:
            raise MagicStyleError(
                f"another node answered {self._steps - self._called_steps} of {self._steps} steps of the inversion in "
                "the model's place: take it off the inversion's model; the sampler's may have it."
            )

    def check(self, others: str = "") -> None:
        """Refuse a walk in which another node answered in the network's place; `others` names those that could."""
        if 0 < self.answered < self.calls:
            raise MagicStyleError(
                f"another node{others} answered {self.calls - self.answered} of {self.calls} calls of the inversion's "
                "model from its memory: take it off the inversion's model; the sampler's may have it."
            )


class Recorder:
    """Writes the features of the chosen layers while `recording` a step, and lets every call through unchanged.

    Of a walk only the steps `kept` are written, at their place among them. What a call shows of a part of the pictures
    is not written.
    """

    def __init__(self, writer: FeatureWriter, kept: Sequence[int] = EVERY_STEP) -> None:
        self._writer = writer
        self._kept = kept
        self._steps: tuple[int, ...] = ()
        self._whole = True
        self.watch = Watch()

    @contextmanager
    def recording(self, steps: Steps, x: Tensor) -> Iterator[None]:
        """The `record` of core.inversion: model calls inside belong to `steps`, x is b c h w of each."""
        self._steps = steps
        try:
            with self.watch.walking(x):
                yield
        finally:
            self._steps = ()

    def close(
        self, header: FeatureHeader, noise_pair: NoisePair | None = None, source: TrajectoryModel | None = None
    ) -> StoredFeatures:
        """The finished features; they do not need the model any more."""
        self.watch.close()
        if self.watch.windowed:
            raise MagicStyleError(
                "the inversion's model goes over the film in context windows, so that no layer was seen whole: set "
                "storage to latents, or take the windows off the inversion's model; the sampler's may have them."
            )
        return self._writer.close(header, noise_pair)

    def see_inputs(self, call: ModelCall) -> None:
        """Nothing of them is kept."""
        self._whole = self.watch.whole(call)

    @property
    def handlers(self) -> Handlers | None:
        """Who sees the calls of a model; of ResNets what is kept of them."""
        if not self._whole:
            return None
        resnet = self._see_resnet if self._writer.wants_resnet else None
        return Handlers(self._see, resnet=resnet, added=self._see_added if self._writer.wants_detail else None)

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

    def _see_added(self, call: ResNetCall) -> Tensor:
        """Keep a copy of what a ResNet adds: (steps b) n c."""
        if self._steps and call.layer in self._writer:
            for place, own in _placed(self._steps, call.x.chunk(len(self._steps)), self._kept):
                self._writer.write_added(call.layer, call.grid, place, own)
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
        self.watch = Watch()
        self.inputs: Mapping[str, Input] = {}

    @contextmanager
    def recording(self, steps: Steps, x: Tensor) -> Iterator[None]:
        """The `record` of core.inversion, x (steps b) c h w."""
        for place, own in _placed(steps, x.chunk(len(steps)), self._kept):
            self._latents[place] = own.detach().to("cpu", torch.float32, copy=True)
        self._together = len(steps)
        with self.watch.walking(x):
            yield

    def see_inputs(self, call: ModelCall) -> None:
        """Keep the model's other inputs of the first call on whole pictures, those of one step."""
        if (self.watch.whole(call) or self.watch.windowed) and not self.inputs:
            self.inputs = map_inputs(call.repeatable, lambda tensor: tensor.chunk(self._together)[0].clone())

    @property
    def handlers(self) -> Handlers | None:
        """Nobody: the attention runs as it does."""
        return None

    def close(self, header: FeatureHeader, noise_pair: NoisePair, source: TrajectoryModel | None = None) -> Trajectory:
        """The finished trajectory."""
        self.watch.close()
        latents = narrowed(torch.stack([self._latents[step] for step in range(self._steps)]), self._dtype)
        header = replace(header, constants=constants_of(self.inputs))
        return Trajectory(header, latents, self.inputs, noise_pair, source=source)


AnyRecorder = Recorder | TrajectoryRecorder


@dataclass(frozen=True)
class RecordingSpec:
    """What an inversion is to keep of a picture."""

    layers: tuple[LayerId, ...]
    groups: LevelGroups
    roles: str
    dtype: torch.dtype
    room: Callable[[], Allocate] = in_memory  # for features; called only where they are kept


# by representation: what a new one needs beside its class and its row in core.representations
RECORDERS: dict[str, Callable[[RecordingSpec], AnyRecorder]] = {
    "features": lambda spec: Recorder(
        FeatureWriter(spec.layers, spec.groups.count, spec.roles, spec.dtype, spec.room()),
        spec.groups.kept,
    ),
    "latents": lambda spec: TrajectoryRecorder(spec.groups.count, latent_precision(spec.dtype), spec.groups.kept),
}

"""Capture: what passes by while a picture is inverted, kept as features or as the trajectory alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ..core.attention import Kernel
from ..core.features import AttentionFeatures, FeatureHeader, FeatureWriter, StoredFeatures, Trajectory
from ..core.placement import narrowed
from .call_site import CallSite, ResNetHandler


class Recorder:
    """Writes the features of the chosen layers while `recording` a step, and lets every call through unchanged."""

    def __init__(self, writer: FeatureWriter) -> None:
        self._writer = writer
        self.step: int | None = None

    @contextmanager
    def recording(self, step: int, x: Tensor) -> Iterator[None]:
        """The `record` of core.inversion: model calls inside belong to `step`."""
        self.step = step
        try:
            yield
        finally:
            self.step = None

    def close(
        self, header: FeatureHeader, noise: Tensor | None = None, source: object = None, weights: str = ""
    ) -> StoredFeatures:
        """The finished features; they do not need the model any more."""
        return self._writer.close(header, noise)

    def handle(self, site: CallSite, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Answer one attention call as the host would, keeping a copy of q, k and v."""
        if self.step is not None and site.layer in self._writer:
            self._writer.write(site.layer, site.grid, self.step, AttentionFeatures(q, k, v))
        return kernel.call(q, k, v, None)

    @property
    def resnet(self) -> ResNetHandler | None:
        """What sees the ResNet that is copied, where its inputs are asked for."""
        return self._see_resnet if self._writer.wants_resnet else None

    def _see_resnet(self, site: CallSite, x: Tensor) -> Tensor:
        if self.step is not None:
            self._writer.write_resnet(self.step, x)
        return x


class TrajectoryRecorder:
    """Keeps the latent of each step, and the other inputs of the model once."""

    def __init__(self, steps: int, dtype: torch.dtype) -> None:
        self._latents: list[Tensor | None] = [None] * steps
        self._dtype = dtype
        self.inputs: Mapping[str, Tensor] = {}

    @contextmanager
    def recording(self, step: int, x: Tensor) -> Iterator[None]:
        """The `record` of core.inversion."""
        self._latents[step] = x.detach().to("cpu", torch.float32, copy=True)
        yield

    def close(self, header: FeatureHeader, noise: Tensor, source: object, weights: str) -> Trajectory:
        """The finished trajectory."""
        latents = narrowed(torch.stack(self._latents), self._dtype)
        return Trajectory(header, latents, self.inputs, noise, source=source, weights=weights)

"""Capture: the self-attention features that pass by while a picture is inverted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from ..core.attention import Kernel
from ..core.features import AttentionFeatures, FeatureWriter
from .call_site import CallSite


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

    def handle(self, site: CallSite, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Answer one attention call as the host would, keeping a copy of q, k and v."""
        if self.step is not None and site.layer in self._writer:
            self._writer.write(site.layer, site.grid, self.step, AttentionFeatures(q, k, v))
        return kernel.call(q, k, v, None)

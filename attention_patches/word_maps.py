"""Reading: the attention maps that tell where the model sees a prompt's words."""

from __future__ import annotations

from torch import Tensor

from ..core.grid import Grid
from ..core.word_regions import MapCollector, is_coarse
from .call import Call, Handlers


class WordReader:
    """Collects the maps of the coarse grids, and lets every call through unchanged."""

    def __init__(self, latent: Grid) -> None:
        self._latent = latent
        self.maps = MapCollector()

    @property
    def handlers(self) -> Handlers:
        """Who sees the calls of a model."""
        return Handlers(self._see, cross=self._see)

    def _see(self, call: Call) -> Tensor:
        """Answer an attention call as the host would: b n c."""
        if is_coarse(call.layout.grid, self._latent):
            self.maps.add(call.kind, call.layout.grid, call.live.q, call.live.k, call.kernel.heads)
        return call.plain()

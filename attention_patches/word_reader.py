"""Reading: the attention maps that tell where the model sees a prompt's words."""

from __future__ import annotations

from torch import Tensor

from ..core.attention import Kernel
from ..core.regions import Grid
from ..core.word_regions import MapCollector, is_coarse
from .call_site import CallSite


class WordReader:
    """Collects the maps of the coarse grids, and lets every call through unchanged."""

    def __init__(self, latent: Grid) -> None:
        self._latent = latent
        self.maps = MapCollector()

    def see_self(self, site: CallSite, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Answer a self-attention call as the host would."""
        return self._see("self", site, kernel, q, k, v)

    def see_cross(self, site: CallSite, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Answer a cross-attention call as the host would."""
        return self._see("cross", site, kernel, q, k, v)

    def _see(self, kind: str, site: CallSite, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if is_coarse(site.grid, self._latent):
            self.maps.add(kind, site.grid, q, k, kernel.heads)
        return kernel.call(q, k, v, None)

"""Ideogram 4: text and picture in one stream, a token for each pixel of a latent of 128 channels."""

from __future__ import annotations

from typing import Any

from ...core.rotation import Rotation
from .base import LayerFacts
from .hooked import Hooked
from .transformer import Stack


class Ideogram4(Hooked):
    """The positions of its picture begin at a fixed place, whatever the text; a negative prompt may have no text."""

    network = "comfy.ldm.ideogram4.model.Ideogram4Transformer2DModel"
    stacks = (Stack("single", "layers"),)

    @property
    def rotation(self) -> Rotation:
        """Interleaved MRoPE: the axes of rows and columns have their sections, the first has what is left."""
        _, rows, columns = self._network.mrope_section
        left = self._network.head_dim - 2 * (rows + columns)
        return Rotation((left, 2 * rows, 2 * columns), float(self._network.rope_theta), halves=True, alternating=True)

    def _modules(self, block: Any) -> tuple[Any, ...]:
        return (block.attention,)

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(block.attention.hidden_size, block.attention.num_heads)

    @property
    def _patch(self) -> int:
        return 1

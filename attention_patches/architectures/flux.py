"""Flux.1, Flux.2, LongCat-Image, Chroma: double blocks, with text and picture in streams of their own, then single."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...core.features import Depth
from ...core.grid import Grid
from .base import LayerFacts
from .transformer import Stack, Transformer

# the host's class of the model whose network is a Flux, and whose picture stands behind its caption
LONGCAT = "LongCatImage"


class Flux(Transformer):
    """Flux.1 dev, schnell and Kontext, Flux.2 and LongCat-Image: text, picture, reference latents."""

    network = "comfy.ldm.flux.model.Flux"
    stacks = (Stack("double", "double_blocks"), Stack("single", "single_blocks"))

    @property
    def kept_layers(self) -> str:
        """AlignedGen (2509.17088) draws style in all single blocks; Flux.2 and Chroma by analogy."""
        return "single"

    @property
    def guided(self) -> bool:
        """Flux dev and Flux.2 dev are, schnell is not."""
        return bool(getattr(self._network.params, "guidance_embed", False))

    def depth(self, text: int, references: Sequence[Grid] = ()) -> Depth:
        """LongCat-Image's rows and columns both begin at the number of the caption's tokens, its first axis at 1."""
        return (1.0, float(text), float(text)) if self.name == LONGCAT else ()

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(self._network.hidden_size, self._network.num_heads)


class Chroma(Flux):
    """Flux without the guidance: the same blocks and tokens."""

    network = "comfy.ldm.chroma.model.Chroma"

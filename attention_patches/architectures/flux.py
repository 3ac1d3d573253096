"""Flux.1, Flux.2 and Chroma: double blocks with text and picture in streams of their own, then single ones."""

from __future__ import annotations

from typing import Any

from .base import LayerFacts
from .transformer import Stack, Transformer


class Flux(Transformer):
    """Flux.1 dev, schnell and Kontext, and Flux.2: text, picture, reference latents."""

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

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(self._network.hidden_size, self._network.num_heads)


class Chroma(Flux):
    """Flux without the guidance: the same blocks and tokens."""

    network = "comfy.ldm.chroma.model.Chroma"

"""Cosmos-Predict2 and Anima, for one frame: the picture attends to itself, then to the text."""

from __future__ import annotations

from typing import Any

from ...core.rotation import Rotation
from .base import LayerFacts, Parametrization
from .hooked import Hooked
from .transformer import Stack

BASE = 10_000.0  # of the rotary frequencies, before each axis is stretched by a factor of its own


class Cosmos(Hooked):
    """Cosmos-Predict2, text to image, which adds noise as Stable Diffusion does: x = x0 + sigma n."""

    network = "comfy.ldm.cosmos.predict2.MiniTrainDIT"
    joint = False  # the text has a cross-attention
    stacks = (Stack("double", "blocks"),)
    parametrization = Parametrization.DIFFUSION

    @property
    def rotation(self) -> Rotation | None:
        """Time, rows, columns; a third of the channels each for rows and columns, in whole pairs."""
        embedder = getattr(self._network, "pos_embedder", None)
        if embedder is None:
            return None
        side, width = 2 * len(embedder.dim_spatial_range), 2 * len(embedder.dim_temporal_range)
        factors = embedder.t_ntk_factor, embedder.h_ntk_factor, embedder.w_ntk_factor
        return Rotation((width, side, side), tuple(BASE * factor for factor in factors), halves=True)

    def _modules(self, block: Any) -> tuple[Any, ...]:
        return (block.self_attn,)

    def _facts(self, block: Any) -> LayerFacts:
        attention = block.self_attn
        return LayerFacts(attention.n_heads * attention.head_dim, attention.n_heads)

    def _text_tokens(self, length: int) -> int:
        return 0

    @property
    def _patch(self) -> int:
        return self._network.patch_spatial


class Anima(Cosmos):
    """The same blocks, for flow matching."""

    network = "comfy.ldm.anima.model.Anima"
    parametrization = Parametrization.FLOW

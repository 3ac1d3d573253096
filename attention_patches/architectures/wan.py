"""Wan: the picture, or all frames of a film together, attends to itself, then to the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.layers import LayerId
from .base import LayerFacts, RawCall
from .transformer import Stack, Transformer


class Wan(Transformer):
    """A block's first attention is the picture's own. Token counts cannot tell: a text may have as many."""

    network = "comfy.ldm.wan.model.WanModel"
    joint = False  # the text has a cross-attention
    stacks = (Stack("double", "blocks"),)

    @property
    def films(self) -> bool:  # type: ignore[override]
        """Text to video alone: what other models of the class take besides has frames of its own."""
        network = self._network
        return network.model_type == "t2v" and network.in_dim == network.out_dim and network.patch_size[0] == 1

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(block.self_attn.dim, block.self_attn.num_heads)

    def _layer(self, raw: RawCall) -> LayerId | None:
        return None if raw.mark.passed else super()._layer(raw)

    def _text_tokens(self, length: int) -> int:
        return 0

    def _seen_text(self, args: Mapping[str, Any], known: int) -> int:
        return 0

    @property
    def _patch(self) -> int:
        return self._network.patch_size[1]

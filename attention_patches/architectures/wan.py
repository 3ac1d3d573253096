"""Wan, for one frame: the picture attends to itself, then to the text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.layers import LayerId
from .base import LayerFacts, RawCall
from .transformer import Stack, Transformer


class Wan(Transformer):
    """A block's first attention is the picture's own. Token counts cannot tell: a text may have as many."""

    network = "comfy.ldm.wan.model.WanModel"
    stacks = (Stack("double", "blocks"),)

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

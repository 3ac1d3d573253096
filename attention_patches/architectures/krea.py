"""Krea 2: text, picture and references in one stream of blocks that the host numbers in its options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...core.layers import LayerId
from ..model_call import ModelCall
from .base import LayerFacts, RawCall
from .transformer import BlockMark, Stack, Transformer

# the blocks of Krea 2; other counts are other models, of whose layers nobody has said anything
BLOCKS = 28


class Krea2(Transformer):
    """Krea 2 Raw and Turbo; the text's own attention runs before, with no block in its options."""

    network = "comfy.ldm.krea2.model.SingleStreamDiT"
    stacks = (Stack("single", "blocks"),)

    @property
    def kept_layers(self) -> str:
        """Where ComfyUI-Krea2-StyleTransfer and Universal-Untwisting-RoPE bring style in."""
        return "single.7-27" if len(self.layers) == BLOCKS else "all"

    @contextmanager
    def marks(self, call: ModelCall) -> Iterator[BlockMark]:
        """Nothing to put in place."""
        yield self._mark(call)

    def _layer(self, raw: RawCall) -> LayerId | None:
        named = raw.options.get("block_type") == "single" and "block_index" in raw.options
        return LayerId("single", raw.options["block_index"], 0) if named else None

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(block.attn.heads * block.attn.headdim, block.attn.heads)

    @property
    def _patch(self) -> int:
        return self._network.patch

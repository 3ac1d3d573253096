"""Lumina 2 and Z-Image: a caption, then the picture, in blocks that the host numbers in its options."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...core.features import Depth
from ...core.grid import Grid
from ...core.layers import LayerId
from ..model_call import ModelCall
from .base import LayerFacts, RawCall
from .transformer import BlockMark, Stack, Tokens, Transformer, count, mark_of


class NextDiT(Transformer):
    """The picture's place on axis 0 of the positions depends on the caption's length.

    The refiners that run before have either the caption alone or the picture alone.
    """

    network = "comfy.ldm.lumina.model.NextDiT"
    stacks = (Stack("double", "layers"),)
    since = (0, 5, 0)

    def _facts(self, block: Any) -> LayerFacts:
        attention = block.attention
        return LayerFacts(attention.n_local_heads * attention.head_dim, attention.n_local_heads)

    def _text_tokens(self, length: int) -> int:
        return self._padded(length)

    def _padded(self, count: int) -> int:
        multiple = getattr(self._network, "pad_tokens_multiple", None) or 1
        return -(-count // multiple) * multiple

    @contextmanager
    def marks(self, call: ModelCall) -> Iterator[BlockMark]:
        """Nothing to put in place."""
        yield self._mark(call)

    def _layer(self, raw: RawCall) -> LayerId | None:
        if raw.options.get("block_type") != "double" or "block_index" not in raw.options:
            return None
        mark = mark_of(raw)
        joint = mark.text + self._padded(mark.grid.tokens)
        return LayerId("double", raw.options["block_index"], 0) if count(raw, raw.q) >= joint else None

    def _tokens(self, raw: RawCall) -> Tokens | None:
        """The picture is last, behind its caption, reference pictures and what a vision model says of these."""
        mark = mark_of(raw)
        own = mark.grid.tokens
        start = count(raw, raw.q) - self._padded(own)
        return Tokens(slice(start, start + own)) if start >= mark.text else None

    def depth(self, text: int, references: Sequence[Grid] = ()) -> Depth:
        """Behind the caption and its padding."""
        return (self._padded(text) + 1.0,)

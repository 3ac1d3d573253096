"""HiDream-I1: the picture first, then three texts; double blocks, then single ones."""

from __future__ import annotations

from typing import Any

from ...core.errors import MagicStyleError
from ..model_call import ModelCall
from .base import LayerFacts
from .hooked import Hooked
from .transformer import BlockMark, Stack


class HiDream(Hooked):
    """HiDream-I1 full, dev and fast; HiDream-E1 widens the picture by the one that it edits, and is refused."""

    network = "comfy.ldm.hidream.model.HiDreamImageTransformer2DModel"
    stacks = (Stack("double", "double_stream_blocks"), Stack("single", "single_stream_blocks"))

    def _modules(self, block: Any) -> tuple[Any, ...]:
        return (block.block.attn1,)

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(block.block.attn1.inner_dim, block.block.attn1.heads)

    def _mark(self, call: ModelCall) -> BlockMark:
        if call.inputs.get("image_cond") is not None:
            raise MagicStyleError(
                "the prompt carries a picture to edit, which HiDream-E1 puts beside its own among the same tokens: "
                "take a HiDream-I1 model, and a prompt without that picture."
            )
        return super()._mark(call)

    def _text_tokens(self, length: int) -> int:
        return 0

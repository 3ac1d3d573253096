"""Transformers of one stack of joint blocks, or nearly: SD3 and SD3.5, Qwen-Image, AuraFlow."""

from __future__ import annotations

from typing import Any

from ...core.layers import LayerId
from .base import LayerFacts, RawCall
from .transformer import Stack, Tokens, Transformer, mark_of


class StableDiffusion3(Transformer):
    """SD3 and SD3.5; the latter's first blocks have a second attention, of the picture alone: `double.3.1`."""

    network = "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper"
    stacks = (Stack("double", "joint_blocks"),)

    def _facts(self, block: Any) -> LayerFacts:
        attention = block.x_block.attn
        return LayerFacts(attention.qkv.in_features, attention.num_heads)

    def _attentions(self, block: Any) -> int:
        return 2 if block.x_block.x_block_self_attn else 1

    def _layer(self, raw: RawCall) -> LayerId | None:
        """There is always a text, so that the number of tokens tells the joint attention."""
        block = mark_of(raw).block
        return None if block is None else LayerId(*block, 1 if self._alone(raw) else 0)

    def _tokens(self, raw: RawCall) -> Tokens | None:
        return Tokens(slice(0, mark_of(raw).grid.tokens)) if self._alone(raw) else super()._tokens(raw)

    def _alone(self, raw: RawCall) -> bool:
        return raw.q.shape[1] == mark_of(raw).grid.tokens


class QwenImage(Transformer):
    """Qwen-Image and Qwen-Image-Edit: text, picture, reference latents."""

    network = "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel"
    stacks = (Stack("double", "transformer_blocks"),)

    @property
    def centred(self) -> bool:
        """Token (h // 2, w // 2) is at zero."""
        return True

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(block.attn.inner_dim, block.attn.heads)


class AuraFlow(Transformer):
    """AuraFlow: registers, text, picture; first double, then single blocks."""

    network = "comfy.ldm.aura.mmdit.MMDiT"
    stacks = (Stack("double", "double_layers"), Stack("single", "single_layers"))

    def _facts(self, block: Any) -> LayerFacts:
        return LayerFacts(block.attn.n_heads * block.attn.head_dim, block.attn.n_heads)

    def _text_tokens(self, length: int) -> int:
        return length + self._network.register_tokens.shape[1]

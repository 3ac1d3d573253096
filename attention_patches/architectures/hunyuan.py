"""Hunyuan-Image 2.1: the blocks of Flux, one token for each of a latent's pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...core.errors import MagicStyleError
from ..model_call import ModelCall
from .base import RawCall
from .flux import Flux
from .transformer import BlockMark, Tokens, mark_of


class HunyuanImage(Flux):
    """Two axes of positions and square patches tell it from the models of films that have the same class."""

    network = "comfy.ldm.hunyuan_video.model.HunyuanVideo"

    @classmethod
    def fits(cls, network: Any) -> bool:
        """Known by its class and its patches."""
        return super().fits(network) and len(network.patch_size) == 2

    @contextmanager
    def marks(self, call: ModelCall) -> Iterator[BlockMark]:
        """As Flux; a mask of padding serves one row, since the host makes room for one."""
        if call.x.shape[0] > 1 and call.inputs.get("attention_mask") is not None:
            raise MagicStyleError(
                "the prompt carries a mask of its padding, which ComfyUI's Hunyuan-Image takes for one row of a batch "
                "alone: sample one picture at a time, or a prompt and a negative prompt without padding."
            )
        with super().marks(call) as mark:
            yield mark

    @property
    def host_guidance(self) -> float:
        """Of the host's HunyuanVideo, from which its HunyuanImage21 derives."""
        return 6.0

    def _tokens(self, raw: RawCall) -> Tokens | None:
        """Older hosts have the picture before the text."""
        tokens = super()._tokens(raw)
        if tokens is None or not getattr(self._network.double_blocks[0], "flipped_img_txt", False):
            return tokens
        return Tokens(slice(0, mark_of(raw).grid.tokens))

    @property
    def _patch(self) -> int:
        return self._network.patch_size[-1]

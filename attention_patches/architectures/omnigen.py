"""OmniGen2 and Boogu: text, reference pictures and the picture, whose queries share keys and values among heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...core.features import Depth
from ...core.grid import Grid
from ...core.rotation import Rotation
from ..call import Call
from .base import LayerFacts, Merged, RawCall
from .hooked import Hooked
from .transformer import Stack, Tokens, count, mark_of

GROUPED = "enable_gqa"  # the host's word for keys and values with fewer heads than queries


class OmniGen2(Hooked):
    """The picture is last, and stands behind the text and the references on the first axis of the positions."""

    network = "comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel"
    stacks: tuple[Stack, ...] = (Stack("double", "layers"),)

    @property
    def rotation(self) -> Rotation:
        """Text and references, rows, columns."""
        embedder = self._network.rope_embedder
        return Rotation(tuple(embedder.axes_dim), float(embedder.theta))

    def depth(self, text: int, references: Sequence[Grid] = ()) -> Depth:
        """A reference takes as many places as its longer side has tokens."""
        return (float(text + sum(max(self._grid(size)) for size in references)),)

    def read(self, raw: RawCall) -> Call | Merged | None:
        """As any joint call, with keys and values for every head."""
        return super().read(_every_head(raw))

    def write(self, raw: RawCall, picture: Tensor, text: Tensor | None = None) -> Tensor:
        """Likewise: b n c, b m c."""
        return super().write(_every_head(raw), picture, text)

    def _modules(self, block: Any) -> tuple[Any, ...]:
        return (block.attn,)

    def _facts(self, block: Any) -> LayerFacts:
        attention = self._modules(block)[0]
        return LayerFacts(attention.heads * attention.dim_head, attention.heads)

    def _tokens(self, raw: RawCall) -> Tokens | None:
        own, tokens = mark_of(raw).grid.tokens, count(raw, raw.q)
        return Tokens(slice(tokens - own, tokens)) if tokens >= own else None


class Boogu(OmniGen2):
    """Its double blocks attend twice: text and pictures together, then the pictures by themselves, `double.3.1`."""

    network = "comfy.ldm.boogu.model.BooguTransformer2DModel"
    stacks = (Stack("double", "double_stream_layers"), Stack("single", "single_stream_layers"))

    def _modules(self, block: Any) -> tuple[Any, ...]:
        return (block.attn,) if hasattr(block, "attn") else (block.img_instruct_attn, block.img_self_attn)


def _every_head(raw: RawCall) -> RawCall:
    """Keys and values repeated to as many heads as queries have, b h n d each."""
    if not raw.kwargs.get(GROUPED):
        return raw
    times = raw.q.shape[1] // raw.k.shape[1]
    kwargs = {key: value for key, value in raw.kwargs.items() if key != GROUPED}
    k, v = (x.repeat_interleave(times, dim=1) for x in (raw.k, raw.v))
    return raw._replace(k=k, v=v, kwargs=kwargs)

"""Where diffusers computes self-attention: one processor per layer, which a handler may answer for.

Letters: b rows of a batch, n query tokens, m key tokens, h heads, d head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn

from ..core.attention import Kernel
from ..core.layers import LayerId
from ..core.regions import Grid

# answers one self-attention call: (layer, grid, kernel, q, k, v) -> b n (h d)
Handler = Callable[[LayerId, Grid, Kernel, Tensor, Tensor, Tensor], Tensor]


def plain(layer: LayerId, grid: Grid, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The handler that changes nothing."""
    return kernel.call(q, k, v, None)


class Hooks:
    """The self-attention layers of one UNet under ComfyUI's names, and the handler that answers for them now."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.handler: Handler = plain
        self.latent_grid: Grid = (0, 0)
        self.widths: dict[LayerId, int] = {}  # channels per layer, in the order of execution
        processors = dict(unet.attn_processors)
        for name, module in sorted(_self_attention(unet), key=lambda entry: _order(entry[0])):
            layer, halvings = locate(name, unet.config.layers_per_block, len(unet.config.block_out_channels))
            processors[f"{name}.processor"] = SelfAttention(layer, halvings, self)
            self.widths[layer] = module.inner_dim
        unet.set_attn_processor(processors)

    @contextmanager
    def answered_by(self, handler: Handler) -> Iterator[None]:
        """Let `handler` answer the self-attention calls inside."""
        previous, self.handler = self.handler, handler
        try:
            yield
        finally:
            self.handler = previous


class SelfAttention:
    """A diffusers attention processor for the attn1 of one transformer block."""

    def __init__(self, layer: LayerId, halvings: int, hooks: Hooks) -> None:
        self._layer = layer
        self._halvings = halvings
        self._hooks = hooks

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Hidden states b n c -> b n c."""
        q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        grid = halved(self._hooks.latent_grid, self._halvings)
        out = self._hooks.handler(self._layer, grid, torch_kernel(attn.heads, q), q, k, v)
        return attn.to_out[1](attn.to_out[0](out))


def torch_kernel(heads: int, q: Tensor) -> Kernel:
    """PyTorch's own attention on b n (h d), for tensors on the device of `q`."""

    def call(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (q, k, v))
        mask = None if mask is None else mask.unsqueeze(1)  # b 1 m -> b 1 1 m
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return rearrange(out, "b h n d -> b n (h d)")

    # on an accelerator a mask would trade the flash kernel for a slower one
    return Kernel(call, heads, takes_key_mask=q.device.type == "cpu")


def halved(grid: Grid, times: int) -> Grid:
    """The grid after stride-2 convolutions, which round up."""
    h, w = grid
    for _ in range(times):
        h, w = (h + 1) // 2, (w + 1) // 2
    return h, w


def locate(name: str, layers_per_block: int, levels: int) -> tuple[LayerId, int]:
    """diffusers' module name -> the layer under ComfyUI's block numbers, and how often its grid was halved.

    ComfyUI counts residual blocks and resamplings in one row: level L of the way down starts at 1 + L (layers + 1),
    step L of the way up at L (layers + 1).
    """
    parts = name.split(".")
    index = int(parts[parts.index("transformer_blocks") + 1])
    place = int(parts[parts.index("attentions") + 1])
    if parts[0] == "mid_block":
        return LayerId("middle", 0, index), levels - 1
    block = int(parts[1])
    if parts[0] == "down_blocks":
        return LayerId("input", 1 + block * (layers_per_block + 1) + place, index), block
    return LayerId("output", block * (layers_per_block + 1) + place, index), levels - 1 - block


def _self_attention(unet: UNet2DConditionModel) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in unet.named_modules() if name.endswith(".attn1"))


def _order(name: str) -> tuple[int, list[int]]:
    """Down, middle, up; then by number."""
    side = ("down_blocks", "mid_block", "up_blocks").index(name.split(".")[0])
    return side, [int(part) for part in name.split(".") if part.isdigit()]

"""Stable Diffusion UNets: SD1.5, SD2.1, SDXL and their kin.

Self- and cross-attention are told apart by a flag that an attn1_patch raises and an attn1_output_patch lowers. Token
counts cannot tell: a 448x704 picture has a grid of 77 tokens. The output patch also runs after an attn1_replace, which
the override never sees, so it must be the one that lowers the flag.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ...core.detail import begins_decoder_block
from ...core.features import AttentionFeatures
from ...core.grid import Grid
from ...core.layers import LayerId
from ..call import Call, ResNetCall, ResNetHandler, TokenLayout
from ..model_call import ModelCall
from .base import HostArchitecture, LayerFacts, Mark, Merged, Parametrization, RawCall, ResNetFacts, patched, rows_of

# the block whose ResNet DiffStyler copies: up_blocks[1].resnets[1] of diffusers
RESNET = LayerId("output", 4, 0)


class Unet(HostArchitecture):
    """A UNet of the original implementation: `output.5.0` is transformer block 0 of output block 5."""

    parametrization = Parametrization.DIFFUSION
    shows_words = True

    @classmethod
    def fits(cls, network: Any) -> bool:
        """Known by its blocks."""
        return hasattr(network, "input_blocks") and hasattr(network, "output_blocks")

    @cached_property
    def layers(self) -> Mapping[LayerId, LayerFacts]:
        """The attn1 of every transformer block."""
        found = ((layer, transformer.attn1) for layer, transformer in _transformers(self._network))
        return {layer: LayerFacts(attention.heads * attention.dim_head, attention.heads) for layer, attention in found}

    def grids(self, size: tuple[int, ...]) -> dict[LayerId, Grid]:
        """Every downsampling halves the latent's (h, w), rounding up."""
        grids, grid = [], Grid(size)
        for block in self._network.input_blocks:
            if any(type(module).__name__ == "Downsample" for module in block):
                grid = Grid(-(-side // 2) for side in grid)
            grids.append(grid)
        # an output block works at the size of the input block whose skip connection it takes
        by_block = {"input": grids, "middle": grids[-1:], "output": grids[::-1]}
        return {layer: by_block[layer.block][layer.number] for layer in self.layers}

    @property
    def kept_layers(self) -> str:
        """The decoder; SDXL and its kin have six decoder blocks with attention at most."""
        return "output.3-11" if self._deep else "output.0-5"

    @property
    def fused_layers(self) -> str:
        """The layers of StyleID, where there are as many."""
        return "output.6-11" if self._deep else "output.0-5"

    @property
    def _deep(self) -> bool:
        return any(layer.block == "output" and layer.number > 5 for layer in self.layers)

    @property
    def resnet(self) -> ResNetFacts | None:
        """Two inputs of the block's own width enter it."""
        facts = self.layers.get(RESNET)
        return None if facts is None else ResNetFacts(RESNET, 2 * facts.width)

    @contextmanager
    def marks(self, call: ModelCall) -> Iterator[Mark]:
        """The flag that tells self-attention."""
        mark = Mark()

        @torch.compiler.disable
        def enter_self_attention(n: Tensor, context: Tensor, value: Tensor, _: Any) -> tuple[Tensor, Tensor, Tensor]:
            """An attn1_patch, on what becomes q, k and v: b n c each."""
            mark.in_self_attention = True
            return n, context, value

        @torch.compiler.disable
        def leave_self_attention(n: Tensor, _: Any) -> Tensor:
            """An attn1_output_patch: b n c."""
            mark.in_self_attention = False
            return n

        with patched(call.options, attn1_patch=enter_self_attention, attn1_output_patch=leave_self_attention):
            yield mark

    def read(self, raw: RawCall) -> Call | Merged | None:
        """All rows' tokens are the picture's, b n (h d); without block or grid the host does not say enough."""
        if not (raw.mark.in_self_attention or raw.mark.cross):
            return None
        block, shape = raw.options.get("block"), raw.options.get("activations_shape")
        if block is None or shape is None or raw.masked or raw.split:
            return None
        layer, grid = LayerId(block[0], block[1], raw.options.get("block_index", 0)), Grid(shape[2:])
        # a prompt has its own number of tokens
        whole = raw.q.ndim == 3 and raw.q.shape[1] == grid.tokens
        if raw.mark.in_self_attention and not (whole and raw.q.shape == raw.k.shape == raw.v.shape):
            return Merged(layer)
        if not whole:
            return None
        rows, live = rows_of(raw.options, _latent(raw.options)), AttentionFeatures(raw.q, raw.k, raw.v)
        return Call(
            layer, TokenLayout(grid), rows, live, raw.kernel(), "self" if raw.mark.in_self_attention else "cross"
        )

    def write(self, raw: RawCall, picture: Tensor, text: Tensor | None = None) -> Tensor:
        """There are no other tokens: b n c."""
        return picture

    def layers_answered_by_others(self, options: Mapping[str, Any], layers: Collection[LayerId]) -> list[LayerId]:
        """Those with an attn1_replace, for the transformer block or for the whole block."""
        replacements = options.get("patches_replace", {}).get("attn1", {})
        return [layer for layer in layers if tuple(layer) in replacements or layer[:2] in replacements]

    def options_without_attention_patches(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Without what merges or tiles tokens or answers instead: features are kept per token."""
        kept = dict(options)
        found = [_taken(kept, "patches", name) for name in ("attn1_patch", "attn1_output_patch")]
        return kept, any([*found, _taken(kept, "patches_replace", "attn1")])

    def resnet_hook(
        self, call: ModelCall, handler: ResNetHandler, admits: Callable[[Mapping[str, Any]], bool]
    ) -> AbstractContextManager[None]:
        """The inputs of output block 4, from below and from the skip connection, b c h w each."""

        @torch.compiler.disable
        def patch(h: Tensor, skip: Tensor, live: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
            """An output_block_patch: b c h w each."""
            if tuple(live["block"]) != RESNET[:2] or h.ndim != 4 or not admits(live):
                return h, skip
            x = rearrange(torch.cat([h, skip], dim=1), "b c h w -> b (h w) c")
            x = handler(ResNetCall(RESNET, Grid(h.shape[2:]), rows_of(live, _latent(live)), x))
            x = rearrange(x, "b (h w) c -> b c h w", h=h.shape[2])
            return x[:, : h.shape[1]], x[:, h.shape[1] :]

        return patched(call.options, output_block_patch=patch)

    @contextmanager
    def added_hook(
        self, call: ModelCall, handler: ResNetHandler, admits: Callable[[Mapping[str, Any]], bool]
    ) -> Iterator[None]:
        """What the ResNets of output blocks with attention add, b c h w, by the last convolution of each.

        Threads share a network, and its modules know nothing of the call: the patch that runs before a block says so.
        """
        live: dict[int, Mapping[str, Any]] = {}  # of the block that runs, its options
        own, network = threading.get_ident(), self._network if call.network is None else call.network

        @torch.compiler.disable
        def enter(h: Tensor, skip: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
            """An output_block_patch: b c h w each."""
            live.clear()
            if h.ndim == 4 and admits(options):
                live[options["block"][1]] = options
            return h, skip

        def see(layer: LayerId) -> Callable[..., Tensor | None]:
            @torch.compiler.disable
            def hook(module: Any, inputs: tuple[Tensor, ...], found: Tensor) -> Tensor | None:
                """A forward hook: b c h w."""
                options = live.pop(layer.number, None) if threading.get_ident() == own else None
                if options is None:
                    return None
                x = rearrange(found, "b c h w -> b (h w) c")
                x = handler(ResNetCall(layer, Grid(found.shape[2:]), rows_of(options, _latent(options)), x))
                return rearrange(x, "b (h w) c -> b c h w", h=found.shape[2])

            return hook

        with ExitStack() as stack, patched(call.options, output_block_patch=enter):
            for layer in filter(begins_decoder_block, self.layers):
                # a block of another node's making may have none
                parts = getattr(network.output_blocks[layer.number][0], "out_layers", None)
                if parts is not None:
                    stack.callback(parts[-1].register_forward_hook(see(layer)).remove)
            yield


def _taken(options: dict[str, Any], group: str, name: str) -> bool:
    """Take one kind of patches off a group, which is copied first; whether there was any."""
    if group not in options:
        return False
    options[group] = dict(options[group])
    return bool(options[group].pop(name, None))


def _latent(options: Mapping[str, Any]) -> Grid | None:
    """The (h, w) of what the UNet was called with."""
    shape = options.get("original_shape")
    return None if shape is None else Grid(shape[2:])


def _transformers(unet: Any) -> Iterator[tuple[LayerId, Any]]:
    for name, number, block in _blocks(unet):
        for module in block:
            for index, transformer in enumerate(getattr(module, "transformer_blocks", ())):
                yield LayerId(name, number, index), transformer


def _blocks(unet: Any) -> Iterator[tuple[str, int, Any]]:
    yield from (("input", number, block) for number, block in enumerate(unet.input_blocks))
    if unet.middle_block is not None:
        yield "middle", 0, unet.middle_block
    yield from (("output", number, block) for number, block in enumerate(unet.output_blocks))

"""Transformers of flow matching, as far as they are alike: text and picture are tokens of one attention.

The host does not say everywhere which block runs. A pass-through entry in its patches_replace["dit"] does, on every
host, and goes around whatever another node has put there.

Letters: b rows, n tokens of a call, m of them beside the picture, h heads, d head width, c = h d channels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor

from ...core.attention import LOG_ZERO, Kernel, Source
from ...core.features import AttentionFeatures
from ...core.grid import Grid
from ...core.layers import LayerId
from ...core.rotation import Rotation
from ..call import Call, RowPlan, TokenLayout
from ..entry import put
from ..model_call import ModelCall
from .base import MASKING_BACKENDS, HostArchitecture, LayerFacts, Mark, Merged, Parametrization, RawCall, rows_of


class Stack(NamedTuple):
    """Blocks of one kind: the first part of their layers' names, and where the network has them."""

    name: str
    attribute: str


class BlockMark(Mark):
    """Which block of a model call is running, and what the call's tokens are; one for each model call."""

    def __init__(self, latent: Grid, grid: Grid, text: int, references: Sequence[Grid] = ()) -> None:
        super().__init__()
        self.latent = latent  # (h, w) of what the model was called with
        self.grid = grid
        self.text = text  # tokens before the picture's
        self.references = references  # (h, w) of the latents of reference pictures
        self.block: tuple[str, int] | None = None
        self.running_layers: list[LayerId] = []  # told by hooks, the innermost last

    @contextmanager
    def running(self, stack: str, number: int) -> Iterator[None]:
        """Inside one block."""
        self.block, self.passed = (stack, number), False
        try:
            yield
        finally:
            self.block = None


class Tokens(NamedTuple):
    """The tokens of a joint call: text before the picture, what else there is behind it."""

    picture: slice

    def of_picture(self, x: Tensor) -> Tensor:
        """b n c -> the picture's."""
        return x[:, self.picture]

    def of_rest(self, x: Tensor) -> Tensor:
        """b n c -> b m c."""
        return torch.cat([x[:, : self.picture.start], x[:, self.picture.stop :]], dim=1)

    def joined(self, picture: Tensor, rest: Tensor) -> Tensor:
        """The inverse of the two: b n c."""
        return torch.cat([rest[:, : self.picture.start], picture, rest[:, self.picture.start :]], dim=1)


class Transformer(HostArchitecture):
    """A transformer whose blocks form stacks; `double.5.0` is the first attention of block 5 of the double blocks."""

    parametrization = Parametrization.FLOW
    large = True
    joint = True
    network: str  # the host's class, module and name
    stacks: tuple[Stack, ...]

    @classmethod
    def fits(cls, network: Any) -> bool:
        """Known by its class: a class derived from it may have other tokens."""
        return f"{type(network).__module__}.{type(network).__qualname__}" == cls.network

    @cached_property
    def layers(self) -> Mapping[LayerId, LayerFacts]:
        """Every attention of picture tokens, block after block."""
        return {
            LayerId(stack.name, number, index): self._facts(block)
            for stack in self.stacks
            for number, block in enumerate(getattr(self._network, stack.attribute))
            for index in range(self._attentions(block))
        }

    @cached_property
    def _counts(self) -> dict[str, int]:
        """How many blocks each stack has, as `layers` found them."""
        return {
            stack.name: len({layer.number for layer in self.layers if layer.block == stack.name})
            for stack in self.stacks
        }

    def grids(self, size: tuple[int, ...]) -> dict[LayerId, Grid]:
        """A token for each patch of the latent's (h, w), the last ones padded."""
        return dict.fromkeys(self.layers, self._grid(Grid(size)))

    @property
    def rotation(self) -> Rotation | None:
        """How queries and keys are turned by their positions, where they are."""
        embedder = getattr(self._network, "pe_embedder", None) or getattr(self._network, "rope_embedder", None)
        return None if embedder is None else Rotation(tuple(embedder.axes_dim), float(embedder.theta))

    @contextmanager
    def marks(self, call: ModelCall) -> Iterator[BlockMark]:
        """A pass-through around every block."""
        mark = self._mark(call)
        replaced = call.options.get("patches_replace") or {}
        passed = dict(replaced.get("dit", {}))
        for stack in self.stacks:
            blocks = getattr(self._network, stack.attribute)
            # another node that has put blocks of its own in their place runs ours where no name is known
            for number in range(len(blocks) if len(blocks) == self._counts[stack.name] else 0):
                key = (f"{stack.name}_block", number)
                passed[key] = self._passing(mark, stack.name, number, passed.get(key))
        with put(call.options, "patches_replace", {**replaced, "dit": passed}):
            yield mark

    def read(self, raw: RawCall) -> Call | Merged | None:
        """The picture's tokens of a call of a known block, b n (h d); the others become the kernel's text source."""
        layer = self._layer(raw)
        if layer is None:
            return None
        tokens, text_source = self._tokens(raw), None
        if tokens is None or count(raw, raw.k) != count(raw, raw.q):
            return Merged(layer)
        q, k, v = (_flat(raw, x) for x in (raw.q, raw.k, raw.v))
        if tokens.of_rest(q).shape[1]:
            bias = _key_bias(raw, tokens)
            if bias is _UNEVEN:
                return Merged(layer)
            text_source = Source(tokens.of_rest(k), tokens.of_rest(v), 0.0, bias)
        live = AttentionFeatures(*(tokens.of_picture(x) for x in (q, k, v)))

        def text_queries() -> Tensor | None:
            """Queries b m c."""
            return tokens.of_rest(q) if _one_for_all(raw.mask) else None

        layout, text = self._layout(mark_of(raw), tokens), None if text_source is None else text_queries
        return Call(layer, layout, self._rows(raw), live, _kernel(raw, text_source), text=text)

    def write(self, raw: RawCall, picture: Tensor, text: Tensor | None = None) -> Tensor:
        """The other tokens answer as they would have, unless their answer is given: b n c."""
        tokens = cast(Tokens, self._tokens(raw))  # `read` has found them
        if text is not None:
            return tokens.joined(picture, text)
        q, k, v = (_flat(raw, x) for x in (raw.q, raw.k, raw.v))
        rest = tokens.of_rest(q)
        if not rest.shape[1]:
            return picture
        mask = raw.mask
        if mask is not None and mask.shape[-2] > 1:
            mask = torch.cat([mask[..., : tokens.picture.start, :], mask[..., tokens.picture.stop :, :]], dim=-2)
        return tokens.joined(picture, _host_attention(raw, rest, k, v, mask))

    def layers_answered_by_others(self, options: Mapping[str, Any], layers: Collection[LayerId]) -> list[LayerId]:
        """A node that replaces a block still calls the block's own attention, as far as the host's nodes go."""
        return []

    def options_without_attention_patches(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """As it is: what other nodes put around blocks is a part of the model that samples."""
        return dict(options), False

    @abstractmethod
    def _facts(self, block: Any) -> LayerFacts:
        """The width and the heads of a block's attention."""

    def _attentions(self, block: Any) -> int:
        """How many attentions of the picture's tokens a block has."""
        return 1

    def _text_tokens(self, length: int) -> int:
        """How many tokens stand before the picture's, for a text of that length."""
        return length

    def _layout(self, mark: BlockMark, tokens: Tokens) -> TokenLayout:
        return TokenLayout(mark.grid, tokens.picture, self.depth(mark.text, mark.references))

    def _grid(self, size: Grid) -> Grid:
        patch = self._patch
        return size.with_frame(tuple(-(-side // patch) for side in size.frame))

    @property
    def _patch(self) -> int:
        return self._network.patch_size

    def _mark(self, call: ModelCall) -> BlockMark:
        size, text = Grid(call.x.shape[2:]), call.inputs.get("c_crossattn")
        references = sizes_of(call.inputs.get("ref_latents"))
        return BlockMark(size, self._grid(size), 0 if text is None else self._text_tokens(text.shape[1]), references)

    def _passing(self, mark: BlockMark, stack: str, number: int, previous: Any) -> Callable[..., Any]:
        """A dit patch that runs its block, or another node's patch of it."""

        @torch.compiler.disable
        def run(args: dict[str, Any], extra: dict[str, Any]) -> Any:
            mark.text = self._seen_text(args, mark.text)
            with mark.running(stack, number):
                return extra["original_block"](args) if previous is None else previous(args, extra)

        return run

    def _seen_text(self, args: Mapping[str, Any], known: int) -> int:
        """The text's tokens as a block gets them, where it gets them apart from the picture's."""
        return args["txt"].shape[1] if "txt" in args else known

    def _layer(self, raw: RawCall) -> LayerId | None:
        """The layer of a call, None where it is not one of the picture's."""
        block = mark_of(raw).block
        return None if block is None else LayerId(*block, 0)

    def _tokens(self, raw: RawCall) -> Tokens | None:
        """Where the picture is among the tokens of a call; None where there are fewer than there should be."""
        mark = mark_of(raw)
        start, stop = mark.text, mark.text + mark.grid.tokens
        return Tokens(slice(start, stop)) if count(raw, raw.q) >= stop else None

    def _rows(self, raw: RawCall) -> RowPlan:
        return rows_of(raw.options, mark_of(raw).latent)


_UNEVEN = object()


def sizes_of(latents: Sequence[Tensor] | None) -> list[Grid]:
    """The (h, w) of each latent b c h w, or b c 1 h w."""
    return [Grid(latent.shape[2:]) for latent in latents or ()]


def mark_of(raw: RawCall) -> BlockMark:
    """The mark of a call, which `Transformer.marks` put up."""
    return cast(BlockMark, raw.mark)


def count(raw: RawCall, x: Tensor) -> int:
    """The tokens of q, k or v as a call has them, b n (h d) or b h n d."""
    return x.shape[2] if raw.kwargs.get("skip_reshape") else x.shape[1]


def _flat(raw: RawCall, x: Tensor) -> Tensor:
    """q, k or v of a call -> b n (h d); SD3's values come as b n h d though nothing says so."""
    if raw.kwargs.get("skip_reshape"):
        return rearrange(x, "b h n d -> b n (h d)")
    return x if x.ndim == 3 else rearrange(x, "b n h d -> b n (h d)")


def _host_attention(raw: RawCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The host's attention function on b n (h d), called as its own block calls it."""
    if raw.kwargs.get("skip_reshape"):
        q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=raw.heads) for x in (q, k, v))
    return raw.delegate(q, k, v, mask=mask)


def _kernel(raw: RawCall, text_source: Source | None) -> Kernel:
    def call(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q b n (h d), k and v b m (h d), a mask b 1 m -> b n (h d)."""
        return _host_attention(raw, q, k, v, mask)

    def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q b n (h d), k and v b m (h d) -> b n (h d)."""
        return _host_attention(raw.exact(), q, k, v, None)

    # on an accelerator a mask would trade the flash kernel for a slower one
    on_cpu = raw.previous is None and raw.q.device.type == "cpu"
    return Kernel(call, raw.heads, on_cpu and raw.func.__name__ in MASKING_BACKENDS, text_source, exact)


def _one_for_all(mask: Tensor | None) -> bool:
    """Whether a mask, n m with any batch axes before, hides the same keys from every query."""
    return mask is None or mask.shape[-2] == 1 or bool((mask == mask[..., :1, :]).all())


def _key_bias(raw: RawCall, tokens: Tokens) -> Any:
    """What a mask adds to the other tokens' logits, for the picture's queries: b m, or that it differs by query."""
    mask = raw.mask
    if mask is None:
        return None
    mask = rearrange(mask, "n m -> 1 1 n m") if mask.ndim == 2 else mask if mask.ndim == 4 else mask.unsqueeze(1)
    rows = mask if mask.shape[2] == 1 else mask[:, :, tokens.picture]
    bias = torch.cat([rows[..., : tokens.picture.start], rows[..., tokens.picture.stop :]], dim=-1)
    if not bool((bias == bias[:, :1, :1]).all()):
        return _UNEVEN
    bias = bias[:, 0, 0]
    return torch.where(bias, 0.0, LOG_ZERO) if bias.dtype == torch.bool else bias.clamp(min=LOG_ZERO)

"""Which attention call is this? The host's `transformer_options` are read and dressed here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from ..core.attention import Kernel
from ..core.features import RESNET
from ..core.layers import LayerId
from ..core.regions import Grid, Window

OVERRIDE = "optimized_attention_override"
# holds the one handler that may answer; while a handler delegates, none may: a fused call is not fused again
ONLY = "magicstyle_only"
# the indices in cond_or_uncond that are negative prompts: they mean something else to each guider
NEGATIVE = "magicstyle_negative"
# uuid -> Window of the latent: the conds that are limited to an area, of which the model sees nothing else
AREAS = "magicstyle_areas"
# backends that broadcast a 1 x m mask instead of spreading it to n x m
MASKING_BACKENDS = ("attention_pytorch", "attention_sub_quad")


class CallSite(NamedTuple):
    """One self-attention call of the host's UNet: its layer, its (h, w) grid of tokens, the chunks of its batch.

    A chunk holds the rows of one cond. `windows` says which part of the latent each shows, None for all of it.
    """

    layer: LayerId
    grid: Grid
    chunks: int  # rows are chunk-major: (chunks b) n c
    negative: tuple[bool, ...] = ()  # which chunks are known to answer a negative prompt
    windows: tuple[Window | None, ...] = ()  # none at all: every chunk shows the whole latent
    latent: Grid | None = None  # the (h, w) of the latent that the model was called with

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> CallSite | None:
        """The call site, or None where the host does not say enough (a model that is not a UNet)."""
        block, shape = options.get("block"), options.get("activations_shape")
        if block is None or shape is None:
            return None
        layer = LayerId(block[0], block[1], options.get("block_index", 0))
        uuids, negative, areas = options.get("uuids", ()), options.get(NEGATIVE, ()), options.get(AREAS)
        chunks = options.get("cond_or_uncond", (0,))
        flags = tuple(index in negative for index in chunks) if negative else ()
        windows = tuple(areas.get(uuid) for uuid in uuids) if areas else ()
        whole = options.get("original_shape")
        latent = None if whole is None else (whole[2], whole[3])
        return cls(layer, (shape[2], shape[3]), len(chunks), flags, windows, latent)

    def matches(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        """Whether q, k and v hold one token per grid cell; token-merging and tiling patches change that."""
        return q.ndim == 3 and q.shape == k.shape == v.shape and q.shape[1] == self.grid[0] * self.grid[1]


# sees what enters the ResNet of the one block that has it copied, and may replace it: (site, x), b n c -> b n c
ResNetHandler = Callable[[CallSite, Tensor], Tensor]
# answers one self-attention call, (site, kernel, q, k, v) -> b n c, or leaves it to whoever else is there with None
Handler = Callable[[CallSite, Kernel, Tensor, Tensor, Tensor], Tensor | None]


# hears of a self-attention call whose tokens another node has merged or tiled
Missed = Callable[[CallSite], None]


def replaced_layers(options: Mapping[str, Any], layers: Iterable[LayerId]) -> list[LayerId]:
    """Which layers' self-attention another node answers by itself (attn1_replace) in this model call."""
    replacements = options.get("patches_replace", {}).get("attn1", {})
    return [layer for layer in layers if tuple(layer) in replacements or layer[:2] in replacements]


@contextmanager
def hooked(
    options: dict[str, Any],
    handler: Handler,
    *,
    cross: Handler | None = None,
    resnet: ResNetHandler | None = None,
    missed: Missed | None = None,
    alone: bool = False,
) -> Iterator[dict[str, Any]]:
    """Let `handler` answer the self-attention calls of one model call, and `cross` those of cross-attention.

    `resnet` sees the inputs of one ResNet, `missed` hears of calls that do not hold one token per grid cell. `options`
    leave as they came.

    `alone` silences the pack's other handlers for this call; other nodes' overrides are called in any case.

    Self- and cross-attention are told apart by a flag that an attn1_patch raises and an attn1_output_patch lowers.
    Token counts cannot tell: a 448x704 picture has a grid of 77 tokens. The output patch also runs after an
    attn1_replace, which the override never sees, so it must be the one that lowers the flag.
    """
    patches, flag = options.get("patches"), _Flag()
    added = {"attn1_patch": flag.rise, "attn1_output_patch": flag.fall}
    if resnet is not None:
        added["output_block_patch"] = _resnet_patch(resnet, handler)
    with (
        _set(options, OVERRIDE, _override(options, flag, handler, cross, missed)),
        _set(options, "patches", _with_patches(patches or {}, **added)),
        _set(options, ONLY, handler) if alone else nullcontext(),
    ):
        yield options


class _Flag:
    """Up while a self-attention runs; one for each model call, hence for each thread."""

    def __init__(self) -> None:
        self.up = False

    @torch.compiler.disable
    def rise(self, n: Tensor, context: Tensor, value: Tensor, _: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """An attn1_patch."""
        self.up = True
        return n, context, value

    @torch.compiler.disable
    def fall(self, n: Tensor, _: dict[str, Any]) -> Tensor:
        """An attn1_output_patch."""
        self.up = False
        return n


def _override(
    options: dict[str, Any], flag: _Flag, handler: Handler, cross: Handler | None, missed: Missed | None
) -> Callable[..., Tensor]:
    previous = options.get(OVERRIDE)

    @torch.compiler.disable
    def override(func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        live = kwargs.get("transformer_options", options)
        answer = handler if flag.up else cross
        allowed = answer is not None and live.get(ONLY, handler) == handler and _is_plain(args, kwargs)
        site = CallSite.read(live) if allowed else None
        # a prompt has its own number of tokens
        if site is None or not (site.matches(q, k, v) if flag.up else site.matches(q, q, q)):
            if site is not None and flag.up and missed is not None:
                missed(site)
            return _delegate(previous, func, q, k, v, args, kwargs)
        with _set(live, ONLY, _NOBODY):
            out = answer(site, _kernel(previous, func, q, args, kwargs), q, k, v)
        return _delegate(previous, func, q, k, v, args, kwargs) if out is None else out

    return override


def _resnet_patch(resnet: ResNetHandler, handler: Handler) -> Callable[..., tuple[Tensor, Tensor]]:
    """The host's output_block_patch: a block's inputs, from below and from the skip connection, b c h w each."""

    @torch.compiler.disable
    def patch(h: Tensor, skip: Tensor, live: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if tuple(live["block"]) != RESNET[:2] or live.get(ONLY, handler) != handler or h.ndim != 4:
            return h, skip
        x = rearrange(torch.cat([h, skip], dim=1), "b c h w -> b (h w) c")
        # the block's transformer comes after its ResNet: what the options say of shapes is an earlier block's
        site = CallSite.read({**live, "block_index": 0, "activations_shape": h.shape})
        x = resnet(site, x)
        x = rearrange(x, "b (h w) c -> b c h w", h=h.shape[2])
        return x[:, : h.shape[1]], x[:, h.shape[1] :]

    return patch


def _is_plain(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    masked = len(args) > 1 or kwargs.get("mask") is not None
    return not masked and not kwargs.get("skip_reshape") and not kwargs.get("skip_output_reshape")


def _kernel(previous: Any, func: Callable[..., Tensor], q: Tensor, args: Any, kwargs: dict[str, Any]) -> Kernel:
    def call(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        extra = kwargs if mask is None else {**kwargs, "mask": mask}
        return _delegate(previous, func, q, k, v, args, extra)

    # on an accelerator a mask would trade the flash kernel for a slower one
    broadcasts = previous is None and q.device.type == "cpu" and func.__name__ in MASKING_BACKENDS
    return Kernel(call, heads=args[0] if args else kwargs["heads"], takes_key_mask=broadcasts)


def _delegate(
    previous: Any, func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, args: Any, kwargs: Any
) -> Tensor:
    # q, k, v positionally: the backends do not agree on their names
    if previous is None:
        return func(q, k, v, *args, **kwargs)
    return previous(func, q, k, v, *args, **kwargs)


_NOBODY = object()
_ABSENT = object()


@contextmanager
def _set(options: dict[str, Any], key: str, value: Any) -> Iterator[None]:
    before = options.get(key, _ABSENT)
    options[key] = value
    try:
        yield
    finally:
        if before is _ABSENT:
            options.pop(key, None)
        else:
            options[key] = before


def _with_patches(patches: Mapping[str, list[Any]], **added: Any) -> dict[str, list[Any]]:
    return {**patches, **{name: [*patches.get(name, ()), patch] for name, patch in added.items()}}

"""Which attention functions may carry weights and regions, and what answers where one may not.

Weights and regions travel as channels beside q and k (core.attention). They hold numbers many times those of the
features: a function that rounds blocks of q and k to 8 bits (Sage, comfy kitchen) loses both in them, and one for heads
of at most 128 channels cannot take 136. ComfyUI hands an override the attention function that its flags chose. A node
that chooses another one for a model is an override, too: one that answers without calling that function.

Letters: b rows of a batch, h heads, n tokens, d head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

# the host's functions that compute in the tensors' own precision, whatever the width of a head
EXACT = (
    "attention_basic",
    "attention_flash",
    "attention_pytorch",
    "attention_split",
    "attention_sub_quad",
    "attention_xformers",
)
BENEATH = "magicstyle_beneath"  # of an override of ours: the one that it calls
Attention = Callable[..., Tensor]
_answered: WeakKeyDictionary[Any, dict[tuple[int, ...], bool]] = WeakKeyDictionary()


def torch_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    attn_precision: Any = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **_: Any,
) -> Tensor:
    """PyTorch's own attention as the host calls its functions: b n (h d), or b h n d where reshapes are skipped."""
    if not skip_reshape:  # SD3's values are b n h d though nothing says so
        q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
    if mask is not None and mask.ndim == 3:
        mask = mask.unsqueeze(1)  # b n m -> b 1 n m
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out if skip_output_reshape else rearrange(out, "b h n d -> b n (h d)")


def exact_backend(
    func: Attention,
    previous: Attention | None,
    call: tuple[Tensor, Tensor, Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> tuple[Attention, Attention | None]:
    """The function and the override, if any, that answer a call with channels: q, k and v b n (h d) or b h n d."""
    while previous is not None and hasattr(previous, BENEATH):
        previous = getattr(previous, BENEATH)
    if previous is not None and _answers_itself(previous, func, call, args, kwargs):
        return torch_attention, None
    return (func if getattr(func, "__name__", "") in EXACT else torch_attention), previous


def _answers_itself(
    previous: Attention,
    func: Attention,
    call: tuple[Tensor, Tensor, Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> bool:
    """Whether an override leaves the host's function alone: seen once for each shape of q, on a call as it came.

    q, k and v are b n (h d) or b h n d.
    """
    try:
        known = _answered.setdefault(previous, {})
    except TypeError:  # an object without a hash is looked at anew each time
        known = {}
    shape = tuple(call[0].shape)
    if shape not in known:
        reached = []

        def seen(*args: Any, **kwargs: Any) -> Tensor:
            """The host's function, b n (h d) or b h n d."""
            reached.append(True)
            return func(*args, **kwargs)

        previous(seen, *call, *args, **kwargs)
        known[shape] = not reached
    return known[shape]

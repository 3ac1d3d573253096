"""Plain-torch attention, written from the formulas and sharing no code with the pack."""

import torch
import torch.nn.functional as F
from magicstyle.core.attention import Kernel


def split(t, heads):
    b, n, c = t.shape
    return t.reshape(b, n, heads, c // heads).permute(0, 2, 1, 3)


def dense_attention(q, k, v, heads, bias=None, tau=1.0):
    """softmax(tau q k' / sqrt(d) + bias) v with everything materialised; bias b n m or anything that broadcasts."""
    q, k, v = (split(t, heads) for t in (q, k, v))
    logits = tau * (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias.unsqueeze(1)
    out = torch.softmax(logits, dim=-1) @ v
    return out.permute(0, 2, 1, 3).reshape(out.shape[0], out.shape[2], -1)


def kernel(heads, takes_key_mask, calls=None):
    """A host-like attention function; `calls` collects the shapes that it was given."""

    def call(q, k, v, mask):
        if calls is not None:
            calls.append((q.shape, k.shape, None if mask is None else mask.shape))
        assert mask is None or takes_key_mask
        mask = None if mask is None else mask.unsqueeze(1)
        out = F.scaled_dot_product_attention(*(split(t, heads) for t in (q, k, v)), attn_mask=mask)
        return out.transpose(1, 2).flatten(2)

    return Kernel(call, heads, takes_key_mask)


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

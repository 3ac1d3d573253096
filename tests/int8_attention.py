"""Attention that rounds q and k to 8 bits in blocks of tokens, in plain torch: what int8 kernels for GPUs lose.

Written from the description of SageAttention (Zhang et al. 2024, arXiv 2410.02367): q in blocks of 128 tokens and k in
blocks of 64, one scale for a block of a head, the product of v with the softmax in half precision.
"""

import torch
from einops import rearrange

Q_BLOCK, K_BLOCK = 128, 64
WIDEST = 128  # channels of a head


def rounded(x, block):
    """b h n d through int8 and back, one scale for each block of tokens."""
    parts = []
    for tokens in x.split(block, dim=2):
        scale = tokens.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-12) / 127
        parts.append((tokens / scale).round().clamp(-127, 127) * scale)
    return torch.cat(parts, dim=2)


def int8_attention(q, k, v, heads, mask=None, skip_reshape=False, skip_output_reshape=False):
    """The host's calling convention: b n (h d), or b h n d."""
    assert mask is None, "int8 kernels take no mask"
    if not skip_reshape:
        q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
    width = q.shape[-1]
    if width > WIDEST:
        raise ValueError(f"Unsupported head_dim: {width}")
    q, k = rounded(q * width**-0.5, Q_BLOCK), rounded(k, K_BLOCK)
    weights = torch.softmax(q @ k.transpose(-1, -2), dim=-1)
    out = (weights.half().float() @ v.half().float()).to(v.dtype)
    return out if skip_output_reshape else rearrange(out, "b h n d -> b n (h d)")

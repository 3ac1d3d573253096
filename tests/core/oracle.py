"""Attention and every published fusion in plain torch, written from the formulas and sharing no code with the pack.

A fusion's rule answers one attention call, `rule(live, content, style, heads, done, t)`: three times (q, k, v), each
b n (h d), the share of steps that are done, and the timestep as a share of all; further arguments are its knobs.
"""

import torch
import torch.nn.functional as F
from magicstyle.core.attention import Kernel


def split(t, heads):
    """b n (h d) -> b h n d."""
    b, n, c = t.shape
    return t.reshape(b, n, heads, c // heads).permute(0, 2, 1, 3)


def dense_attention(q, k, v, heads, bias=None, tau=1.0, mass=None):
    """softmax(tau q k' / sqrt(d) + bias) v with everything materialised; bias b n m or anything that broadcasts.

    `mass`, of the same shape, multiplies a token's share before the softmax is normalised.
    """
    q, k, v = (split(t, heads) for t in (q, k, v))
    logits = tau * (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias.unsqueeze(1)
    weights = torch.softmax(logits, dim=-1)
    if mass is not None:
        weights = weights * mass.unsqueeze(1)
        weights = weights / weights.sum(-1, keepdim=True)
    out = weights @ v
    return out.permute(0, 2, 1, 3).reshape(out.shape[0], out.shape[2], -1)


def cat(*parts):
    return torch.cat(parts, dim=1)


def masses(*parts):
    """(weight, tokens), .. -> 1 1 m: a number for every token of a picture."""
    return torch.cat([torch.full((1, 1, tokens.shape[1]), float(weight)) for weight, tokens in parts], dim=2)


def adain(x, y):
    """x with the mean and the deviation over tokens that y has in each channel."""
    normal = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=0)
    return normal * y.std(1, keepdim=True, correction=0) + y.mean(1, keepdim=True)


def styleid(live, content, style, heads, done=0.0, t=1.0, gamma=0.75, tau=1.5):
    return dense_attention(gamma * content[0] + (1 - gamma) * live[0], style[1], style[2], heads, tau=tau)


def ffa(live, content, style, heads, done=0.0, t=1.0, gamma=0.75, tau=1.5, w_s=1.0, w_c=0.05):
    """One softmax over both pictures, each with its weight."""
    q, mass = gamma * content[0] + (1 - gamma) * live[0], masses((w_s, style[1]), (w_c, content[1]))
    return dense_attention(q, cat(style[1], content[1]), cat(style[2], content[2]), heads, tau=tau, mass=mass)


def masactrl(live, content, style, heads, done=0.0, t=1.0):
    return dense_attention(live[0], content[1], content[2], heads)


def sac(live, content, style, heads, done=0.0, t=1.0):
    anchored, free = (dense_attention(q, style[1], style[2], heads) for q in (content[0], live[0]))
    return anchored if done < 0.7 else anchored + 1.2 * (free - anchored)


def seac(live, content, style, heads, done=0.0, t=1.0, gamma=0.0, w_s=1.0):
    """As published with its knobs at rest: softmax([Q~ K_c', 1.2 Q~ K_s']) [V_c; V_s]."""
    q, mass = gamma * content[0] + (1 - gamma) * live[0], masses((1.0, content[1]), (w_s, style[1]))
    return dense_attention(q, cat(content[1], 1.2 * style[1]), cat(content[2], style[2]), heads, mass=mass)


def zstar(live, content, style, heads, done=0.0, t=1.0):
    return dense_attention(live[0], cat(1.2 * style[1], live[1]), cat(style[2], live[2]), heads)


def style_aligned(live, content, style, heads, done=0.0, t=1.0):
    q, k = adain(live[0], style[0]), adain(live[1], style[1])
    return dense_attention(q, cat(style[1], k), cat(style[2], live[2]), heads)


def rsa(live, content, style, heads, done=0.0, t=1.0, mask=None):
    """Three is added to the logits of every reference token inside its mask, 1 m; those outside are left out."""
    mask = torch.ones(1, style[1].shape[1]) if mask is None else mask
    bias = cat(torch.zeros(1, live[1].shape[1]), torch.where(mask > 0, 3.0 * mask, -torch.inf)).unsqueeze(1)
    return dense_attention(live[0], cat(live[1], style[1]), cat(live[2], style[2]), heads, bias)


def diffstyler(live, content, style, heads, done=0.0, t=1.0):
    r = min(2 * t, 1.0)
    q, k = (r * c + (1 - r) * x for c, x in zip(content[:2], live[:2], strict=True))
    return dense_attention(q, k, live[2], heads)


def logits(q, k, heads, tau=1.0):
    """b n m of each head: b h n m."""
    q, k = split(q, heads), split(k, heads)
    return tau * (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5


def shifted_softmax(parts, heads):
    """One softmax over (mass, logits b h n m, values b m c), .., all shifted until each part has its mass.

    A mass is a number or b n; none of them is 0. As MAST has it: ln(p_i / p_c) + LSE(l_c) - LSE(l_i), the last is c.
    """
    masses = [torch.as_tensor(mass, dtype=torch.float32)[..., None, :, None] for mass, *_ in parts]
    last = parts[-1][1].logsumexp(-1, keepdim=True)
    shifted = [
        found + (mass / masses[-1]).log() + last - found.logsumexp(-1, keepdim=True)
        for mass, (_, found, _) in zip(masses, parts, strict=True)
    ]
    out = torch.cat(shifted, -1).softmax(-1) @ torch.cat([split(v, heads) for *_, v in parts], 2)
    return out.permute(0, 2, 1, 3).flatten(2)


def mast(live, content, style, heads, done=0.0, t=1.0, gamma=0.0, tau=1.0, w_s=1.0, w_c=0.1):
    """The style has w_s / (w_s + w_c) of the answer, the content the rest, under its own queries."""
    n = live[0].shape[1]
    drawn = logits(gamma * content[0] + (1 - gamma) * live[0], style[1], heads, tau), style[2]
    own = logits(content[0], content[1], heads), content[2]
    return shifted_softmax([([w_s / (w_s + w_c)] * n, *drawn), ([w_c / (w_s + w_c)] * n, *own)], heads)


def gar(live, content, style, heads, done=0.0, t=1.0, gamma=0.25):
    """A share of the content's features, each brought to the style's statistics, and of the running ones the rest."""
    q, k, v = (gamma * adain(c, s) + (1 - gamma) * x for x, c, s in zip(live, content, style, strict=True))
    return dense_attention(q, k, v, heads)


def best_matches(content, style):
    """For each of the content's keys b n c the most similar of the style's b m c, and the cosine, pair by pair."""
    places, cosines = (torch.empty(content.shape[:2]) for _ in range(2))
    for row in range(content.shape[0]):
        for place, key in enumerate(content[row]):
            found = [float(key @ other / (key.norm() * other.norm())) for other in style[row]]
            places[row, place], cosines[row, place] = found.index(max(found)), max(found)
    return places.long(), cosines


def cocodiff(live, content, style, heads, done=0.0, t=1.0, gamma=0.75, tau=1.5, w=0.6, matches=None):
    """StyleID, each of the style's keys and values with a share of what the content's place of its number matches."""
    k, v = (features.clone() for features in style[1:])
    if matches is not None:
        for row in range(k.shape[0]):
            for place, (match, cosine) in enumerate(zip(*(found[row] for found in matches), strict=True)):
                share = w * float(cosine) ** 2
                k[row, place], v[row, place] = (x[row, place] + share * x[row, match] for x in style[1:])
    return styleid(live, content, (style[0], k, v), heads, done, t, gamma, tau)


def laid(queries, n):
    """Queries b m c where n running ones are: as they are where the two are as many, else any n of them."""
    return torch.cat([queries] * -(-n // queries.shape[1]), 1)[:, :n]


def nvqg(live, content, style, heads, done=0.0, t=1.0):
    """The negative pass: the style's queries attend to the running picture."""
    return dense_attention(laid(style[0], live[0].shape[1]), live[1], live[2], heads)


PUBLISHED = ffa, styleid, masactrl, sac, seac, zstar, style_aligned, rsa, diffstyler, mast, gar, cocodiff, nvqg
RULES = {rule.__name__: rule for rule in PUBLISHED}


def union(live, content, style, heads, done=0.0, t=1.0):
    """The running picture beside the style, with nothing done to either."""
    return dense_attention(live[0], cat(style[1], live[1]), cat(style[2], live[2]), heads)


def controlled(rule, live, content, style, heads, done=0.0, t=1.0, align=None, key_scale=1.0, mix=1.0, **more):
    """A rule with the knobs that other packs have; `align` given, style_aligned has no AdaIN of its own."""
    running, rule = live, union if rule is style_aligned and align is not None else rule
    if align:
        q, k = ((1 - align) * live[role] + align * adain(live[role], style[role]) for role in (0, 1))
        running = q, k, live[2]
    if rule is style_aligned and key_scale != 1.0:
        # its statistics are the style's own, whatever its keys are multiplied with afterwards
        q, k = adain(live[0], style[0]), adain(live[1], style[1])
        styled = dense_attention(q, cat(key_scale * style[1], k), cat(style[2], live[2]), heads)
    else:
        styled = rule(running, content, (style[0], key_scale * style[1], style[2]), heads, done, t, **more)
    return (1 - mix) * dense_attention(*running, heads) + mix * styled


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

"""Softmax attention over several weighted sources, expressed as one call of somebody else's attention function.

Letters: b rows of a batch, h heads, n query tokens, m key tokens, d head width, c = h d channels.

A source's weight w is a term ln(w) on its logits: doubling w doubles its share of the softmax before normalisation,
whatever the sign of the logits. The term may vary per query token (a region of the picture) and per key token (a mask
on the source). No n x m bias is ever built: it has rank (number of sources + 1) and travels in as many extra channels
of q and k, which every exact attention backend understands; a term of the key alone can be a 1 x m mask instead.

Regions are mostly flat: a few groups of query tokens have the same weights throughout. Each group attends only to the
sources that act there, with plain numbers for weights, and the channels serve the soft edges alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

# exp(-30) is 1e-13: nothing in any precision, yet finite, so that 0 * LOG_ZERO stays 0 in a product
LOG_ZERO = -30.0
# head widths stay a multiple of what fused kernels want
CHANNEL_STEP = 8
# of an answer less than this is nothing in any precision
LEAST_MASS = 1e-6
# a group of query tokens is worth a call of its own when it is at least this share of them
GROUP_SHARE = 1 / 16


class Source(NamedTuple):
    """Keys and values that one picture brings into the softmax, and the logarithm of its weight."""

    k: Tensor  # b m c
    v: Tensor  # b m c
    log_weight: float | Tensor = 0.0  # a number, or b n: per query token
    key_bias: Tensor | None = None  # b m: per key token
    frames: int = 1  # of a film: k, v and key_bias hold so many sets of tokens, one for each equal part of the queries

    @property
    def twice(self) -> Source:
        """The source for two sets of queries side by side."""
        weight = self.log_weight
        return self._replace(log_weight=torch.cat([weight, weight], dim=1)) if isinstance(weight, Tensor) else self

    def at(self, frame: int, frames: int) -> Source:
        """What the queries of one of the frames see of it."""
        weight, bias = self.log_weight, self.key_bias
        if isinstance(weight, Tensor):
            weight = weight.chunk(frames, dim=1)[frame]
        if self.frames == 1:
            return self._replace(log_weight=weight)
        k, v = (tokens.chunk(frames, dim=1)[frame] for tokens in (self.k, self.v))
        return Source(k, v, weight, None if bias is None else bias.chunk(frames, dim=1)[frame])


@dataclass(frozen=True)
class Kernel:
    """The attention function that does the work, `call(q, k, v, mask)` on b n (h d), and what it accepts.

    In a transformer text and picture share an attention: `text_source` is the text, attended to beside all sources.
    `exact` answers the calls whose heads are wider by the channels of weights and regions, where `call` may be of low
    precision or made for heads of some widths alone.
    """

    call: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    heads: int
    takes_key_mask: bool  # a 1 x m mask costs this function next to nothing
    text_source: Source | None = None
    exact: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None


class Part(NamedTuple):
    """A source with a softmax of its own, and how much of the answer is its."""

    mass: Tensor  # 1 or b, n 1, on the CPU
    q: Tensor  # b n c
    source: Source
    temperature: float = 1.0

    def at(self, frame: int, frames: int) -> Part:
        """The part of one of a film's frames."""
        mass, q = (x.chunk(frames, dim=1)[frame] for x in (self.mass, self.q))
        return Part(mass, q, self.source.at(frame, frames), self.temperature)


def log_weight(weight: Tensor) -> Tensor:
    """ln(w) of weights of any shape, with w = 0 as a very large negative number."""
    return weight.clamp(min=math.exp(LOG_ZERO)).log()


class QueryGroup(NamedTuple):
    """Query tokens whose sources have the same log weights, or None for weights that differ among them."""

    tokens: Tensor
    log_weights: tuple[float, ...] | None


def attend(kernel: Kernel, q: Tensor, sources: Sequence[Source], temperature: float = 1.0) -> Tensor:
    """softmax(tau / sqrt(d) q [k_1', k_2', ..] + [b_1, b_2, ..]) [v_1; v_2; ..]: b n c -> b n c.

    One call of the kernel, or with regions one for each group of query tokens; where a source lies otherwise in each
    frame of a film, so for each frame.
    """
    frames = max((source.frames for source in sources), default=1)
    if frames > 1:
        parts = enumerate(q.chunk(frames, dim=1))
        answers = [attend(kernel, part, [each.at(i, frames) for each in sources], temperature) for i, part in parts]
        return torch.cat(answers, dim=1)
    if temperature != 1.0:
        q = q * temperature
    sources = [*sources, kernel.text_source] if kernel.text_source is not None else sources
    groups = query_groups([source.log_weight for source in sources])
    if len(groups) < 2:
        weights = groups[0].log_weights if groups else None
        return _attend_together(kernel, q, _weighted(sources, weights) if weights else sources)
    out = torch.empty_like(q)
    for tokens, weights in groups:
        acting = _of_tokens(sources, tokens) if weights is None else _weighted(sources, weights)
        index = tokens.to(q.device)
        out[:, index] = _attend_together(kernel, q[:, index], acting)
    return out


def attend_to_parts(kernel: Kernel, parts: Sequence[Part]) -> Tensor:
    """sum_i p_i softmax(tau_i / sqrt(d) q_i k_i') v_i: b n c. Tokens attend to a part where it has any mass."""
    frames = max(part.source.frames for part in parts)
    if frames > 1:
        by_frame = ([part.at(frame, frames) for part in parts] for frame in range(frames))
        return torch.cat([attend_to_parts(kernel, each) for each in by_frame], dim=1)
    like = parts[0].q
    out = like.new_zeros(like.shape, dtype=torch.promote_types(like.dtype, torch.float32))
    for mass, q, source, temperature in parts:
        acts = (mass > LEAST_MASS).any(dim=0).flatten()
        if bool(acts.all()):
            out += mass.to(out) * attend(kernel, q, [source], temperature)
        elif bool(acts.any()):
            index = acts.nonzero().flatten().to(q.device)
            out[:, index] += mass[:, acts].to(out) * attend(kernel, q[:, index], [source], temperature)
    return out.to(like)


def query_groups(log_weights: Sequence[float | Tensor]) -> list[QueryGroup]:
    """The query tokens by their sources' weights, b n each; none where no weight differs, or rows or all tokens do."""
    regions = [weight for weight in log_weights if isinstance(weight, Tensor)]
    if not regions or any(region.shape[0] > 1 for region in regions):
        return []
    n = regions[0].shape[1]
    rows = [weight[0].float() if isinstance(weight, Tensor) else torch.full((n,), weight) for weight in log_weights]
    table, member, count = torch.stack([row.cpu() for row in rows], 1).unique(
        dim=0, return_inverse=True, return_counts=True
    )
    large = (count >= max(2, GROUP_SHARE * n)).nonzero().flatten().tolist()
    if not large:
        return []
    groups = [QueryGroup((member == row).nonzero().flatten(), tuple(table[row].tolist())) for row in large]
    rest = (~torch.isin(member, torch.tensor(large))).nonzero().flatten()
    return [*groups, QueryGroup(rest, None)] if len(rest) else groups


def _weighted(sources: Sequence[Source], weights: Sequence[float]) -> list[Source]:
    """The sources that act, with numbers for weights."""
    acting = [source._replace(log_weight=w) for source, w in zip(sources, weights, strict=True) if w > LOG_ZERO + 1.0]
    return acting or list(sources)


def _of_tokens(sources: Sequence[Source], tokens: Tensor) -> list[Source]:
    """The sources as some query tokens see them, whose numbers are n, without those that none of them sees."""
    found = []
    for source in sources:
        weight = source.log_weight
        if isinstance(weight, Tensor):
            weight = weight[:, tokens.to(weight.device)]
            if bool((weight <= LOG_ZERO + 1.0).all()):
                continue
        found.append(source._replace(log_weight=weight))
    return found or list(sources)


def _attend_together(kernel: Kernel, q: Tensor, sources: Sequence[Source]) -> Tensor:
    """One call of the kernel: b n c -> b n c."""
    k = _concat([source.k for source in sources])
    v = _concat([source.v for source in sources])
    weights = [source.log_weight for source in sources]
    if all(source.key_bias is None for source in sources) and _all_equal(weights):
        return kernel.call(q, k, v, None)
    if kernel.takes_key_mask and not any(isinstance(weight, Tensor) for weight in weights):
        return kernel.call(q, k, v, key_mask(sources).to(q))
    return _attend_with_channels(kernel, q, k, v, sources)


def key_mask(sources: Sequence[Source]) -> Tensor:
    """The bias that depends on keys alone -> b 1 m (b is 1 when no source has a mask of its own)."""
    parts = []
    for source in sources:
        bias = source.k.new_zeros(1, source.k.shape[1]) if source.key_bias is None else source.key_bias
        parts.append(bias + source.log_weight)
    rows = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(rows, -1) for part in parts], dim=1).unsqueeze(1)


def _attend_with_channels(kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, sources: Sequence[Source]) -> Tensor:
    heads = kernel.heads
    q, k, v = (rearrange(t, "b n (h d) -> b n h d", h=heads) for t in (q, k, v))
    width = q.shape[-1]
    padded = width + math.ceil((len(sources) + 1) / CHANNEL_STEP) * CHANNEL_STEP
    q_bias, k_bias = _bias_channels(sources, q.shape[1])
    # the kernel divides by sqrt(padded width): q makes up for it, and carries the bias undivided
    scale = math.sqrt(padded / width)
    q = torch.cat([q * scale, _per_head(q_bias * math.sqrt(padded), q, padded - width)], dim=-1)
    k = torch.cat([k, _per_head(k_bias, k, padded - width)], dim=-1)
    v = F.pad(v, (0, padded - width))
    q, k, v = (rearrange(t, "b n h d -> b n (h d)") for t in (q, k, v))
    out = kernel.call(q, k, v, None) if kernel.exact is None else kernel.exact(q, k, v)
    return rearrange(rearrange(out, "b n (h d) -> b n h d", h=heads)[..., :width], "b n h d -> b n (h d)")


def _bias_channels(sources: Sequence[Source], n: int) -> tuple[Tensor, Tensor]:
    """A factor each for q and k, b n r and b m r, whose product is the n x m bias: r = number of sources + 1."""
    like = sources[0].k
    q_columns, k_blocks = [], []
    for index, source in enumerate(sources):
        weight = source.log_weight
        q_columns.append(weight.to(like) if isinstance(weight, Tensor) else like.new_full((1, n), weight))
        block = like.new_zeros(1, source.k.shape[1], len(sources) + 1)
        block[..., index] = 1.0
        if source.key_bias is not None:
            block = repeat(block, "1 m r -> b m r", b=source.key_bias.shape[0]).clone()
            block[..., -1] = source.key_bias.to(like)
        k_blocks.append(block)
    q_columns.append(like.new_ones(1, n))
    return _stack_rows(q_columns, dim=2), _cat_rows(k_blocks, dim=1)


def _per_head(bias: Tensor, like: Tensor, channels: int) -> Tensor:
    """b n r -> b n h r, zero-padded to `channels`, with the rows and heads of `like`."""
    bias = F.pad(bias, (0, channels - bias.shape[-1])).to(like)
    return bias.unsqueeze(2).expand(like.shape[0], -1, like.shape[2], -1)


def _stack_rows(columns: list[Tensor], dim: int) -> Tensor:
    """Columns of 1 or b rows, b n each, side by side on a new axis: b n r."""
    return _cat_rows([column.unsqueeze(dim) for column in columns], dim)


def _cat_rows(parts: list[Tensor], dim: int) -> Tensor:
    """Parts of 1 or b rows, b m r each, along one of their axes, with b rows."""
    rows = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(rows, *part.shape[1:]) for part in parts], dim=dim)


def _concat(parts: list[Tensor]) -> Tensor:
    """Tokens b m c, one source after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _all_equal(weights: Sequence[float | Tensor]) -> bool:
    """Whether no weight, a number or b n, makes a difference."""
    # a factor common to all sources cancels in the softmax
    if len(weights) == 1:
        return True
    return not any(isinstance(weight, Tensor) for weight in weights) and len(set(weights)) == 1

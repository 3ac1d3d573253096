"""Adaptive instance normalisation (Huang and Belongie 2017): give one signal the mean and spread of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor

from .errors import MagicStyleError
from .grid import Grid
from .ranges import check_range

EPS = 1e-6


def adain(content: Tensor, style: Tensor, axes: str = "b c h w -> b c 1 1") -> Tensor:
    """`content` with the per-channel mean and standard deviation of `style`, b c h w each unless `axes` says otherwise.

    The style may have another size, and batch 1 beside any content batch.
    """
    content_mean, content_std = _moments(content, axes)
    style_mean, style_std = _moments(style, axes)
    return _fitted((content - content_mean) / content_std * style_std + style_mean, content)


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation per channel, b 1 c, in single precision at least."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of_tokens(cls, x: Tensor, weights: Tensor | None = None, together: int = 1) -> ChannelStatistics:
        """The moments of b n c features over their tokens; `weights` b n says how much each token counts.

        Of so many rows that follow each other `together`, such as the frames of a film, they are the same.
        """
        if together > 1:
            joined = rearrange(x, "(b f) n c -> b (f n) c", f=together)
            counted = None if weights is None else weights.expand(x.shape[0], -1)
            counted = None if counted is None else rearrange(counted, "(b f) n -> b (f n)", f=together)
            return cls(*(each.repeat_interleave(together, dim=0) for each in cls.of_tokens(joined, counted)))
        if weights is None:
            return cls(*_moments(x, "b n c -> b 1 c"))
        x = _wide(x)
        weights = weights.to(x)
        share = (weights / weights.sum(dim=1, keepdim=True).clamp(min=EPS)).unsqueeze(2)
        mean = (x * share).sum(dim=1, keepdim=True)
        return cls(mean, ((((x - mean) ** 2) * share).sum(dim=1, keepdim=True) + EPS).sqrt())


def adain_map(
    content: Tensor,
    style: Tensor,
    strength: float = 1.0,
    *,
    region: Tensor | None = None,
    style_mask: Tensor | None = None,
    together: bool = False,
) -> Callable[[Tensor], Tensor]:
    """StyleID's initial latent (Chung et al. 2024, eq. 8), blended with the content: an affine map of b c h w.

    The content's latent goes through it, and so can others. Inside a `region` (b h w in [0, 1], any resolution) its own
    moments become the style's, and the rest stays; of the style's latent only what `style_mask` covers counts.
    A film b c t h w has one mean and one spread for all its frames, so that it does not flicker; and so have `together`
    the pictures of a batch, and those of the style's.
    It computes in single precision at least; a result that the latent's own precision cannot hold stays in it.
    """
    check_range("strength", strength, 0.0, 1.0)
    if content.shape[1] != style.shape[1]:
        raise MagicStyleError(
            f"The content latent has {content.shape[1]} channels and the style latent {style.shape[1]}: "
            "invert both with the same model."
        )
    if style.shape[0] not in (1, content.shape[0]):
        raise MagicStyleError(
            f"The style latent holds {style.shape[0]} pictures and the content latent {content.shape[0]}: "
            "give one style picture, or as many as content pictures."
        )
    tokens, inside = _tokens(content, region)
    own = ChannelStatistics.of_tokens(tokens, inside, together=content.shape[0] if together else 1)
    lent, shown = _tokens(style.to(own.mean), style_mask)
    mean, std = ChannelStatistics.of_tokens(lent, shown, together=style.shape[0] if together else 1)
    amount = strength if inside is None else strength * inside.unsqueeze(2)

    def moved(latent: Tensor) -> Tensor:
        x, _ = _tokens(latent, None)
        x = x + amount * ((x - own.mean) / own.std * std + mean - x)
        return _fitted(rearrange(x, "b n c -> b c n").reshape(latent.shape), latent)

    return moved


def _tokens(latent: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A latent b c h w or b c t h w as tokens b n c, and a mask on its grid b n."""
    tokens = _wide(rearrange(latent, "b c ... -> b (...) c"))
    return tokens, None if mask is None else Grid(latent.shape[2:]).covered(mask).to(tokens)


def _moments(x: Tensor, axes: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of any shape, over the axes that the pattern leaves out."""
    x = _wide(x)
    mean = reduce(x, axes, "mean")
    # eps under the root: flat regions have no variance
    std = (reduce((x - mean) ** 2, axes, "mean") + EPS).sqrt()
    return mean, std


def _wide(x: Tensor) -> Tensor:
    """`x` of any shape in single precision at least: in half precision squares overflow from 256 on."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _fitted(x: Tensor, like: Tensor) -> Tensor:
    """`x` of any shape in the precision of `like`, or as it is where that cannot hold values so large."""
    found = x.to(like.dtype)
    if found.dtype == x.dtype or bool((torch.isfinite(found) == torch.isfinite(x)).all()):
        return found
    return x

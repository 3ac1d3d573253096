"""What a fusion attends to, and with which queries: the styles, the content and the running stream as sources.

Letters: b rows, n tokens of the running picture, c channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .adain import ChannelStatistics
from .attention import Source, log_weight
from .correspondence import reinforced
from .features import AttentionFeatures
from .scene import Scene, StyleFeatures, coverage, shares

# what the content weighs beside styles of weight 1 where it is to be kept: a higher weight of the settings stays
KEPT_WEIGHT = 0.003


def preserve(scene: Scene, role: str, preservation: float) -> Tensor:
    """g X_c + (1 - g) X_t, where the scene keeps k of the content with g + (1 - g) k in the place of g: b n c."""
    live = getattr(scene.live, role)
    if preservation == 0.0 and scene.keep is None or scene.without_portrait:
        return live
    return torch.lerp(live, getattr(scene.content, role), kept(scene, preservation, live))


def preserve_query(scene: Scene, preservation: float) -> Tensor:
    """g Q_c + (1 - g) Q_t: b n c."""
    return preserve(scene, "q", preservation)


def kept(scene: Scene, share: float, like: Tensor) -> float | Tensor:
    """A share of the content that rises to 1 where the scene keeps it: a number, or b n 1."""
    if scene.keep is None:
        return share
    return (share + (1.0 - share) * scene.keep).to(like).unsqueeze(2)


def style_sources(scene: Scene, weight: float, logit_scale: float = 1.0) -> list[Source]:
    """Every style as a source; `weight` multiplies its own, `logit_scale` its logits."""
    found = [style_source(style, weight * style.weight) for style in scene.styles]
    return found if logit_scale == 1.0 else [each._replace(k=each.k * logit_scale) for each in found]


def content_source(scene: Scene, weight: float) -> list[Source]:
    """The content as a source of weight w_c + 1 - coverage: where no style acts its own features do; none for 0.

    Where it is to be kept, w_c rises to KEPT_WEIGHT; without styles there is nothing to keep it from.
    """
    covered, raised = coverage(scene.styles), _raised(scene, weight)
    if covered is not None:
        raised = raised + (1.0 - covered)
    if isinstance(raised, Tensor):
        return [source(scene.content, log_weight(raised))]
    return [source(scene.content, math.log(raised))] if raised > 0.0 else []


def _raised(scene: Scene, weight: float) -> float | Tensor:
    """A weight of the content that rises to KEPT_WEIGHT where the scene keeps it: a number, or b n."""
    if scene.keep is None or not scene.styles or weight >= KEPT_WEIGHT:
        return weight
    return weight + (KEPT_WEIGHT - weight) * scene.keep


def styles_or_content(scene: Scene, weight: float, logit_scale: float = 1.0) -> list[Source]:
    """The styles alone, their logits times `logit_scale`, and the content where none acts."""
    covered = coverage(scene.styles)
    if not scene.styles:
        return [source(scene.content)]
    rest = [] if covered is None else [source(scene.content, log_weight(1.0 - covered))]
    return [*style_sources(scene, weight, logit_scale), *rest]


def source(features: AttentionFeatures, weight: float | Tensor = 0.0) -> Source:
    """Features as a source of a log weight, a number or b n."""
    return Source(features.k, features.v, weight)


def style_source(style: StyleFeatures, weight: float, bias: Tensor | None = None) -> Source:
    """A style as a source of a weight inside its region; `bias` b m replaces what its mask says of each key."""
    if bias is None and style.style_mask is not None:
        bias = log_weight(style.style_mask)
    region = math.log(weight) if style.region is None else log_weight(weight * style.region)
    return Source(style.features.k, style.features.v, region, bias, style.frames)


def with_matches(scene: Scene, weight: float) -> Scene:
    """The scene, each style's keys and values with w times what the content's places match among them."""

    def matched(style: StyleFeatures) -> StyleFeatures:
        return style._replace(features=reinforced(style.features, style.match, weight, style.turn))

    return scene._replace(styles=tuple(matched(style) for style in scene.styles))


def masses(scene: Scene, style_weight: float, content_weight: float) -> tuple[list[Tensor], Tensor]:
    """How much of each token's answer is each style's, and what is left for the content: 1 or b, n 1 each, on the CPU.

    A style's share s_i (see `shares`) weighs w_s s_i, and the content w_c + 1 - s, s being what all cover. The masses
    are these divided by their sum: at w_s = 1 the styles have 1 / (1 + w_c) of what they cover.
    """
    like = torch.empty(1, scene.live.q.shape[1])
    if not scene.styles:
        return [], torch.ones(*like.shape, 1)
    covered = coverage(scene.styles)
    covered = torch.ones(1, 1, 1) if covered is None else covered.unsqueeze(2)
    whole = style_weight * covered + content_weight + 1.0 - covered
    found = [style_weight * part / whole for part in shares(scene.styles, like)]
    return found, ((content_weight + 1.0 - covered) / whole).expand(-1, like.shape[1], -1)


def align(scene: Scene, role: str) -> Tensor:
    """The running features with the styles' mean and deviation per channel, shared out by weight and region: b n c."""
    return aligned(scene, role, 1.0)


def aligned(scene: Scene, role: str, strength: float, *, upright: bool = False) -> Tensor:
    """(1 - a) X_t + a AdaIN(X_t, X_s) of queries or keys, shared out by weight and region: b n c.

    `upright`: on both as they were before their places turned them.
    """
    x, turn = getattr(scene.live, role), scene.turn if upright else None
    if not scene.styles:
        return x
    standing = x if turn is None else turn.undone(x)
    own = ChannelStatistics.of_tokens(standing, together=scene.together)
    theirs = [_statistics(style, role, scene.together, upright=upright) for style in scene.styles]
    parts = shares(scene.styles, x.to(own.mean))
    rest = 1.0 - sum(parts)
    mean, std = (
        sum(part * moment[i] for part, moment in zip(parts, theirs, strict=True)) + rest * own[i] for i in (0, 1)
    )
    found = ((standing - own.mean) / own.std * std + mean).to(x)
    return torch.lerp(x, found if turn is None else turn.done(found), strength)


def _statistics(style: StyleFeatures, role: str, together: int, *, upright: bool) -> ChannelStatistics:
    """Of a style's queries or keys, the same for so many rows `together`."""
    x = style.own_keys if role == "k" and style.own_keys is not None else getattr(style.features, role)
    if upright and style.turn is not None:
        x = style.turn.undone(x)
    return ChannelStatistics.of_tokens(x, style.style_mask, together)

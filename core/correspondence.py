"""Correspondences: for each place of the content the place of a style that is most like it, by their keys.

    p*(p) = argmax_p' cos(K_c[p], K_s[p'])      c(p) = the cosine that is found there
    K'[p] = K_s[p] + w c(p)^2 K_s[p*(p)],       V' likewise

CoCoDiff (2602.14464) matches features of a pass of its own; here the keys that the bank holds are compared, those of
one layer and noise level for all layers and steps. A style of another size than the content is first brought to the
content's grid, so that both have as many places.

Letters: b rows or pictures, n tokens of the content's grid, m tokens of a style, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .features import AttentionFeatures
from .grid import Grid
from .rotation import Turn

# which of the stored levels is compared, as a share of the way from noise to clean: timestep 581 of 50 even ones
MATCHED_AT = 0.4
QUERIES_AT_ONCE = 512
MATCH_WEIGHT, MAX_MATCH_WEIGHT = 0.6, 10.0  # the published one, and the largest
NOWHERE = -2.0  # below every cosine


class Match(NamedTuple):
    """Which place of a style each place of the content is most like, and how much."""

    places: Tensor  # b n, numbers of a style's tokens
    score: Tensor  # b n, cosines

    @property
    def weight(self) -> Tensor:
        """How much of what it is most like a place gets: b n."""
        return self.score.clamp(min=0.0).square()

    def map(self, change: Callable[[Tensor], Tensor]) -> Match:
        """Both, b n, through one change."""
        return Match(change(self.places), change(self.score))


# of one style, for each grid of the content
Matches = Mapping[Grid, Match]


def match(content: Tensor, style: Tensor, mask: Tensor | None = None) -> Match:
    """The matches of a content's keys, 1 or b n c, among those of a style, 1 or b m c.

    `mask`, 1 or b m, leaves out the style's tokens where it is 0. No n x m table is ever held whole.
    """
    rows = max(len(content), len(style), 1 if mask is None else len(mask))
    content, style = (F.normalize(keys.float(), dim=2).expand(rows, -1, -1) for keys in (content, style))
    out = None if mask is None else (mask.to(style.device) <= 0.0).expand(rows, -1).unsqueeze(1)
    found = []
    for part in content.split(QUERIES_AT_ONCE, dim=1):
        cosines = part @ style.mT
        found.append((cosines if out is None else cosines.masked_fill(out, NOWHERE)).max(dim=2))
    return Match(torch.cat([each.indices for each in found], 1), torch.cat([each.values for each in found], 1))


def reinforced(
    features: AttentionFeatures, found: Match | None, weight: float, turn: Turn | None = None
) -> AttentionFeatures:
    """A style's keys and values with w times those that the content matches added to them: b n c each.

    `turn`: how places turn the keys; what is added has the turn of the place that gets it.
    """
    if found is None:
        return features
    share = (weight * found.weight).unsqueeze(2)
    places = found.places.unsqueeze(2)

    def taken(tokens: Tensor) -> Tensor:
        """b n c."""
        return share.to(tokens) * tokens.gather(1, places.expand(-1, -1, tokens.shape[2]))

    keys = taken(features.k) if turn is None else turn.done(taken(turn.undone(features.k)))
    return features.replace(k=features.k + keys, v=features.v + taken(features.v))

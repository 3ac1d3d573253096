"""What one attention call fuses: the running picture, the content and the styles, on the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from .attention import LOG_ZERO
from .correspondence import Match
from .features import AttentionFeatures
from .rotation import Turn


class StyleFeatures(NamedTuple):
    """What one style brings to one attention call, on the rows of the running batch."""

    features: AttentionFeatures
    weight: float = 1.0
    region: Tensor | None = None  # b n, in [0, 1]: where in the picture the style acts
    style_mask: Tensor | None = None  # b m, in [0, 1]: which tokens of the style picture may be drawn from
    picture: int | None = None  # its number: styles of one number are copies of one picture; None: one of its own
    own_keys: Tensor | None = None  # b m c: its keys with nothing scaled in them, where that is another tensor
    turn: Turn | None = None  # how its places turned its queries and keys, where that counts
    frames: int = 1  # of a film: how many sets of tokens m holds, one for each of its frames
    match: Match | None = None  # b n of its n tokens, where the content's places are matched with its
    queries: Tensor | None = None  # b n c: its queries where the running picture's are, for methods that attend by them


class Moment(NamedTuple):
    """When in a sampling run an attention call happens."""

    progress: float = 0.0  # the share of the stored steps that are done
    noise: float = 1.0  # the model's timestep at this noise level, from 0 (clean) to 1
    ramp: float = 0.0  # 0 at the first of the stored levels, 1 at the last: index / (N - 1)


class Scene(NamedTuple):
    """Everything that one attention call fuses; without a portrait the running picture is its own content."""

    live: AttentionFeatures
    content: AttentionFeatures
    styles: tuple[StyleFeatures, ...]
    moment: Moment = Moment()
    keep: Tensor | None = None  # b n, in [0, 1]: how far the content shall stay as it is there
    turn: Turn | None = None  # how places turned the running queries and keys, where that counts
    together: int = 1  # how many rows that follow each other share their mean and spread: the frames of a film

    @property
    def without_portrait(self) -> bool:
        """Whether nothing but the prompt says what is to be seen."""
        return self.content is self.live

    @property
    def with_styles_outside_keep(self) -> Scene:
        """This scene, its styles acting only as far as nothing is to be kept."""
        if self.keep is None:
            return self
        left = 1.0 - self.keep
        styles = (style._replace(region=left if style.region is None else style.region * left) for style in self.styles)
        return self._replace(styles=tuple(styles))


def coverage(styles: Sequence[StyleFeatures]) -> Tensor | None:
    """How far each token is inside any region, b n; None where a style acts everywhere, or none at all.

    Regions of different pictures add up, those of copies of one picture do not.
    """
    pictures: dict[int, Tensor] = {}
    for place, style in enumerate(styles):
        if style.region is None:
            return None
        key = -1 - place if style.picture is None else style.picture
        pictures[key] = torch.maximum(pictures[key], style.region) if key in pictures else style.region
    return reduce(torch.add, pictures.values()).clamp(max=1.0) if pictures else None


def shares(styles: Sequence[StyleFeatures], like: Tensor) -> list[Tensor]:
    """Each style's share of every token, b n 1, together the coverage."""
    ones = torch.ones(1, like.shape[1])
    masses = [style.weight * (ones if style.region is None else style.region) for style in styles]
    covered = coverage(styles)
    scale = (ones if covered is None else covered) / reduce(torch.add, masses).clamp(min=math.exp(LOG_ZERO))
    return [(mass * scale).to(like).unsqueeze(2) for mass in masses]

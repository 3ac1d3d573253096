"""Feature Fusion Attention (FFA) and the published methods that are settings of it.

Per layer and noise level, with the running stream t, the content c and styles s_1 .. s_n:

    Q~ = g Q_c + (1 - g) Q_t
    O  = softmax( tau / sqrt(d) [Q~ K_s1', .., Q~ K_c', Q~ K_t'] + [b_s1, .., b_c, b_t] ) [V_s1; ..; V_c; V_t]

g is the query preservation, tau the attention temperature, b_x = ln(w_x) the log of a source's weight; w_x = 0 drops
the source. The paper's own FFA equation (MagicStyle, arXiv 2409.08156) is not public in a form that we could check
against, so this is our reading of its abstract: texture and colour are fused from the stored queries, keys and values
of both pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .attention import Kernel, Source, attend, log_weight
from .errors import MagicStyleError
from .features import AttentionFeatures, FeatureBank


@dataclass(frozen=True)
class FusionSettings:
    """The knobs of the FFA Model Patcher; a method reads those that its formula has."""

    method: str = "ffa"
    style_weight: float = 1.0
    content_weight: float = 0.3
    query_preservation: float = 0.75
    temperature: float = 1.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise MagicStyleError(f"method is '{self.method}': choose one of {', '.join(METHODS)}.")
        if not 0.0 <= self.query_preservation <= 1.0:
            raise MagicStyleError(f"query_preservation is {self.query_preservation}: choose a value from 0 to 1.")
        if not self.temperature > 0.0:
            raise MagicStyleError(f"temperature is {self.temperature}: choose a value above 0.")
        for name in ("style_weight", "content_weight"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise MagicStyleError(f"{name} is {getattr(self, name)}: choose 0 or a positive number.")


class StyleFeatures(NamedTuple):
    """What one style brings to one attention call, on the rows of the running batch."""

    features: AttentionFeatures
    weight: float = 1.0
    region: Tensor | None = None  # b n, in [0, 1]: where in the picture the style acts
    style_mask: Tensor | None = None  # b m, in [0, 1]: which tokens of the style picture may be drawn from


class Scene(NamedTuple):
    """Everything that one attention call fuses."""

    live: AttentionFeatures
    content: AttentionFeatures
    styles: tuple[StyleFeatures, ...]


Fuse = Callable[[Kernel, Scene, FusionSettings], Tensor]


def fuse(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """One self-attention output with the method's fusion: b n c."""
    return METHODS[settings.method].fuse(kernel, scene, settings)


def feature_fusion(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """FFA: styles and content in one softmax, asked with preserved queries."""
    q = preserve_query(scene, settings.query_preservation)
    return attend(kernel, q, sources(scene, settings), settings.temperature)


def style_injection(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """StyleID (Chung et al., CVPR 2024, eq. 5 and 6): the styles' keys and values alone, preserved queries."""
    return feature_fusion(kernel, scene, replace(settings, content_weight=0.0))


def mutual_self_attention(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """MasaCtrl (Cao et al., ICCV 2023, eq. 3): the running queries ask the content's keys and values."""
    return attend(kernel, scene.live.q, [Source(scene.content.k, scene.content.v)])


def preserve_query(scene: Scene, preservation: float) -> Tensor:
    """g Q_c + (1 - g) Q_t: b n c."""
    if preservation == 0.0:
        return scene.live.q
    return torch.lerp(scene.live.q, scene.content.q, preservation)


def sources(scene: Scene, settings: FusionSettings) -> list[Source]:
    """The weighted sources of FFA; with nothing left to fuse, the running stream attends to itself."""
    active = [style for style in scene.styles if settings.style_weight * style.weight > 0.0]
    found = [_style_source(style, settings.style_weight * style.weight) for style in active]
    content_weight = _content_weight(active, settings.content_weight)
    if isinstance(content_weight, Tensor):
        found.append(Source(scene.content.k, scene.content.v, log_weight(content_weight)))
    elif content_weight > 0.0:
        found.append(Source(scene.content.k, scene.content.v, math.log(content_weight)))
    return found or [Source(scene.live.k, scene.live.v)]


def _style_source(style: StyleFeatures, weight: float) -> Source:
    features = style.features
    bias = None if style.style_mask is None else log_weight(style.style_mask)
    region = math.log(weight) if style.region is None else log_weight(weight * style.region)
    return Source(features.k, features.v, region, bias)


def _content_weight(styles: list[StyleFeatures], weight: float) -> float | Tensor:
    """Where no style acts the content's own features do: w_c + 1 - coverage, a number or b n."""
    if not styles or any(style.region is None for style in styles):
        return weight
    coverage = sum(style.region for style in styles).clamp(max=1.0)
    return weight + 1.0 - coverage


@dataclass(frozen=True)
class Method:
    """A fusion, the stored features that it needs, and the knobs that it reads."""

    fuse: Fuse
    content: str  # roles: letters of "qkv"
    style: str
    knobs: tuple[str, ...]


METHODS = {
    "ffa": Method(feature_fusion, "qkv", "kv", ("style_weight", "content_weight", "query_preservation", "temperature")),
    "styleid": Method(style_injection, "q", "kv", ("style_weight", "query_preservation", "temperature")),
    "masactrl": Method(mutual_self_attention, "kv", "", ()),
}


def content_roles(settings: FusionSettings, bank: FeatureBank) -> str:
    """The stored roles of the content that a run reads: with regions, its keys and values fill what no style covers."""
    roles = METHODS[settings.method].content
    if "v" not in roles and any(style.region is not None for style in bank.styles):
        return roles + "kv"
    return roles


def style_roles(settings: FusionSettings) -> str:
    """The stored roles of each style that a run reads."""
    return METHODS[settings.method].style

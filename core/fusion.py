"""Feature Fusion Attention (FFA) and the published methods that are settings of it.

Per layer and noise level, with the running stream t, the content c and styles s_1 .. s_n:

    Q~ = g Q_c + (1 - g) Q_t
    O  = softmax( tau / sqrt(d) [Q~ K_s1', .., Q~ K_sn', Q~ K_c'] + [b_s1, .., b_sn, b_c] ) [V_s1; ..; V_sn; V_c]

g is the query preservation, tau the attention temperature, b_x = ln(w_x) the log of a source's weight, whose region it
holds too; w_x = 0 drops the source, and what no style's region covers is added to w_c. Where all are dropped the stream
attends to itself, with K_t and V_t. The paper's own FFA equation (MagicStyle, arXiv 2409.08156) is not public in a
form that we could check against, so this is our reading of its abstract: texture and colour are fused from the stored
queries, keys and values of both pictures.

Without a portrait the stream takes the content's place: Q~ = Q_t, and w_c weighs K_t and V_t. What no style covers, and
what a mask keeps, is then the model's own picture, so tau multiplies the logits of the styles alone.

Every method takes any number of styles: their weights and regions are log weights in its softmax, so that order does
not matter and n copies of one style at weight 1/n are one style. Where no style acts, the softmax is left with what the
method attends to besides: the content's features, or the running stream's own in methods without content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .attention import LOG_ZERO, Kernel, Part, Source, attend, attend_to_parts
from .controls import AT_REST, StyleControls, controlled, mixed, ramped, text_answer
from .errors import MagicStyleError
from .features import ROLES
from .guidance import under_style_queries
from .ranges import check_range, check_temperature, check_weight
from .scene import Scene, StyleFeatures
from .sources import (
    align,
    content_source,
    kept,
    masses,
    preserve,
    preserve_query,
    source,
    style_source,
    style_sources,
    styles_or_content,
    with_matches,
)

# Portrait Diffusion (2312.02212): 35 of 50 steps attend with the content's queries alone; guidance of the later ones
SAC_EARLY = 35 / 50
SAC_GUIDANCE = 1.2
# ZePo (2408.05492): lambda of the authors' run script (0.5 where none is given)
SEAC_SCALE = 1.2
# Z-STAR (2311.16491)
ZSTAR_SCALE = 1.2
# MagicFace (2408.07433): added to the logits of every reference token
RSA_WEIGHT = 3.0
# DiffStyler (2403.18461): the decoder's ResNet feature is copied in 30 of 50 steps
RESNET_STEPS = 30 / 50


@dataclass(frozen=True)
class FusionSettings:
    """The knobs of the FFA Model Patcher; a method reads those that its formula has."""

    method: str = "ffa"
    style_weight: float = 1.0
    content_weight: float = 0.0
    query_preservation: float = 0.65
    temperature: float = 1.5
    controls: StyleControls = AT_REST

    def __post_init__(self) -> None:
        if self.method not in FUSIONS:
            raise MagicStyleError(f"method is '{self.method}': choose one of {', '.join(FUSIONS)}.")
        check_range("query_preservation", self.query_preservation, 0.0, 1.0)
        check_temperature(self.temperature)
        check_weight("style_weight", self.style_weight)
        check_weight("content_weight", self.content_weight)
        self.controls.check_for(self.method, FUSIONS[self.method].style)

    @property
    def knobs(self) -> dict[str, str | float]:
        """Method and numbers by name, without the controls: the patcher's own widgets."""
        return {name: value for name, value in vars(self).items() if name != "controls"}

    @property
    def style_weights(self) -> tuple[float, ...]:
        """Those of the first and the last step; all others lie between."""
        end = self.controls.style_weight_end
        return (self.style_weight,) if end is None else (self.style_weight, end)

    @property
    def style_roles(self) -> str:
        """The stored roles of each style that are read: letters of "qkv"."""
        read = FUSIONS[self.method].style + ("qk" if self.controls.align else "")
        return "".join(role for role in ROLES if role in read)

    @property
    def matches(self) -> bool:
        """Whether the content's places are matched with the styles'."""
        return FUSIONS[self.method].matches and self.controls.match_weight > 0.0

    @property
    def draws(self) -> bool:
        """Whether any step draws from the styles."""
        return max(self.style_weights) > 0.0

    @property
    def neutral(self) -> bool:
        """Whether nothing but the running stream takes part, once no style does."""
        return (self.method, self.content_weight, self.query_preservation, self.temperature) == ("ffa", 0.0, 0.0, 1.0)


Fuse = Callable[[Kernel, Scene, FusionSettings], Tensor]


def fuse(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """One self-attention output with the method's fusion: b n c."""
    scene, settings = _now(scene, settings)
    method, controls = FUSIONS[settings.method], settings.controls
    if controls.at_rest:
        return method.fuse(kernel, scene, settings)
    scene = controlled(scene, controls)
    return mixed(kernel, scene, method.fuse(kernel, scene, settings), controls.mix)


def answer_text(kernel: Kernel, text_q: Tensor, scene: Scene, settings: FusionSettings) -> Tensor:
    """What the queries b m c of a text answer that sees the styles, too: b m c."""
    scene, settings = _now(scene, settings)
    scene = controlled(scene, settings.controls)
    return text_answer(kernel, text_q, scene, settings.style_weight, settings.controls.mix)


def _now(scene: Scene, settings: FusionSettings) -> tuple[Scene, FusionSettings]:
    """The styles that act at this moment, and the settings as they are at it."""
    if scene.without_portrait:
        scene = scene.with_styles_outside_keep._replace(keep=None)
    end = settings.controls.style_weight_end
    if end is not None:
        settings = replace(settings, style_weight=ramped(settings.style_weight, end, scene.moment.ramp))
    active = tuple(style for style in scene.styles if settings.style_weight * style.weight > 0.0)
    return scene._replace(styles=active), settings


class Temperatures(NamedTuple):
    """What multiplies the logits of the styles, and besides those of all that is attended to."""

    styles: float
    all: float

    @classmethod
    def of(cls, scene: Scene, settings: FusionSettings) -> Temperatures:
        """Without a portrait the model's own attention keeps its own."""
        return cls(settings.temperature, 1.0) if scene.without_portrait else cls(1.0, settings.temperature)


def feature_fusion(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """FFA: styles and content in one softmax, under preserved queries; nothing left, the stream itself: b n c."""
    tau = Temperatures.of(scene, settings)
    styles = style_sources(scene, settings.style_weight, tau.styles)
    sources = [*styles, *content_source(scene, settings.content_weight)]
    q = preserve_query(scene, settings.query_preservation)
    return attend(kernel, q, sources or [source(scene.live)], tau.all)


def style_injection(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """StyleID (Chung et al., CVPR 2024, eq. 5 and 6): the styles' keys and values, preserved queries: b n c."""
    tau = Temperatures.of(scene, settings)
    q = preserve_query(scene, settings.query_preservation)
    return attend(kernel, q, styles_or_content(scene, settings.style_weight, tau.styles), tau.all)


def style_attention_control(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """Portrait Diffusion's SAC (Liu et al. 2023): early A(Q_c), later A(Q_c) + w (A(Q_t) - A(Q_c)).

    A attends to the styles: b n c.
    """
    sources = styles_or_content(scene, settings.style_weight)
    if scene.moment.progress < SAC_EARLY or scene.without_portrait:
        return attend(kernel, scene.content.q, sources)
    guidance = SAC_GUIDANCE * (1.0 - kept(scene, 0.0, scene.live.q))
    return torch.lerp(*_both(kernel, scene, sources), guidance)


def _both(kernel: Kernel, scene: Scene, sources: Sequence[Source]) -> tuple[Tensor, Tensor]:
    """A(Q_c) and A(Q_t), b n c each: the same keys for both, hence one call with the queries side by side."""
    if any(each.frames > 1 for each in sources):  # the keys of each frame are its own
        return attend(kernel, scene.content.q, sources), attend(kernel, scene.live.q, sources)
    both = attend(kernel, torch.cat([scene.content.q, scene.live.q], dim=1), [each.twice for each in sources])
    preserved, free = both.chunk(2, dim=1)
    return preserved, free


def style_enhanced_control(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """ZePo's SEAC (Liu et al. 2024): softmax([Q~ K_c', lambda Q~ K_s']) [V_c; V_s]: b n c."""
    q = preserve_query(scene, settings.query_preservation)
    return attend(kernel, q, [source(scene.content), *style_sources(scene, settings.style_weight, SEAC_SCALE)])


def style_transfer_reweighted(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """Z-STAR (Deng et al., CVPR 2024): softmax([1.2 Q_t K_s', Q_t K_t']) [V_s; V_t]: b n c."""
    styles = style_sources(scene.with_styles_outside_keep, settings.style_weight, ZSTAR_SCALE)
    return attend(kernel, scene.live.q, [*styles, source(scene.live)])


def style_aligned(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """StyleAligned (Hertz et al., CVPR 2024): softmax(AdaIN(Q_t, Q_s) [K_s; AdaIN(K_t, K_s)]') [V_s; V_t]: b n c."""
    scene = scene.with_styles_outside_keep
    # where the controls say how far, queries and keys come aligned
    q, k = (align(scene, role) if settings.controls.align is None else getattr(scene.live, role) for role in "qk")
    return attend(kernel, q, [*style_sources(scene, settings.style_weight), Source(k, scene.live.v)])


def reference_self_attention(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """MagicFace's RSA (Wang et al. 2024): softmax([Q_t K_t', Q_t K_i' + w M_i]) [V_t; V_i].

    M_i = 0 leaves out: b n c.
    """
    references = [
        style_source(style, settings.style_weight * style.weight, bias=_reference_bias(style))
        for style in scene.with_styles_outside_keep.styles
    ]
    return attend(kernel, scene.live.q, [source(scene.live), *references])


def mutual_self_attention(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """MasaCtrl (Cao et al., ICCV 2023, eq. 3): the running queries attend to the content's keys and values: b n c."""
    return attend(kernel, preserve_query(scene, 0.0), [source(scene.content)])


def content_injection(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """DiffStyler (Li et al. 2024): r Q_c + (1 - r) Q_t and K likewise, r = clamp(2 t / T, 0, 1); V as it runs."""
    share = min(max(2.0 * scene.moment.noise, 0.0), 1.0)
    q, k = (preserve(scene, role, share) for role in "qk")
    return attend(kernel, q, [Source(k, scene.live.v)])


def given_masses(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """MAST's attention by masses (2604.12281): sum_i p_i Attn(Q~, K_si, V_si) + p_c Attn(Q_c, K_c, V_c): b n c.

    The masses are given by weights and regions, where one softmax over all would find them: at temperature 1 this is
    the published softmax over styles and content whose logits are shifted by ln(p_i / p_c) + LSE(l_c) - LSE(l_i). The
    temperature sharpens the styles' logits and leaves the masses and the content's own answer as they are.
    """
    q = preserve_query(scene, settings.query_preservation)
    shares, rest = masses(scene, settings.style_weight, settings.content_weight)
    found = [
        Part(share, q, style_source(style._replace(region=None), 1.0), settings.temperature)
        for share, style in zip(shares, scene.styles, strict=True)
    ]
    return attend_to_parts(kernel, [*found, Part(rest, scene.content.q, source(scene.content))])


def statistics_injection(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """HAM's GAR (2603.24043): Attn(Q^, K^, V^) of X^ = g AdaIN(X_c, X_s) + (1 - g) X_t, g = 1 - alpha: b n c.

    No style token is attended to, its mean and deviation per channel alone count.
    """
    scene = scene.with_styles_outside_keep
    share, as_running = kept(scene, settings.query_preservation, scene.live.q), scene._replace(live=scene.content)
    q, k, v = (torch.lerp(getattr(scene.live, role), align(as_running, role), share) for role in "qkv")
    return attend(kernel, q, [Source(k, v)])


def matched_injection(kernel: Kernel, scene: Scene, settings: FusionSettings) -> Tensor:
    """CoCoDiff (2602.14464): StyleID with K_s[p] + w c(p)^2 K_s[p*(p)], V_s likewise, p* being p's match: b n c."""
    return style_injection(kernel, with_matches(scene, settings.controls.match_weight), settings)


def _reference_bias(style: StyleFeatures) -> Tensor:
    """What RSA adds to the logits of a style's keys: b m, or 1 m."""
    mask = style.style_mask
    if mask is None:
        return style.features.k.new_full((1, style.features.k.shape[1]), RSA_WEIGHT)
    return torch.where(mask > 0.0, RSA_WEIGHT * mask, LOG_ZERO)


@dataclass(frozen=True)
class Method:
    """A fusion, the stored features that it needs, the knobs that it reads, and itself in a few words."""

    fuse: Fuse
    content: str  # roles: letters of "qkv"
    style: str
    knobs: tuple[str, ...]
    summary: str
    conditional: bool = False  # rows of a negative prompt keep their own attention
    resnet: bool = False  # the feature of one decoder ResNet is copied from the content, where the bank has it
    fills: str = ""  # roles of the content that it needs besides, where no style acts
    keeps: str = ""  # and those where a mask keeps the content
    matches: bool = False  # by their keys, the content's places are matched with those of each style
    lays_queries: bool = False  # the style's queries take the running picture's places

    @property
    def needs_portrait(self) -> bool:
        """Whether nothing is left of it without a content: it draws from no style, or from what matches it."""
        return not self.style or self.matches


FUSIONS = {
    "ffa": Method(
        feature_fusion,
        "qkv",
        "kv",
        ("style_weight", "content_weight", "query_preservation", "temperature"),
        "style and content in one softmax",
    ),
    "styleid": Method(
        style_injection,
        "q",
        "kv",
        ("style_weight", "query_preservation", "temperature"),
        "the style alone (StyleID: preservation 0.75, temperature 1.5)",
        fills="kv",
    ),
    "masactrl": Method(mutual_self_attention, "kv", "", (), "the content alone (MasaCtrl)", keeps="q"),
    "sac": Method(
        style_attention_control,
        "q",
        "kv",
        ("style_weight",),
        "the style alone, under the portrait's queries (Portrait Diffusion)",
        fills="kv",
    ),
    "seac": Method(
        style_enhanced_control,
        "qkv",
        "kv",
        ("style_weight", "query_preservation"),
        "content and emphasised style in one softmax (ZePo: preservation 0)",
    ),
    "zstar": Method(
        style_transfer_reweighted,
        "",
        "kv",
        ("style_weight",),
        "emphasised style and the running picture in one softmax (Z-STAR)",
    ),
    "style_aligned": Method(
        style_aligned,
        "",
        "qkv",
        ("style_weight",),
        "style and the running picture, brought to the style's statistics (StyleAligned)",
    ),
    "rsa": Method(
        reference_self_attention,
        "",
        "kv",
        ("style_weight",),
        "the running picture and strongly weighted style, positive prompt only (MagicFace)",
        conditional=True,
    ),
    "diffstyler": Method(
        content_injection,
        "qk",
        "",
        (),
        "the content's structure held while noise is high, for a model with a style LoRA (DiffStyler)",
        resnet=True,
    ),
    "mast": Method(
        given_masses,
        "qkv",
        "kv",
        ("style_weight", "content_weight", "query_preservation", "temperature"),
        "each style's share of a place is given, and the rest is the portrait (MAST: "
        "content weight 0.11, preservation 0.2, temperature 1)",
    ),
    "gar": Method(
        statistics_injection,
        "qkv",
        "qkv",
        ("query_preservation",),
        "the running picture and the portrait's features, brought to the style's statistics (HAM: preservation 0.25)",
    ),
    "cocodiff": Method(
        matched_injection,
        "q",
        "kv",
        ("style_weight", "query_preservation", "temperature"),
        "the style alone, stronger where the portrait finds its like (CoCoDiff: preservation 0.75, temperature 1.5)",
        fills="kv",
        matches=True,
    ),
    "nvqg": Method(
        under_style_queries,
        "",
        "q",
        (),
        "the running picture under the style's queries, for guiding_model of Style Guidance alone (StyleKeeper)",
        lays_queries=True,
    ),
}

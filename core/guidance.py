"""Guidance by style: what is added to a prediction, from a second one of the same model and the same latent.

D is what a model takes the clean picture for: D_c with the prompt, D_u with the negative prompt, D what classifier-free
guidance makes of both. Of noise predictions eps = (x - D) / sigma the same sums hold.

    NVQG    D + w (D_c - D_q)     q: the negative prompt, the style's queries in the place of the picture's own
    SPG     D + w (D_s - D_u)     s: the negative prompt, with the style in attention

NVQG is Negative Visual Query Guidance (StyleKeeper, 2510.06827): at cfg 1, where D is D_c, this is the published
D_q + s (D_c - D_q) with s = 1 + w. SPG is Style Prompting Guidance (2508.11476), published with w = 3 at cfg 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from .attention import Kernel, Part, attend, attend_to_parts
from .errors import MagicStyleError
from .ranges import check_range
from .scene import Scene, StyleFeatures, shares
from .sources import source

GUIDANCES = {
    "nvqg": "away from what guiding_model paints under the style's queries (NVQG): model is the styled one, from FFA "
    "Model Patcher, and guiding_model comes from another one with method nvqg",
    "spg": "towards what guiding_model paints in the style (SPG): model is as it was loaded, and guiding_model comes "
    "from FFA Model Patcher",
}
MAX_SCALE = 20.0


@dataclass(frozen=True)
class StyleGuidance:
    """What is added to a prediction, how much of it, and in which part of the noise schedule."""

    kind: str = "nvqg"
    scale: float = 2.0
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in GUIDANCES:
            raise MagicStyleError(f"guidance is '{self.kind}': choose one of {', '.join(GUIDANCES)}.")
        check_range("style_scale", self.scale, 0.0, MAX_SCALE)
        check_range("start_percent", self.start_percent, 0.0, 1.0)
        check_range("end_percent", self.end_percent, 0.0, 1.0)

    @property
    def needs_negative(self) -> bool:
        """Whether it reads the prediction of the negative prompt."""
        return self.kind == "spg"

    def applied(self, guided: Tensor, positive: Tensor, negative: Tensor, guiding: Tensor) -> Tensor:
        """D, D_c, D_u and the guiding model's answer, b c h w each: the guided picture, b c h w."""
        direction = positive - guiding if self.kind == "nvqg" else guiding - negative
        return guided + self.scale * direction


def under_style_queries(kernel: Kernel, scene: Scene, settings: object) -> Tensor:
    """Attn(Q_s, K_t, V_t), each style by its share of the place, and the running queries by what is left: b n c.

    The negative pass of NVQG, which reads none of the settings.

    The style's queries say where its things are, and the answer is the running picture's: what such a picture shows is
    the content that comes along with a style.
    """
    scene, own = scene.with_styles_outside_keep, source(scene.live)
    if not scene.styles:
        return attend(kernel, scene.live.q, [own])
    parts = shares(scene.styles, torch.empty(1, scene.live.q.shape[1]))
    styled = [Part(share, _laid(style), own) for share, style in zip(parts, scene.styles, strict=True)]
    rest = 1.0 - reduce(torch.add, parts)
    return attend_to_parts(kernel, [*styled, Part(rest, scene.live.q, own)])


def _laid(style: StyleFeatures) -> Tensor:
    """A style's queries at the running picture's places: b n c."""
    if style.queries is None:
        raise ValueError("the style's queries are not on the running picture's grid")
    return style.queries

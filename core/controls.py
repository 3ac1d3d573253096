"""Knobs that other packs for style transfer have, for every fusion with style keys; at rest a method is as published.

    Q^ = (1 - a) Q_t + a AdaIN(Q_t, Q_s), K^ likewise     the running picture's, towards the style's statistics
    K~_s = kappa K_s                                      in the method's own formula
    O  = (1 - x) Attn(Q^, K^, V_t) + x O'                 O' is the method's answer with Q^, K^ and K~_s

a is `align`, kappa `key_scale`, x `mix`. Sources: ComfyUI-Krea2-StyleTransfer has all three, AlignedGen (2509.17088)
kappa, BigStationW's Untwisting-RoPE nodes a, before the rotary positions; ComfyUI-StyleGuide has x. `match_weight` is
CoCoDiff's alone. With `frames_together` the pictures of a batch are frames of a film: AdaIN has the statistics of all.

Letters: b rows, n tokens of the running picture, m tokens of the text beside it, c channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import Kernel, attend
from .correspondence import MATCH_WEIGHT, MAX_MATCH_WEIGHT
from .errors import MagicStyleError
from .ranges import check_range, check_weight
from .scene import Scene, StyleFeatures
from .sources import aligned, kept, source, style_sources

MAX_KEY_SCALE = 4.0


@dataclass(frozen=True)
class StyleControls:
    """The knobs; None leaves a value to the method, or as it is."""

    key_scale: float = 1.0
    align: float | None = None  # None: the method's own, which style_aligned alone has
    align_before_rotation: bool = False  # AdaIN on queries and keys as they are before their places turn them
    mix: float = 1.0
    style_weight_end: float | None = None  # of the last step; in between in even steps
    text_sees_style: bool = False
    match_weight: float = MATCH_WEIGHT  # of methods that match the content with the styles
    detail: float = 0.0  # how much of the portrait's high frequencies core.detail adds in a UNet's decoder
    frames_together: bool = False  # one mean and spread for all pictures of a batch, wherever a method aligns

    def __post_init__(self) -> None:
        check_range("key_scale", self.key_scale, 0.0, MAX_KEY_SCALE)
        check_range("mix", self.mix, 0.0, 1.0)
        check_range("detail", self.detail, 0.0, 1.0)
        check_range("match_weight", self.match_weight, 0.0, MAX_MATCH_WEIGHT)
        if self.align is not None:
            check_range("align", self.align, 0.0, 1.0)
        if self.style_weight_end is not None:
            check_weight("style_weight_end", self.style_weight_end)

    def check_for(self, method: str, style: str) -> None:
        """Refuse knobs that a method could not follow which reads these roles of a style."""
        if not style and self != AT_REST:
            raise MagicStyleError(
                f"method {method} attends to no style, so that style controls have nothing to act on: disconnect "
                "them, or choose a method that reads a style."
            )
        if "k" not in style and (self.key_scale != 1.0 or self.text_sees_style):
            raise MagicStyleError(
                f"method {method} attends to no key of the style: leave key_scale of Style Controls at 1 and "
                "text_sees_style off."
            )

    @property
    def at_rest(self) -> bool:
        """Whether the method's answer for the picture is its own, to the last bit."""
        return (self.key_scale, self.align, self.mix) == (1.0, None, 1.0)

    @property
    def leaves_the_model(self) -> bool:
        """Whether nothing of a method's answer is left, and the model's own is as it was."""
        return self.mix == 0.0 and not self.align


AT_REST = StyleControls()


def ramped(start: float, end: float | None, share: float) -> float:
    """A value that moves from `start` to `end` in even steps; None: it stays."""
    return start if end is None else start + (end - start) * share


def controlled(scene: Scene, controls: StyleControls) -> Scene:
    """The scene with Q^, K^ and K~_s: what a method fuses."""
    live = scene.live
    if controls.align:
        before = controls.align_before_rotation
        roles = {role: aligned(scene.with_styles_outside_keep, role, controls.align, upright=before) for role in "qk"}
        live = live.replace(**roles)
        scene = scene._replace(live=live, content=live if scene.without_portrait else scene.content)
    if controls.key_scale == 1.0:
        return scene
    styles = (_scaled(style, controls.key_scale) for style in scene.styles)
    return scene._replace(styles=tuple(styles))


def mixed(kernel: Kernel, scene: Scene, styled: Tensor, mix: float) -> Tensor:
    """The method's answer b n c in the running picture's own, all of it where the content is to be kept."""
    if mix == 1.0:
        return styled
    own = attend(kernel, scene.live.q, [source(scene.live)])
    return torch.lerp(own, styled, kept(scene, mix, styled))


def text_answer(kernel: Kernel, text_q: Tensor, scene: Scene, weight: float, mix: float) -> Tensor:
    """What the text's queries b m c answer where they see the styles beside the picture and themselves: b m c.

    A style weighs as much as its region covers of the picture.
    """
    own = [source(scene.live)]
    styles = [_on_average(style, text_q.shape[1]) for style in scene.with_styles_outside_keep.styles]
    seen = attend(kernel, text_q, [*own, *style_sources(scene._replace(styles=tuple(styles)), weight)])
    return seen if mix == 1.0 else torch.lerp(attend(kernel, text_q, own), seen, mix)


def _scaled(style: StyleFeatures, scale: float) -> StyleFeatures:
    keys = style.features.k
    own = keys if style.own_keys is None else style.own_keys
    return style._replace(features=style.features.replace(k=keys * scale), own_keys=own)


def _on_average(style: StyleFeatures, queries: int) -> StyleFeatures:
    """The style as a query sees it that belongs to no place, for so many of them."""
    if style.region is None:
        return style
    return style._replace(region=style.region.mean(dim=1, keepdim=True).expand(-1, queries))

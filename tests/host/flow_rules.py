"""The formulas of fusion in transformers, in plain torch: what each method answers one attention call with.

Letters: b rows, h heads, n tokens of the picture, m of a source, d head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Features = tuple[Tensor, Tensor, Tensor]  # q, k, v of the picture's tokens, b h n d
Part = tuple[Tensor, Tensor, Tensor | float]  # k, v and the mass of its keys in the softmax


class Style(NamedTuple):
    """A style of a scene: a LATENT, and how it acts."""

    latent: Tensor
    weight: float = 1.0
    region: Tensor | None = None  # h w: where in the picture it acts
    mask: Tensor | None = None  # h w: what of it may be drawn from


class Drawn(NamedTuple):
    """A style in one attention call."""

    features: Features
    mass: Tensor | float  # n m: of its keys for each query


class Compared(NamedTuple):
    """The keys by which the content's places are matched with those of the one style, b h n d, and both (h, w)."""

    content: Tensor
    style: Tensor
    grid: tuple[int, int]
    style_grid: tuple[int, int]
    turned: Callable[[Tensor, tuple[int, int], int], Tensor]  # b h n d by the places of a grid, times 1 or -1

    def on_content(self, tokens: Tensor) -> Tensor:
        """The style's tokens b h m d on the content's grid: b h n d."""
        cells = tokens.transpose(1, 2).flatten(2).mT.unflatten(2, self.style_grid)
        cells = F.interpolate(cells, self.grid, mode="bilinear", antialias=True).flatten(2).mT
        return cells.unflatten(2, (tokens.shape[1], -1)).transpose(1, 2)

    def upright(self, keys: Tensor) -> Tensor:
        """The style's keys b h m d without the turn of their places, on the content's grid: b h n d."""
        return self.on_content(self.turned(keys, self.style_grid, -1))

    @property
    def matches(self) -> tuple[Tensor, Tensor]:
        """The cosine of each place of the content and where it is found, b n each: over the channels of all heads."""
        keys = self.turned(self.content, self.grid, -1), self.upright(self.style)
        content, style = (F.normalize(x.transpose(1, 2).flatten(2), dim=2) for x in keys)
        cosine, place = (content @ style.mT).max(2)
        return cosine, place


class RuleCall(NamedTuple):
    """What a rule answers."""

    live: Features
    content: Features
    styles: tuple[Drawn, ...]
    rest: Features  # text, registers and references
    outside: Tensor | None  # n 1: how much of each query no region covers; None where a style acts everywhere
    done: float  # the share of the steps
    noise: float  # the noise's share of the latent
    raised: float = 0.0  # what another node adds to every answer
    compared: Compared | None = None
    lay: Callable[[Tensor], Tensor] | None = None  # queries of the first style where the picture's are

    @property
    def style(self) -> Features:
        """Of one style."""
        (only,) = self.styles
        return only.features

    def of_styles(self, scale: float = 1.0) -> list[Part]:
        """Keys, those of the styles times `scale`, values and masses."""
        return [(scale * features[1], features[2], mass) for features, mass in self.styles]

    def of_content(self, mass: float) -> list[Part]:
        """The content beside styles, with what they leave it."""
        left = mass if self.outside is None else mass + self.outside
        return [(*self.content[1:], left)] if isinstance(left, Tensor) or left else []

    def answer(self, q: Tensor, *parts: Part) -> Tensor:
        """b h n d: the text is attended to with every source."""
        k, v = (torch.cat([part[i] for part in parts] + [self.rest[i + 1]], 2) for i in (0, 1))
        masses = [mass * q.new_ones(q.shape[2], k.shape[2]) for k, _, mass in parts]
        masses.append(q.new_ones(q.shape[2], self.rest[1].shape[2]))
        return softmax_attention(q, k, v, torch.cat(masses, 1)) + self.raised


Rule = Callable[[RuleCall], Tensor]


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mass: Tensor | None = None) -> Tensor:
    """Attention b h n d; `mass` n m multiplies each key's share before the softmax is normalised."""
    logits = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    weights = torch.exp(logits - logits.amax(-1, keepdim=True))
    weights = weights if mass is None else weights * mass
    return weights / weights.sum(-1, keepdim=True) @ v


def blended(call: RuleCall, role: int, share: float) -> Tensor:
    """The content's queries or keys, and the rest of the picture's own."""
    return share * call.content[role] + (1 - share) * call.live[role]


def styleid(call: RuleCall) -> Tensor:
    """The styles' keys and values in the place of the picture's; the content's where no style acts."""
    return call.answer(1.5 * blended(call, 0, 0.75), *call.of_styles(), *call.of_content(0.0))


def ffa(call: RuleCall) -> Tensor:
    """Styles and content in one softmax, the content's keys at a tenth of their mass."""
    return call.answer(1.5 * blended(call, 0, 0.5), *call.of_styles(), *call.of_content(0.1))


def masactrl(call: RuleCall) -> Tensor:
    """The picture attends to the content."""
    return call.answer(call.live[0], (*call.content[1:], 1.0))


def sac(call: RuleCall) -> Tensor:
    """The content's queries attend to the style, in the last steps with guidance from the picture's own."""
    anchored, free = (call.answer(x[0], *call.of_styles()) for x in (call.content, call.live))
    return anchored if call.done < 0.7 else anchored + 1.2 * (free - anchored)


def seac(call: RuleCall) -> Tensor:
    """Content and emphasised style in one softmax."""
    return call.answer(call.live[0], (*call.content[1:], 1.0), *call.of_styles(1.2))


def zstar(call: RuleCall) -> Tensor:
    """Emphasised style and the picture itself in one softmax."""
    return call.answer(call.live[0], *call.of_styles(1.2), (*call.live[1:], 1.0))


def statistics(x: Tensor, y: Tensor) -> Tensor:
    """x with the mean and deviation over tokens that y has in each channel: b h n d."""
    normal = (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True, correction=0)
    return normal * y.std(2, keepdim=True, correction=0) + y.mean(2, keepdim=True)


def style_aligned(call: RuleCall) -> Tensor:
    """The style beside the picture, whose queries and keys have the style's statistics."""
    q, k = (statistics(call.live[role], call.style[role]) for role in (0, 1))
    return call.answer(q, *call.of_styles(), (k, call.live[2], 1.0))


def rsa(call: RuleCall) -> Tensor:
    """The picture beside the style, three added to the style's logits."""
    reference = (*call.style[1:], math.exp(3.0))
    return call.answer(call.live[0], (*call.live[1:], 1.0), reference)


def diffstyler(call: RuleCall) -> Tensor:
    """The content's queries and keys while noise is high."""
    share = min(2 * call.noise, 1.0)
    return call.answer(blended(call, 0, share), (blended(call, 1, share), call.live[2], 1.0))


def mast(call: RuleCall) -> Tensor:
    """Style and content answer by themselves, each with the text, and nine parts of ten are the style's."""
    styled = call.answer(blended(call, 0, 0.5), *call.of_styles())
    return 0.9 * styled + 0.1 * call.answer(call.content[0], (*call.content[1:], 1.0))


def gar(call: RuleCall) -> Tensor:
    """The content's features with the style's statistics, half and half with the running ones."""
    parts = zip(call.live, call.content, call.style, strict=True)
    q, k, v = (0.5 * statistics(content, style) + 0.5 * live for live, content, style in parts)
    return call.answer(q, (k, v, 1.0))


def cocodiff(call: RuleCall) -> Tensor:
    """The style on the content's grid, each place with what its number's place in the content is most like."""
    assert call.compared is not None
    (cosine, place), ((_, k, v), mass) = call.compared.matches, call.styles[0]
    share = 0.6 * cosine.clamp(min=0.0)[:, None, :, None] ** 2
    place = place[:, None, :, None]
    k, v = (
        x + share * x.gather(2, place.expand_as(x)) for x in (call.compared.upright(k), call.compared.on_content(v))
    )
    return call.answer(1.5 * blended(call, 0, 0.75), (call.compared.turned(k, call.compared.grid, 1), v, mass))


def nvqg(call: RuleCall) -> Tensor:
    """The picture itself under the style's queries, the same in every frame."""
    assert call.lay is not None
    laid = call.lay(call.style[0])
    laid = torch.cat([laid] * (call.live[0].shape[2] // laid.shape[2]), 2)
    return call.answer(laid, (*call.live[1:], 1.0))


def styleid_alone(call: RuleCall) -> Tensor:
    """Of a prompt without a portrait: the temperature is the styles' alone."""
    return call.answer(call.live[0], *call.of_styles(1.5), *call.of_content(0.0))


def ffa_alone(call: RuleCall) -> Tensor:
    """Likewise, the picture's own keys at a tenth of their mass."""
    return call.answer(call.live[0], *call.of_styles(1.5), *call.of_content(0.1))


KNOBS = {
    "gar": {"method": "gar", "query_preservation": 0.5},
    "cocodiff": {"method": "cocodiff", "query_preservation": 0.75, "temperature": 1.5},
    "mast": {"method": "mast", "query_preservation": 0.5, "temperature": 1.0, "content_weight": 1 / 9},
    "styleid": {"method": "styleid", "query_preservation": 0.75, "temperature": 1.5},
    "ffa": {"method": "ffa", "query_preservation": 0.5, "temperature": 1.5, "content_weight": 0.1},
}
RULES: dict[str, Rule] = {"styleid": styleid, "ffa": ffa}
METHODS: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (ffa, styleid, masactrl, sac, seac, zstar, style_aligned, rsa, diffstyler, mast, gar, cocodiff, nvqg)
}
ALONE: dict[str, Rule] = {
    **{rule.__name__: rule for rule in (sac, seac, zstar, style_aligned, rsa, mast, gar, nvqg)},
    "ffa": ffa_alone,
    "styleid": styleid_alone,
}
OF_THE_PROMPT = {"rsa"}  # methods that leave a negative prompt's answer as it is

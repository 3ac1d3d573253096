"""Regions from words: where in a picture the model sees what a prompt names.

After MagicFace's region-grouped blending (Wang et al. 2024, arXiv 2408.07433), which takes its maps from Shen et al.
(2024): cross-attention says where a token is seen, self-attention which places belong together, and each place goes to
the token that it is seen most for, counted against the token's own average.

Letters: n places of a grid, t prompt tokens, p phrases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from .errors import MagicStyleError
from .grid import Grid

POWERS = 4
BLUR = 0.5
# grids at least this many times coarser than the latent, in each direction
COARSE = 4
Spans = Sequence[Sequence[int]]
# MagicFace (2408.07433) groups places by their concept after the first 20 of 50 steps
GROUPED_AFTER = 20 / 50
# commas, semicolons and line breaks as keyboards write them: Latin, full width, half width, small, Arabic
SEPARATORS = re.compile("[,;\r\n\u060c\u061b\u2028\u2029\u3001\ufe50\ufe51\ufe54\uff0c\uff1b\uff64]")


def attention_map(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """softmax(q k' / sqrt(d)), averaged over heads: b n (h d), b t (h d) -> b n t, in float32."""
    q, k = (rearrange(t.float(), "b n (h d) -> b h n d", h=heads) for t in (q, k))
    weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
    return reduce(weights, "b h n t -> b n t", "mean")


@dataclass
class MapCollector:
    """The average self- and cross-attention map of each grid, over the layers seen."""

    self_maps: dict[Grid, list[Tensor]] = field(default_factory=dict)  # n n
    cross_maps: dict[Grid, list[Tensor]] = field(default_factory=dict)  # n t

    def add(self, kind: str, grid: Grid, q: Tensor, k: Tensor, heads: int) -> None:
        """Take in one attention call of one picture, q b n (h d) and k b t (h d), `kind` being "self" or "cross"."""
        maps = self.self_maps if kind == "self" else self.cross_maps
        maps.setdefault(grid, []).append(attention_map(q[:1], k[:1], heads)[0])

    @property
    def complete(self) -> bool:
        """Whether a grid has shown both kinds."""
        return not self.self_maps.keys().isdisjoint(self.cross_maps)

    def token_maps(self, size: Grid) -> Tensor:
        """Where each token is seen, t h w at `size`, 1 being a token's average; the mean over grids."""
        grids = [grid for grid in self.cross_maps if grid in self.self_maps]
        if not grids:
            raise MagicStyleError(
                "The model showed no attention to read regions from: another node replaces it; remove that node."
            )
        maps = [_token_map(self.self_maps[grid], self.cross_maps[grid], grid, size) for grid in grids]
        return torch.stack(maps).mean(dim=0)


def _token_map(self_maps: Sequence[Tensor], cross_maps: Sequence[Tensor], grid: Grid, size: Grid) -> Tensor:
    smoothed = spread(torch.stack(list(self_maps)).mean(dim=0), torch.stack(list(cross_maps)).mean(dim=0))
    maps = rearrange(smoothed, "(h w) t -> 1 t h w", h=grid.height)
    maps = gaussian3(F.interpolate(maps, size, mode="bilinear"))[0]
    return maps / maps.mean(dim=(1, 2), keepdim=True)


def spread(self_map: Tensor, cross_map: Tensor) -> Tensor:
    """(S + S^2 + S^3 + S^4) / 4 C: what is seen at a place is seen where the place looks: n t."""
    total, moved = torch.zeros_like(cross_map), cross_map
    for _ in range(POWERS):
        moved = self_map @ moved
        total = total + moved
    return total / POWERS


def gaussian3(maps: Tensor, sigma: float = BLUR) -> Tensor:
    """A 3 x 3 Gaussian blur of b t h w; the edges repeat."""
    x = torch.arange(-1.0, 2.0, device=maps.device)
    line = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = (line[:, None] * line[None, :] / line.sum() ** 2).expand(maps.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), kernel.to(maps), groups=maps.shape[1])


def phrase_masks(maps: Tensor, spans: Spans, others: Sequence[int], background: float) -> Tensor:
    """Every place to the phrase of its strongest token -> p h w of 0 and 1, none where another token is stronger.

    `spans` are the phrases' tokens; `others` are tokens that mean none of them, weighed by `background`.
    """
    phrases = [maps[list(span)].amax(dim=0) for span in spans]
    rest = maps[list(others)].amax(dim=0) * background if others else torch.zeros_like(phrases[0])
    winner = torch.stack([*phrases, rest]).argmax(dim=0)
    return torch.stack([(winner == index).float() for index in range(len(spans))])


@dataclass(frozen=True)
class StyleWords:
    """Which words of a prompt say where each style acts while a picture is painted, in the order of the styles."""

    spans: tuple[tuple[int, ...], ...]  # of each style's words among the prompt's tokens
    others: tuple[int, ...]
    prompt: Tensor  # 1 t c: by which the prompt is known among those of a run
    background: float = 0.6
    after: float = GROUPED_AFTER  # the share of the steps that is done before

    def masks(self, maps: Tensor) -> Tensor:
        """What each style's words name, t h w -> p h w of 0 and 1."""
        return phrase_masks(maps, self.spans, self.others, self.background)


def split_phrases(words: str) -> list[str]:
    """'hair, red hat' -> ['hair', 'red hat'], each once."""
    phrases = [phrase.strip() for phrase in SEPARATORS.split(words) if phrase.strip()]
    if not phrases:
        raise MagicStyleError("words is empty: name what to look for, such as hair, hat, background.")
    for number, phrase in enumerate(phrases):
        if phrase.lower() in [earlier.lower() for earlier in phrases[:number]]:
            raise MagicStyleError(f"words names '{phrase}' twice: name it once, since each phrase gets one mask.")
    return phrases


def set_apart(prompt: str, phrases: Sequence[str]) -> str:
    """The prompt with spaces where a phrase ends or begins with a sign and another sign touches it.

    CLIP's tokenizer takes signs that touch for one token, the bracket and the comma of 'face (oval),' for example.
    """
    for phrase in phrases:
        pattern = re.escape(phrase)
        if not phrase[-1].isalnum():
            prompt = re.sub(rf"({pattern})(?=[^\w\s])", r"\1 ", prompt, flags=re.IGNORECASE)
        if not phrase[0].isalnum():
            prompt = re.sub(rf"(?<=[^\w\s])({pattern})", r" \1", prompt, flags=re.IGNORECASE)
    return prompt


def find_phrases(prompt: Sequence[int], phrases: Mapping[str, Sequence[int]]) -> list[list[int]]:
    """Where each phrase's token ids stand among those of the prompt's words, every occurrence."""
    spans = []
    for phrase, ids in phrases.items():
        starts = [i for i in range(len(prompt) - len(ids) + 1) if list(prompt[i : i + len(ids)]) == list(ids)]
        if not starts or not ids:
            raise MagicStyleError(f"words: '{phrase}' does not stand in the prompt: write it there just as in words.")
        spans.append([start + offset for start in starts for offset in range(len(ids))])
    return spans


def is_coarse(grid: Grid, latent: Grid) -> bool:
    """Whether a grid is one that regions are read from: coarse grids see meaning, fine ones texture."""
    return all(side <= math.ceil(whole / COARSE) for side, whole in zip(grid, latent, strict=True))

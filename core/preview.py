"""Pictures of what a bank holds: features as colours, and where attention looks at the style."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .grid import Grid

QUERIES_AT_ONCE = 512
HEIGHT = 384
GAP = 16


def pca_colours(features: Sequence[Tensor], grids: Sequence[Grid]) -> list[Tensor]:
    """The three principal components of all pictures' features n c together, as red, green and blue -> h w 3 each.

    A film's frames lie below each other. One basis for all: tokens of the same colour have similar features,
    whichever picture they lie in.
    """
    tokens = torch.cat([feature.float() for feature in features])
    centred = tokens - tokens.mean(dim=0)
    # a fixed sign per component, so that the colours do not depend on the linear algebra library
    _, _, basis = torch.linalg.svd(centred, full_matrices=False)
    basis = basis[:3] * basis[:3].sum(dim=1, keepdim=True).sign()
    colours = centred @ basis.T
    low, high = (torch.quantile(colours, share, dim=0) for share in (0.02, 0.98))
    colours = ((colours - low) / (high - low).clamp(min=1e-6)).clamp(0.0, 1.0)
    colours = F.pad(colours, (0, 3 - colours.shape[1]))
    parts = colours.split([len(feature) for feature in features])
    return [_laid(part, grid) for part, grid in zip(parts, grids, strict=True)]


def _laid(colours: Tensor, grid: Grid) -> Tensor:
    """Tokens n 3 as a picture h w 3, a film's frames below each other."""
    return rearrange(colours, "(h w) rgb -> h w rgb", h=grid.frames * grid.height)


def style_share(q: Tensor, style_keys: Sequence[Tensor], content_keys: Tensor, heads: int) -> Tensor:
    """How much of the softmax falls on style tokens when all pictures weigh alike, n c and m c -> n in [0, 1].

    The mean over heads of Z_s / (Z_s + Z_c), with Z the sum of exponentials over a picture's keys.
    """
    q, content, *styles = (
        rearrange(tokens.float(), "n (h d) -> h n d", h=heads) for tokens in (q, content_keys, *style_keys)
    )
    q = q * q.shape[-1] ** -0.5
    shares = []
    for part in q.split(QUERIES_AT_ONCE, dim=1):
        style = torch.cat([part @ keys.mT for keys in styles], dim=2).logsumexp(dim=2)
        own = (part @ content.mT).logsumexp(dim=2)
        shares.append(torch.sigmoid(style - own).mean(dim=0))
    return torch.cat(shares)


def heat(share: Tensor, grid: Grid) -> Tensor:
    """Values n in [0, 1] as colours from dark blue through violet to yellow -> h w 3; frames below each other."""
    stops = share.new_tensor([[0.05, 0.03, 0.30], [0.60, 0.10, 0.55], [0.95, 0.45, 0.30], [0.98, 0.95, 0.30]])
    place = share.clamp(0.0, 1.0) * (len(stops) - 1)
    below = place.floor().long().clamp(max=len(stops) - 2)
    colours = torch.lerp(stops[below], stops[below + 1], (place - below).unsqueeze(1))
    return _laid(colours, grid)


def enlarged(picture: Tensor) -> Tensor:
    """A picture h w 3 without smoothing at the height of all: H W 3."""
    width = max(1, round(picture.shape[1] * HEIGHT / picture.shape[0]))
    large = F.interpolate(rearrange(picture, "h w rgb -> 1 rgb h w"), size=(HEIGHT, width), mode="nearest")
    return rearrange(large, "1 rgb h w -> h w rgb")


def side_by_side(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures H W 3 of one height, with white gaps -> 1 H W 3."""
    gap = torch.ones(pictures[0].shape[0], GAP, 3)
    row = [part for picture in pictures for part in (picture, gap)]
    return torch.cat(row[:-1], dim=1).unsqueeze(0)


def painted_by_match(places: Tensor, style: Tensor, grid: Grid) -> Tensor:
    """Each place of a grid with the pixels of the place n of a style picture h w 3 that it matches -> H W 3.

    The style picture lies on the same grid, whatever its proportions.
    """
    side = max(1, round(HEIGHT / grid.height))
    size = (grid.height * side, grid.width * side)
    whole = F.interpolate(rearrange(style, "h w rgb -> 1 rgb h w"), size=size, mode="bilinear", antialias=True)
    cells = rearrange(whole, "1 rgb (h y) (w x) -> (h w) y x rgb", y=side, x=side)
    return rearrange(cells[places], "(h w) y x rgb -> (h y) (w x) rgb", h=grid.height)


def of_height(picture: Tensor, height: int) -> Tensor:
    """A picture h w 3 at a height: H W 3."""
    size = (height, max(1, round(picture.shape[1] * height / picture.shape[0])))
    scaled = F.interpolate(rearrange(picture, "h w rgb -> 1 rgb h w"), size=size, mode="bilinear", antialias=True)
    return rearrange(scaled, "1 rgb h w -> h w rgb").clamp(0.0, 1.0)

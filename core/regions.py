"""Masks on pictures and windows of them, brought to the token grid of an attention layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .errors import MagicStyleError
from .ranges import check_range

Grid = tuple[int, int]
KEEP_STRENGTH = 1.0  # of a mask that keeps the content
NO_ALPHA = (64, 64)  # of the black MASK that the host's Load Image gives beside a picture without transparency


class Window(NamedTuple):
    """A rectangle of a picture, in latent pixels or in tokens: where it begins and how large it is.

    What reaches past an edge goes on at the opposite one, as where another node rolls the latent.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> Grid:
        """Its (h, w)."""
        return self.height, self.width

    def on_grid(self, picture: Grid, grid: Grid) -> Window | None:
        """This window of a latent of (h, w) `picture` in tokens of one of its grids; None for a grid of another kind.

        A grid that halves the latent k times has tokens a stride of 2^k latent pixels apart. A window of n pixels from
        pixel a on has as many tokens as the model makes of it, ceil(n / stride), and shows the nearest of the
        picture's: from round(a / stride) on, halves up, moved back where that alone would reach past the edge.
        """
        rows = _side(self.top, self.height, picture[0], grid[0])
        columns = _side(self.left, self.width, picture[1], grid[1])
        if rows is None or columns is None:
            return None
        (top, height), (left, width) = rows, columns
        return Window(top, left, height, width)


def _side(start: int, length: int, pixels: int, tokens: int) -> tuple[int, int] | None:
    stride = 1
    while -(-pixels // stride) > tokens:
        stride *= 2
    if -(-pixels // stride) != tokens:
        return None
    count, first = -(-length // stride), (2 * start + stride) // (2 * stride)
    return (first % tokens if start + length > pixels else min(first, tokens - count)), count


def crop_tokens(tokens: Tensor, grid: Grid, window: Window) -> Tensor:
    """What a window, in tokens, shows of a grid: b (h w) .. -> b n .."""
    if window == (0, 0, *grid):
        return tokens
    cells = tokens.unflatten(1, grid)
    for axis, (start, length) in enumerate(((window.top, window.height), (window.left, window.width)), 1):
        here = min(length, grid[axis - 1] - start)
        parts = [cells.narrow(axis, start, here), cells.narrow(axis, 0, length - here)]
        cells = parts[0] if here == length else torch.cat(parts, dim=axis)
    return cells.flatten(1, 2)


def clean_mask(mask: Tensor, name: str) -> Tensor:
    """A user's mask as float b h w in [0, 1]; bool and uint8 (0..255) are understood, NaN and odd shapes refused."""
    if mask.ndim == 2:
        mask = mask.unsqueeze(0)
    if mask.ndim == 4 and 1 in (mask.shape[1], mask.shape[-1]):
        mask = mask.squeeze(1) if mask.shape[1] == 1 else mask.squeeze(-1)
    if mask.ndim != 3 or mask.numel() == 0:
        raise MagicStyleError(f"{name} has the shape {tuple(mask.shape)}: connect a MASK of height x width pixels.")
    scale = 255.0 if mask.dtype == torch.uint8 and mask.max() > 1 else 1.0
    mask = mask.float() / scale
    if not torch.isfinite(mask).all():
        raise MagicStyleError(f"{name} holds NaN or infinite values: connect a mask with values from 0 to 1.")
    return mask.clamp(0.0, 1.0)


def region_mask(mask: Tensor, pictures: int) -> Tensor:
    """Where a style acts, checked: b h w in [0, 1], one mask for all pictures of the content or one for each."""
    return _for_pictures(clean_mask(mask, "region"), "region", pictures)


def acting_region(mask: Tensor, pictures: int) -> Tensor:
    """Where a style acts, checked: b h w in [0, 1] as `region_mask` says, somewhere in one picture at least."""
    mask = region_mask(mask, pictures)
    if is_black(mask):
        cure = "paint where the style shall act white, or disconnect region"
        raise MagicStyleError(f"region is black everywhere, so that the style acts nowhere: {black_cause(mask, cure)}.")
    return mask


def style_mask(mask: Tensor, pictures: int) -> Tensor:
    """What of a style may be drawn from, checked: b h w in [0, 1], something of each picture."""
    mask = _for_pictures(clean_mask(mask, "style_mask"), "style_mask", pictures)
    if bool((mask.amax(dim=(1, 2)) == 0.0).any()):
        cure = "paint what may be used white, or give the style a weight of 0"
        raise MagicStyleError(
            f"style_mask is black everywhere and leaves nothing of the style to draw from: {black_cause(mask, cure)}."
        )
    return mask


def is_black(mask: Tensor) -> bool:
    """Whether a mask b h w covers nothing at all."""
    return not bool((mask > 0.0).any())


def black_cause(mask: Tensor, cure: str) -> str:
    """Why a mask b h w may be black, where its size tells, and what to do."""
    if tuple(mask.shape[1:]) != NO_ALPHA:
        return (
            f"{cure}; a mask from Load Image is black until you paint one in its Mask Editor or load a picture that "
            "has one"
        )
    return (
        "Load Image gives such a mask for a picture without transparency, as every JPEG is; draw one in its Mask "
        f"Editor or load one with Load Image (as Mask), {cure}"
    )


def keep_mask(mask: Tensor, strength: float, pictures: int) -> Tensor | None:
    """How far a content is to stay as it is, checked: b h w in [0, 1], as for a region; None where nowhere."""
    check_range("keep_strength", strength, 0.0, 1.0)
    kept = strength * _for_pictures(clean_mask(mask, "keep"), "keep", pictures)
    return kept if bool((kept > 0.0).any()) else None


def _for_pictures(mask: Tensor, name: str, pictures: int) -> Tensor:
    """A mask b h w, refused where it is neither one for all pictures nor one for each."""
    if mask.shape[0] not in (1, pictures):
        raise MagicStyleError(
            f"{name} holds {mask.shape[0]} masks and the content {pictures} pictures: "
            "give one mask, or as many as content pictures."
        )
    return mask


def mask_to_tokens(mask: Tensor, grid: Grid) -> Tensor:
    """Resample a mask b h w to the token grid by area -> b n, so that a token's value is its covered share."""
    tokens = F.adaptive_avg_pool2d(mask.unsqueeze(1), grid)
    return rearrange(tokens, "b 1 h w -> b (h w)")


def resample_tokens(tokens: Tensor, old: Grid, new: Grid) -> Tensor:
    """Features b n c or masks b n of one token grid, brought to another one by linear interpolation between cells."""
    if old == new:
        return tokens
    if tokens.ndim == 2:
        return resample_tokens(tokens.unsqueeze(2), old, new).squeeze(2)
    cells = rearrange(tokens, "b (h w) c -> b c h w", h=old[0])
    cells = F.interpolate(cells, size=new, mode="bilinear", antialias=True)
    return rearrange(cells, "b c h w -> b (h w) c")

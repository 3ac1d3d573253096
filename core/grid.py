"""Grids of tokens: pictures and films as rows of tokens, cut, resampled and covered by masks.

Letters: b rows, t frames, h w sides of a frame, n = t h w tokens in that order, c channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


class Grid(tuple[int, ...]):
    """How many tokens, or latent pixels, lie each way: (h, w) of a picture, (t, h, w) of a film.

    A film's tokens come frame after frame. A film of one frame is a picture.
    """

    __slots__ = ()

    def __new__(cls, sides: Iterable[int]) -> Grid:
        """Of (h, w) or (t, h, w), such as the sides of a latent behind its batch and its channels."""
        frames = tuple(sides)
        # as a tuple's, not super()'s: grids are made for every attention call
        return tuple.__new__(cls, frames[1:] if len(frames) == 3 and frames[0] == 1 else frames)

    @property
    def frames(self) -> int:
        """How many pictures it has one after the other."""
        return 1 if len(self) == 2 else self[0]

    @property
    def height(self) -> int:
        """Of one frame."""
        return self[-2]

    @property
    def width(self) -> int:
        """Of one frame."""
        return self[-1]

    @property
    def frame(self) -> Grid:
        """The (h, w) of one frame."""
        return self if len(self) == 2 else Grid(self[-2:])

    @property
    def tokens(self) -> int:
        """How many there are in all."""
        return math.prod(self)

    def with_frames(self, count: int) -> Grid:
        """So many frames of the same (h, w)."""
        return self if count == self.frames else Grid((count, *self.frame))

    def with_frame(self, frame: tuple[int, ...]) -> Grid:
        """As many frames of another (h, w)."""
        return self if frame == self[-2:] else Grid((*self[:-2], *frame))

    def picked(self, tokens: Tensor, frames: Sequence[int]) -> Tensor:
        """Some of a film's frames, in the order of their numbers; none at all: all of them: b (t h w) .. -> b n .."""
        if not frames:
            return tokens
        return tokens.unflatten(1, (self.frames, self.frame.tokens))[:, list(frames)].flatten(1, 2)

    def cropped(self, tokens: Tensor, window: Window) -> Tensor:
        """What a window, in tokens, shows of each frame: b (t h w) .. -> b n .."""
        if window == (0, 0, *self.frame):
            return tokens
        cells = tokens.unflatten(1, (self.frames, *self.frame))
        for axis, (start, length) in enumerate(((window.top, window.height), (window.left, window.width)), 2):
            here = min(length, self.frame[axis - 2] - start)
            parts = [cells.narrow(axis, start, here), cells.narrow(axis, 0, length - here)]
            cells = parts[0] if here == length else torch.cat(parts, dim=axis)
        return cells.flatten(1, 3)

    def resampled(self, tokens: Tensor, new: Grid) -> Tensor:
        """Features b n c or masks b n, each frame brought to the (h, w) of another grid by linear interpolation."""
        if self.frame == new.frame:
            return tokens
        if tokens.ndim == 2:
            return self.resampled(tokens.unsqueeze(2), new).squeeze(2)
        cells = rearrange(tokens, "b (t h w) c -> (b t) c h w", t=self.frames, h=self.height)
        cells = F.interpolate(cells, size=tuple(new.frame), mode="bilinear", antialias=True)
        return rearrange(cells, "(b t) c h w -> b (t h w) c", t=self.frames)

    def covered(self, mask: Tensor) -> Tensor:
        """A mask of any resolution, by area -> b n, so that a token's value is its covered share.

        It is b h w, the same for all frames, or b t h w.
        """
        if mask.ndim == 4:
            return self.frame.covered(mask.flatten(0, 1)).reshape(mask.shape[0], -1)
        tokens = F.adaptive_avg_pool2d(mask.unsqueeze(1), (self.height, self.width))
        return rearrange(tokens, "b 1 h w -> b (h w)").repeat(1, self.frames)


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
        return Grid((self.height, self.width))

    def on_grid(self, picture: Grid, grid: Grid) -> Window | None:
        """This window of a latent of the size `picture` in tokens of one of its grids; None for one of another kind.

        A grid that halves the latent k times has tokens a stride of 2^k latent pixels apart. A window of n pixels from
        pixel a on has as many tokens as the model makes of it, ceil(n / stride), and shows the nearest of the
        picture's: from round(a / stride) on, halves up, moved back where that alone would reach past the edge.
        """
        rows = _side(self.top, self.height, picture.height, grid.height)
        columns = _side(self.left, self.width, picture.width, grid.width)
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

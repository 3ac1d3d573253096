"""Rows: how the stored pictures lie on the rows of a running batch.

Letters: b rows or pictures, n tokens of the running picture, m tokens of a stored one, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.features import AttentionFeatures
from ..core.grid import Grid, Window
from ..core.layers import LayerId
from .call import RowPlan


class Canvas(NamedTuple):
    """What a run paints on: the (h, w) of its latent, and of the picture's tokens in each layer."""

    size: Grid
    grids: Mapping[LayerId, Grid]


class Rows(NamedTuple):
    """How pictures lie on the rows of a running batch: chunk after chunk, in each its pictures, each in a window.

    A window shows a part of the canvas, where an area conditioning does or another node's tile, and that part of the
    content; a style is not cut, it serves every part. Of a film some frames may run, where the host goes over it in
    context windows.
    """

    total: int
    grid: Grid  # of the whole canvas
    windows: tuple[Window, ...]  # in tokens, one for each chunk
    running: Grid  # at which a window is shown: its own size, or what another node makes of it
    pictures: tuple[int, ...] = ()  # whose each row is, where a chunk is a row
    frames: tuple[int, ...] = ()  # of a film: which of its frames run; none at all: all, in order

    @classmethod
    def on(cls, canvas: Canvas, layer: LayerId, running: Grid, plan: RowPlan, count: int) -> Rows | None:
        """How the canvas lies on `count` running rows; None where its tokens and theirs are not the same places."""
        grid = canvas.grids.get(layer)
        if grid is None or plan.lost or len(plan.pictures) not in (0, count):
            return None
        if running.frames != (len(plan.frames) or grid.frames):
            return None
        given = plan.windows or (None,) * plan.chunks
        windows: list[Window] = []
        for window in given:
            shown = Window(0, 0, *grid.frame) if window is None else window.on_grid(canvas.size, grid)
            if shown is None:
                return None
            windows.append(shown)
        # another grid for a known part of the latent is another node's doing (Deep Shrink), and shows the same places
        latent = None if plan.latent is None else plan.latent.frame
        known = all(latent == (canvas.size.frame if window is None else window.size) for window in given)
        if not known and any(window.size != running.frame for window in windows):
            return None
        return cls(count, grid, tuple(windows), running, plan.pictures, plan.frames)

    @classmethod
    def anywhere(cls, running: Grid, count: int) -> Rows:
        """`count` rows of whom nothing depends on what part of the canvas they show, nor on whose they are."""
        return cls(count, running, (Window(0, 0, *running.frame),), running)

    @property
    def wraps(self) -> bool:
        """Whether a window goes over an edge to the opposite one."""
        (high, wide), windows = self.grid.frame, set(self.windows)
        return any(window.top + window.height > high or window.left + window.width > wide for window in windows)

    @property
    def whole(self) -> bool:
        """Whether every row shows the whole canvas as it is, all frames in order."""
        return self.grid == self.running and set(self.windows) == {Window(0, 0, *self.grid.frame)} and not self.frames

    @property
    def alone(self) -> Rows:
        """The same for features of the running frames alone."""
        return self._replace(grid=self.grid.with_frames(self.running.frames), frames=())

    def over_time(self, tokens: Tensor, picture: Grid) -> Tensor:
        """Tokens of a style's grid b (f m) .. -> b (t m) ..: a picture once for each running frame, a film those."""
        if picture.frames > 1:
            return picture.picked(tokens, self.frames)
        return torch.cat([tokens] * self.running.frames, dim=1)

    def delays(self, picture: Grid) -> tuple[int, ...]:
        """How much later than in a picture's or a film's own features each running frame stands, in frames.

        The model counts the running frames from 0, whichever of the film they are.
        """
        own = self.frames or tuple(range(self.running.frames))
        return tuple(now - (then if picture.frames > 1 else 0) for now, then in enumerate(own))

    def of_content(self, tokens: Tensor) -> Tensor:
        """1 or b pictures' tokens -> rows n c, cut to each chunk's window."""
        if len(set(self.windows)) == 1:
            return self.of_style(self._shown(tokens, self.windows[0]))
        if self.pictures:
            own = tokens.expand(max(self.pictures) + 1, *tokens.shape[1:]) if tokens.shape[0] == 1 else tokens
            placed = zip(self.pictures, self.windows, strict=True)
            return torch.cat([self._shown(own[number : number + 1], window) for number, window in placed])
        shape = (self.total // len(self.windows), -1, *tokens.shape[2:])
        return torch.cat([self._shown(tokens, window).expand(shape) for window in self.windows])

    def of_style(self, tokens: Tensor) -> Tensor:
        """1 or b pictures' tokens -> rows m c."""
        if tokens.shape[0] == 1:
            return tokens.expand(self.total, *tokens.shape[1:])
        if self.pictures:
            return tokens[list(self.pictures)]
        return tokens.repeat(len(self.windows), *(1 for _ in tokens.shape[1:]))

    def content_features(self, features: AttentionFeatures, like: Tensor) -> AttentionFeatures:
        """The content's features, 1 or b m c each -> rows n c, on the device and in the precision of `like`."""
        return features.map(lambda tokens: self.of_content(tokens.to(like)))

    def style_features(self, features: AttentionFeatures, like: Tensor) -> AttentionFeatures:
        """A style's features, 1 or b m c each -> rows m c, on the device and in the precision of `like`."""
        return features.map(lambda tokens: self.of_style(tokens.to(like)))

    def of_region(self, mask: Tensor) -> Tensor:
        """A mask on the content, b h w -> rows n, or 1 n where all rows have the same."""
        tokens = self.grid.covered(mask)
        if tokens.shape[0] == 1 and len(set(self.windows)) == 1:
            return self._shown(tokens, self.windows[0])
        return self.of_content(tokens)

    def of_mask(self, mask: Tensor, grid: Grid) -> Tensor:
        """A mask on a style, b h w -> rows m on the style's grid, or 1 m where all rows have the same."""
        tokens = grid.covered(mask)
        return tokens if tokens.shape[0] == 1 else self.of_style(tokens)

    def shifts(self, *, centred: bool) -> tuple[tuple[int, int], ...]:
        """By how many tokens (y, x) each chunk's window is moved, where the model takes it for a picture of its own.

        `centred`: positions count from a picture's middle.
        """
        sides = zip(self.grid.frame, self.running.frame, strict=True)
        high, wide = (whole // 2 - part // 2 if centred else 0 for whole, part in sides)
        return tuple((high - window.top, wide - window.left) for window in self.windows)

    def _shown(self, tokens: Tensor, window: Window) -> Tensor:
        """b m .. -> b n ..: what one chunk sees of the content."""
        running = self.grid.with_frames(self.running.frames)
        cropped = running.cropped(self.grid.picked(tokens, self.frames), window)
        return running.with_frame(window.size).resampled(cropped, self.running)


def positive_rows(region: Tensor | None, plan: RowPlan, like: Tensor) -> Tensor:
    """A region, 1 or b n, with nothing in the rows of negative prompts, for a running b n c: rows n."""
    positive = 1.0 - torch.tensor(plan.negative, dtype=torch.float32)
    rows = positive.repeat_interleave(like.shape[0] // plan.chunks).unsqueeze(1)
    return rows * (torch.ones(1, like.shape[1]) if region is None else region)

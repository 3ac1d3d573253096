"""What capture, fusion and replay see of a running model, whatever its kind and its host: its attention calls.

Letters as in core.attention: b rows of a batch, n query tokens, m key tokens, h heads, d head width, c = h d channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor

from ..core.attention import Kernel
from ..core.features import AttentionFeatures, Depth
from ..core.grid import Grid, Window
from ..core.layers import LayerId


class TokenLayout(NamedTuple):
    """Where the picture is among the tokens of a call."""

    grid: Grid  # (h, w) of the picture's tokens
    picture: slice = slice(None)  # the picture's tokens among all
    depth: Depth = ()  # of the picture on the axes of the positions


class RowPlan(NamedTuple):
    """What the rows of a batch are: chunk after chunk the rows of one cond, (chunks b) n c.

    `windows` says which part of the latent each chunk shows, None for all of it. Where another node has cut the latent
    into tiles or picked pictures of a batch, every row is a chunk of its own and `pictures` says whose it is.
    """

    chunks: int = 1
    negative: tuple[bool, ...] = ()  # which chunks are known to answer a negative prompt
    windows: tuple[Window | None, ...] = ()  # none at all: every chunk shows the whole latent
    latent: Grid | None = None  # the (h, w) of the latent that the model was called with
    pictures: tuple[int, ...] = ()  # which picture each row shows; none at all: every chunk shows all, in order
    frames: tuple[int, ...] = ()  # of a film: which of its frames run, by their numbers; none at all: all, in order
    lost: bool = False  # whether another node shows the model something whose place in the latent is unknown

    def together(self, rows: int) -> int:
        """How many of so many rows that follow each other are the pictures of one batch; 1 where that is unknown."""
        if self.lost:
            return 1
        if not self.pictures:
            return rows // self.chunks
        first, *others = self.pictures
        count = others.index(first) + 1 if first in others else rows
        return count if rows % count == 0 else 1


class Call(NamedTuple):
    """One attention call: `live` holds queries b n c, keys and values b m c, those of the picture's tokens alone.

    In self-attention m = n, one token for each cell of the grid.
    """

    layer: LayerId
    layout: TokenLayout
    rows: RowPlan
    live: AttentionFeatures
    kernel: Kernel
    kind: Literal["self", "cross"] = "self"
    # queries b m c of the tokens beside the picture, None where a mask shows these other keys; None: there are no such
    text: Callable[[], Tensor | None] | None = None

    def plain(self) -> Tensor:
        """The model's own answer: b n c."""
        return self.kernel.call(self.live.q, self.live.k, self.live.v, None)


class ResNetCall(NamedTuple):
    """What enters a ResNet, its inputs side by side, or what it adds to what goes around it: b n c."""

    layer: LayerId  # whose block begins with it
    grid: Grid
    rows: RowPlan
    x: Tensor


class Answer(NamedTuple):
    """What a handler answers for the tokens beside the picture as well."""

    picture: Tensor  # b n c
    text: Tensor  # b m c


# answers an attention call with b n c, or leaves it to whoever else is there with None
Handler = Callable[[Call], Tensor | Answer | None]
# sees what enters a ResNet, or what it adds, and may replace it: b n c
ResNetHandler = Callable[[ResNetCall], Tensor]


class Handlers(NamedTuple):
    """Who answers during one model call."""

    attention: Handler  # self-attention
    cross: Handler | None = None
    resnet: ResNetHandler | None = None  # the inputs of the one ResNet that a method copies
    missed: Callable[[LayerId], None] | None = None  # hears of layers whose tokens another node merged or tiled
    added: ResNetHandler | None = None  # what each ResNet adds that begins a decoder block

    def of(self, call: Call) -> Handler | None:
        """The handler for a call of this kind."""
        return self.attention if call.kind == "self" else self.cross

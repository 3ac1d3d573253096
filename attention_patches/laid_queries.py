"""A style's queries at the places of the running picture, for methods in which the running tokens answer by them.

Letters: b rows or pictures, n tokens of the running picture, m tokens of a style, c channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.features import AttentionFeatures, Depth
from ..core.grid import Grid
from .call import Call
from .placing import Placer
from .rows import Rows


def laid_queries(queries: Tensor, grid: Grid, depth: Depth, rows: Rows, call: Call, placer: Placer) -> Tensor:
    """Queries of a style, 1 or b m c on its grid, inverted at a depth: rows n c, stretched over the whole canvas.

    Where places are rotary they take those of the running tokens: between two grids they are turned back first.
    """
    held = AttentionFeatures(queries.to(call.live.q))
    if not placer.rotary:
        return rows.of_content(_stretched(held.q, grid, rows.grid))
    if rows.whole and grid == call.layout.grid:
        return rows.of_content(placer.content(held, call, depth).q)
    upright = placer.turn(call, grid).undone(placer.style(held, call, depth).q)
    return placer.turn(call).done(rows.of_content(_stretched(upright, grid, rows.grid)))


def _stretched(tokens: Tensor, grid: Grid, canvas: Grid) -> Tensor:
    """b m c on a grid -> b n c on the canvas, a picture once for each frame of a film."""
    found = grid.resampled(tokens, canvas)
    return torch.cat([found] * canvas.frames, dim=1) if grid.frames == 1 else found

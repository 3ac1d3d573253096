"""Tiles: where in the running latent the rows of a model call were cut out by another node.

Nodes that cut a latent into tiles or windows publish no places. A tile is a copy, however, and of a noisy latent no two
places are alike: it is found where all its values stand.

Letters: r rows of a call, b pictures, c channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..core.grid import Window

# places at which a tile's first pixel stands, above which a latent is too even to tell places by it
MAX_PLACES = 64


class Tile(NamedTuple):
    """What one row of a model call shows."""

    picture: int
    window: Window  # in latent pixels; it may go over an edge to the opposite one


def found_tiles(rows: Tensor, latent: Tensor) -> tuple[Tile, ...] | None:
    """Where each of the rows r c h w was cut out of the latent b c H W; None where one is at no place, or at several.

    A tile that several equal pictures have is taken in the order of the pictures.
    """
    rows, latent = rows.flatten(1, -3), latent.to(rows.device).flatten(1, -3)
    if rows.shape[1] != latent.shape[1] or any(a > b for a, b in zip(rows.shape[2:], latent.shape[2:], strict=True)):
        return None
    first = (latent == rows[:, None, :, :1, :1]).all(dim=2)  # r b H W
    places: list[list[Tile]] = [[] for _ in rows]
    for row, picture, top, left in first.nonzero().tolist():
        places[row].append(Tile(picture, Window(top, left, rows.shape[2], rows.shape[3])))
    tiles = [_found(rows[row], latent, row, near) for row, near in enumerate(places)]
    known = tuple(tile for tile in tiles if tile is not None)
    return known if len(known) == len(tiles) else None


def _found(tile: Tensor, latent: Tensor, row: int, places: list[Tile]) -> Tile | None:
    """The one window at which a tile c h w stands in a latent b c H W."""
    if len(places) > MAX_PLACES:
        return None
    same = [place for place in places if torch.equal(_cut(latent[place.picture], place.window), tile)]
    if len({place.window for place in same}) != 1:
        return None
    return next((place for place in same if place.picture == row % len(latent)), same[0])


def _cut(picture: Tensor, window: Window) -> Tensor:
    """A window of a picture c H W -> c h w."""
    for axis, start in ((1, window.top), (2, window.left)):
        picture = picture.roll(-start, dims=axis) if start else picture
    return picture[:, : window.height, : window.width]

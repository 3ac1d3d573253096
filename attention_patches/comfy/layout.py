"""Layout: what the rows of a model call are where another node has cut the latent or picked pictures of a batch.

As the host itself lays them out, rows are chunk after chunk the whole batch of pictures, each chunk the whole latent or
the area of its cond. Function wrappers (tiles) and context windows call the model with other rows; what they publish is
read, and the rest is found in the running latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...core.grid import Grid, Window
from ..architectures.base import rows_of
from ..call import RowPlan
from ..entry import Entry
from ..model_call import ModelCall
from ..tiles import found_tiles

LOST = RowPlan(lost=True)


def other_plan(call: ModelCall) -> RowPlan | None:
    """What the rows of a call are, where they are not as the host lays them out; a lost plan where nobody knows."""
    entry, options = Entry.of(call.options), call.options
    latent = entry.latent
    if latent is None or entry.plan is not None:
        return None
    chunks = len(options.get("cond_or_uncond", (0,)))
    windows = tuple(entry.areas.get(uuid) for uuid in options.get("uuids", ())) if entry.areas else (None,) * chunks
    fits = _size_of(call.x) == _only_size(windows, latent)
    frames = _frames(options, call.x, latent)
    if frames != tuple(range(_frames_of(latent))):
        whole = fits and frames and call.x.shape[0] == chunks * latent.shape[0]
        return rows_of(options, None)._replace(frames=frames) if whole else LOST
    if fits and call.x.shape[0] == chunks * latent.shape[0]:
        return None
    picked = _picked(options, latent)
    if fits and picked is not None and call.x.shape[0] == chunks * len(picked):
        each = len(picked)
        spread = tuple(window for window in windows for _ in range(each))
        return RowPlan(chunks * each, _negative(entry, options, call, each), spread, pictures=picked * chunks)
    return _found(call, entry, latent, chunks)


def _found(call: ModelCall, entry: Entry, latent: Tensor, chunks: int) -> RowPlan:
    """What rows r c h w show of the latent b c h w, by looking for them there."""
    count = call.x.shape[0]
    tiles = found_tiles(call.x, latent)
    windows: tuple[Window | None, ...] = tuple(tile.window for tile in tiles or ())
    pictures = tuple(tile.picture for tile in tiles or ())
    if tiles is None:
        if latent.shape[0] > 1 or _size_of(call.x) != _size_of(latent):
            return LOST
        # another node has changed what the whole of the one picture looks like
        windows, pictures = (None,) * count, (0,) * count
    if entry.negative and count % (chunks * latent.shape[0]):
        return LOST  # which rows answer the negative prompt cannot be told
    negative = _negative(entry, call.options, call, latent.shape[0]) if entry.negative else ()
    return RowPlan(count, negative, windows, pictures=pictures)


def _negative(entry: Entry, options: Mapping[str, Any], call: ModelCall, pictures: int) -> tuple[bool, ...]:
    """Which rows of a call on r c h w are known to answer a negative prompt: tile after tile chunks of pictures."""
    if not entry.negative:
        return ()
    block = [index in entry.negative for index in options.get("cond_or_uncond", (0,)) for _ in range(pictures)]
    return tuple(block * (call.x.shape[0] // len(block)))


def _frames_of(x: Tensor) -> int:
    """How many frames b c t h w has; 1 of b c h w."""
    return Grid(x.shape[2:]).frames


def _frames(options: Mapping[str, Any], x: Tensor, latent: Tensor) -> tuple[int, ...]:
    """The frames of a film b c t h w that a call on x shows, by the host's context window if any; none: unknown."""
    whole = tuple(range(_frames_of(latent)))
    picked = _in_window(options, 2)
    if picked is not None and len(picked) == _frames_of(x) and set(picked) <= set(whole):
        return picked
    return whole if _frames_of(x) == len(whole) else ()


def _in_window(options: Mapping[str, Any], axis: int) -> tuple[int, ...] | None:
    """What the host's context window holds along an axis, the frame that it puts in front included."""
    window = options.get("context_window")
    if window is None or getattr(window, "dim", None) != axis:
        return None
    anchor = getattr(window, "causal_anchor_index", None)
    return (*([] if anchor is None or anchor < 0 else [anchor]), *window.index_list)


def _picked(options: Mapping[str, Any], latent: Tensor) -> tuple[int, ...] | None:
    """The pictures of a batch b c h w that the host's context window holds, where it cuts batches."""
    picked = _in_window(options, 0)
    return picked if picked is not None and all(0 <= number < latent.shape[0] for number in picked) else None


def _size_of(x: Tensor) -> Grid:
    """The (h, w) of b c h w."""
    return Grid(x.shape[2:]).frame


def _only_size(windows: Sequence[Window | None], latent: Tensor) -> Grid | None:
    """The one (h, w) of all chunks of a latent b c h w."""
    sizes = {_size_of(latent) if window is None else window.size for window in windows}
    return sizes.pop() if len(sizes) == 1 else None

"""Conds: which of a guider's prompts are negative, and what part of the latent each cond is limited to."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ...core.grid import Window
from ..entry import Entry, with_entry


def with_prediction_named(model_options: dict[str, Any], x: Tensor, guider: Any) -> dict[str, Any]:
    """The options of one prediction on the whole running latent x, b c h w.

    Of a guider that is given they say whether each of its prompts is negative, and its conds' uuids.
    """
    told: dict[str, Any] = {"latent": x}
    if guider is not None:
        told["prompts"] = tuple(("negative" in name, _uuids(conds)) for name, conds in guider.conds.items())
    return {**model_options, "transformer_options": with_entry(model_options["transformer_options"], **told)}


def _uuids(conds: Sequence[Any] | None) -> frozenset[Any]:
    return frozenset(cond["uuid"] for cond in conds or ())


def with_conds_named(model_options: dict[str, Any], conds: Sequence[Any], x: Tensor) -> dict[str, Any]:
    """The options of one batch: which lists of conds are negative, and each cond's window of the latent x, b c h w."""
    size, options = tuple(x.shape[2:]), model_options.get("transformer_options", {})
    areas = {cond["uuid"]: _window(cond["area"], size) for listed in conds for cond in listed or () if "area" in cond}
    prompts, whole = Entry.of(options).prompts, Entry.of(options).latent
    if whole is not None and x.shape[2:] != whole.shape[2:]:
        areas = {}  # they count from a context window's edge, and not from the picture's
    negative = frozenset(i for i, listed in enumerate(conds) if _is_negative(_uuids(listed), prompts))
    named = with_entry(options, negative=negative, areas=MappingProxyType(areas))
    return {**model_options, "transformer_options": named}


def _is_negative(uuids: frozenset[Any], prompts: Sequence[tuple[bool, frozenset[Any]]]) -> bool:
    """Whether a list of conds is a negative prompt, or a part of one.

    For an area the host copies a cond to the other prompts, its uuid included: what a negative prompt shares with
    others tells nothing.
    """
    same = {negative for negative, own in prompts if own == uuids}
    if len(same) == 1:
        return same.pop()
    mine, others = (frozenset().union(*(own for flag, own in prompts if flag is kind)) for kind in (True, False))
    return bool(uuids & (mine - others))


def _window(area: Sequence[int], size: Sequence[int]) -> Window:
    """The host's area, (h, w, y, x) in latent pixels, as it cuts it out of a latent of (h, w)."""
    half = len(area) // 2
    (height, width), (top, left) = area[:2], area[half : half + 2]
    return Window(top, left, min(height, size[0] - top), min(width, size[1] - left))

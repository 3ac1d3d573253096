"""Correspondences: which place of each style every place of the portrait is most like, found once in a run and kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from ..banks.bank import FeatureBank, StyleEntry
from ..banks.image_features import FeatureHeader, ImageFeatures
from ..core.correspondence import MATCHED_AT, Match, Matches, match
from ..core.grid import Grid
from ..core.layers import LayerId
from .fusion_patch import FusionPatch
from .placing import Placer
from .replay import Held, Rerun
from .views import held_view

# (picture, layer, noise level) -> its keys, b m c
ReadKeys = Callable[[ImageFeatures, LayerId, float], Tensor]


class Correspondences:
    """What one run has found, on each device that it runs on."""

    def __init__(self) -> None:
        self._found: dict[torch.device, tuple[Matches, ...]] = {}

    def of(self, patch: FusionPatch, bank: FeatureBank, rerun: Rerun, device: torch.device) -> Sequence[Matches]:
        """Those of each style of the bank, in their order; none where the method matches nothing.

        Replayed pictures run through the model once more, beside the first call that asks.
        """
        if not patch.settings.matches:
            return ()

        def read(features: ImageFeatures, layer: LayerId, sigma: float) -> Tensor:
            """b m c."""
            return held_view(features, sigma, (layer,), "k", rerun, Held()).attention(layer, "k").k.to(device)

        if device not in self._found:
            self._found[device] = find_matches(bank, patch.layers, patch.placer, read)
        return self._found[device]


def stored_keys(features: ImageFeatures, layer: LayerId, sigma: float) -> Tensor:
    """The keys of a picture that needs no running model: b m c."""
    return features.at(layer, features.nearest(sigma).step, "k").k


def find_matches(bank: FeatureBank, layers: Collection[LayerId], placer: Placer, read: ReadKeys) -> tuple[Matches, ...]:
    """The matches of the content with each style of the bank, for each grid that the layers have in the content.

    One layer's keys are compared, brought to each of the grids.
    """
    content = bank.pictures[0].header
    layer, level = compared_layer(content, layers), compared_level(content)
    keys = [_upright(placer, features.header, layer, read(features, layer, level)) for features in bank.pictures]
    own = [features.header.grids[layer] for features in bank.pictures]

    def matched(style: StyleEntry, number: int, grid: Grid) -> Match:
        mask = None if style.style_mask is None else grid.covered(style.style_mask)
        return match(own[0].resampled(keys[0], grid), own[number].resampled(keys[number], grid), mask)

    grids = dict.fromkeys(grid for each, grid in content.grids.items() if each in layers)
    styles = zip(bank.styles, bank.numbers, strict=True)
    return tuple({grid: matched(style, number, grid) for grid in grids} for style, number in styles)


def compared_layer(content: FeatureHeader, layers: Collection[LayerId]) -> LayerId:
    """Of some layers the one whose keys tell best what a place shows.

    In a UNet that is the decoder's first with the second finest of the grids: later ones tell more of a place's colour.
    Where all have one grid, it is the one in the middle.
    """
    chosen = [layer for layer in content.layers if layer in layers]
    sizes = sorted({content.grids[layer].tokens for layer in chosen})
    if len(sizes) == 1:
        return chosen[len(chosen) // 2]
    coarser = [layer for layer in chosen if content.grids[layer].tokens == sizes[-2]]
    return next((layer for layer in coarser if layer.block != "input"), coarser[-1])


def compared_level(content: FeatureHeader) -> float:
    """The noise level at which keys are compared, a sigma of the content's inversion."""
    return content.sigmas[round(MATCHED_AT * (len(content.sigmas) - 1))]


def _upright(placer: Placer, header: FeatureHeader, layer: LayerId, keys: Tensor) -> Tensor:
    """A layer's keys in single precision and with no turn of their places: b m c."""
    if not placer.rotary:
        return keys.float()
    return placer.stored_turn(header.heads[layer], header.depth, header.grids[layer]).undone(keys.float())

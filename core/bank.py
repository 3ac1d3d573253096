"""The bank that carries a content's and any number of styles' features through a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .errors import MagicStyleError
from .features import ImageFeatures
from .layers import LayerId, legal_range
from .ranges import check_weight


class StyleEntry(NamedTuple):
    """One style in a bank: its features, its weight, and where it acts and may be drawn from."""

    features: ImageFeatures
    weight: float = 1.0
    region: Tensor | None = None  # b h w in [0, 1], any resolution
    style_mask: Tensor | None = None  # b h w in [0, 1], any resolution


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """The content's features and those of any number of styles: what the patcher fuses."""

    content: ImageFeatures
    styles: tuple[StyleEntry, ...]

    def __post_init__(self) -> None:
        for number, style in enumerate(self.styles, start=1):
            self._check_style(number, style)

    def _check_style(self, number: int, style: StyleEntry) -> None:
        check_weight(f"the weight of style {number}", style.weight)
        content, header = self.content.header, style.features.header
        if header.model.digest != content.model.digest:
            raise MagicStyleError(
                f"Style {number} was inverted with another model ({header.model.name}) than the content "
                f"({content.model.name}): connect the same MODEL to both inversions."
            )
        if header.batch not in (1, content.batch):
            raise MagicStyleError(
                f"Style {number} holds {header.batch} pictures and the content {content.batch}: "
                "give one style picture, or as many as content pictures."
            )
        if not set(header.layers) & set(content.layers):
            raise MagicStyleError(
                f"Style {number} keeps layers {legal_range(header.layers)} and the content "
                f"{legal_range(content.layers)}: give both inversions the same layers."
            )

    def __iter__(self) -> Iterator[ImageFeatures]:
        yield self.content
        yield from (style.features for style in self.styles)

    def __copy__(self) -> FeatureBank:
        return self

    def __deepcopy__(self, memo: object) -> FeatureBank:
        return self

    @property
    def layers(self) -> tuple[LayerId, ...]:
        """The layers that every picture keeps, in the model's order."""
        shared = set(self.content.header.layers).intersection(*(style.features.header.layers for style in self.styles))
        return tuple(layer for layer in self.content.header.layers if layer in shared)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, a picture that serves twice counted once."""
        return sum(features.nbytes for features in {id(features): features for features in self}.values())

    def with_features(self, replacements: Mapping[int, ImageFeatures]) -> FeatureBank:
        """A new bank in which some pictures' features, by their place in iteration, are replaced."""
        content, *styles = [replacements.get(place, features) for place, features in enumerate(self)]
        entries = zip(self.styles, styles, strict=True)
        return FeatureBank(content, tuple(entry._replace(features=features) for entry, features in entries))

    def with_style(self, style: StyleEntry) -> FeatureBank:
        """A new bank with one style more."""
        return FeatureBank(self.content, (*self.styles, style))

    def get_ram_usage(self) -> int:
        """The host's cache accounting (ComfyUI 0.3.68 to 0.18)."""
        return sum(features.get_ram_usage() for features in {id(features): features for features in self}.values())

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """The host's cache accounting (newer ComfyUI)."""
        return [tensor for features in self for tensor in features._comfy_cache_tensors()]

"""The bank that carries a content's and any number of styles' features through a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from ..core.errors import MagicStyleError
from ..core.features import ROLES
from ..core.fusion import FUSIONS, FusionSettings
from ..core.layers import LayerId, legal_range
from ..core.ranges import check_weight
from .image_features import ImageFeatures


class StyleEntry(NamedTuple):
    """One style in a bank: its features, its weight, and where it acts and may be drawn from."""

    features: ImageFeatures
    weight: float = 1.0
    region: Tensor | None = None  # b h w in [0, 1], any resolution
    style_mask: Tensor | None = None  # b h w in [0, 1], any resolution


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """The content's features and those of any number of styles: what the patcher fuses.

    Without a content there is no portrait to paint: the prompt says what is to be seen, and the styles how. A picture
    may serve several times. `pictures` holds each once, the content first, and `numbers` says which of them each style
    draws from: copies of one style are known by their number.
    """

    content: ImageFeatures | None
    styles: tuple[StyleEntry, ...]
    pictures: tuple[ImageFeatures, ...] = field(init=False, repr=False)
    numbers: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.content is None and not self.styles:
            raise MagicStyleError(
                "The bank has neither a content nor a style: connect the features of a style picture, those of a "
                "portrait, or both."
            )
        for number, style in enumerate(self.styles, start=1):
            self._check_style(number, style)
        pictures = [] if self.content is None else [self.content]
        numbers = [_number(style.features, pictures) for style in self.styles]
        object.__setattr__(self, "pictures", tuple(pictures))
        object.__setattr__(self, "numbers", tuple(numbers))

    def _check_style(self, number: int, style: StyleEntry) -> None:
        check_weight(f"the weight of style {number}", style.weight)
        first, header = (features.header for features in (self.content or self.styles[0].features, style.features))
        other = "style 1" if self.content is None else "the content"
        if header.model.digest != first.model.digest:
            raise MagicStyleError(
                f"Style {number} was inverted with another model ({header.model.name}) than {other} "
                f"({first.model.name}): connect the same MODEL to both inversions."
            )
        self._check_batch(number, header.batch)
        frames, whole = header.size.frames, header.size.frames if self.content is None else first.size.frames
        if frames not in (1, whole):
            raise MagicStyleError(
                f"Style {number} has {frames} frames and the content {whole}: give one picture as the style, or a "
                "film of as many frames."
            )
        if not set(header.layers) & set(first.layers):
            raise MagicStyleError(
                f"Style {number} keeps layers {legal_range(header.layers)} and {other} "
                f"{legal_range(first.layers)}: give both inversions the same layers."
            )

    def _check_batch(self, number: int, batch: int) -> None:
        """One picture serves all rows; several are a row each, and then all that are several are as many."""
        earlier = {} if self.content is None else {"the content": self.content.header.batch}
        earlier |= {f"style {i}": style.features.header.batch for i, style in enumerate(self.styles[: number - 1], 1)}
        many = "the other styles hold" if self.content is None else "there are content pictures"
        for name, other in earlier.items():
            if 1 not in (batch, other) and batch != other:
                raise MagicStyleError(
                    f"Style {number} holds {batch} pictures and {name} {other}: give one style picture, or as many as "
                    f"{many}."
                )

    def __iter__(self) -> Iterator[ImageFeatures]:
        if self.content is not None:
            yield self.content
        yield from (style.features for style in self.styles)

    def __copy__(self) -> FeatureBank:
        return self

    def __deepcopy__(self, memo: object) -> FeatureBank:
        return self

    @property
    def painted(self) -> int | None:
        """How many pictures are painted; None without a content, where the running latent says it."""
        return None if self.content is None else self.content.header.batch

    @property
    def frames(self) -> int:
        """How many frames the content has; 1 without one."""
        return 1 if self.content is None else self.content.header.size.frames

    @property
    def layers(self) -> tuple[LayerId, ...]:
        """The layers that every picture keeps, in the model's order."""
        first, *others = (picture.header.layers for picture in self.pictures)
        return tuple(layer for layer in first if all(layer in layers for layers in others))

    @property
    def nbytes(self) -> int:
        """Bytes of memory, a picture that serves twice counted once."""
        return sum(picture.nbytes for picture in self.pictures)

    @property
    def resident(self) -> list[Tensor]:
        """The tensors of any shape that take main memory, which a cache could win back."""
        return [tensor for picture in self.pictures for tensor in picture.resident]

    def name(self, number: int) -> str:
        """What users call a picture: the content, or the first style that draws from it."""
        if number == 0 and self.content is not None:
            return "content"
        return f"style {self.numbers.index(number) + 1}"

    def with_pictures(self, pictures: Sequence[ImageFeatures]) -> FeatureBank:
        """The same bank of other pictures, one for each, in their order."""
        entries = zip(self.styles, self.numbers, strict=True)
        content = None if self.content is None else pictures[0]
        return FeatureBank(content, tuple(entry._replace(features=pictures[number]) for entry, number in entries))

    def with_style(self, style: StyleEntry) -> FeatureBank:
        """A new bank with one style more."""
        return FeatureBank(self.content, (*self.styles, style))


def _number(features: ImageFeatures, pictures: list[ImageFeatures]) -> int:
    """The place of a picture among those that are known, to which it is added where it is new."""
    for number, known in enumerate(pictures):
        if known is features:
            return number
    pictures.append(features)
    return len(pictures) - 1


def check_method(settings: FusionSettings, bank: FeatureBank) -> None:
    """Refuse a method that draws from what the bank does not have."""
    method = FUSIONS[settings.method]
    if method.style and not bank.styles:
        raise MagicStyleError(
            f"method {settings.method} draws from a style, and the bank has none: connect one to the Feature Bank, "
            "or choose masactrl or diffstyler."
        )
    if method.needs_portrait and bank.content is None:
        need = "matches the style with the portrait" if method.matches else "draws from the portrait alone"
        raise MagicStyleError(
            f"method {settings.method} {need}, and the bank has none: connect content to the "
            "Feature Bank, or choose a method that draws from a style, such as zstar or style_aligned."
        )


def content_roles(settings: FusionSettings, bank: FeatureBank, *, keeps: bool = False) -> str:
    """The stored roles of the content that a run reads: its keys and values fill what no style covers.

    Where a mask keeps the content, the methods that draw from it attend with its queries. Without a content the running
    picture takes its place, of which nothing is stored.
    """
    if bank.content is None:
        return ""
    method = FUSIONS[settings.method]
    least = min(settings.style_weights)
    everywhere = [style for style in bank.styles if style.region is None and style.weight * least > 0.0]
    needed = {*method.content, *(() if everywhere else method.fills), *(method.keeps if keeps else ())}
    return "".join(role for role in ROLES if role in needed)


def style_roles(settings: FusionSettings) -> str:
    """The stored roles of each style that a run reads."""
    return settings.style_roles

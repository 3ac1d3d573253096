"""Which inversion node features come from: whether content and style were exchanged on the way to a bank."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch

from ..banks.bank import FeatureBank
from ..banks.image_features import ImageFeatures

CONTENT, STYLE = "content", "style"
_ROLES: WeakKeyDictionary[ImageFeatures, str] = WeakKeyDictionary()


def remember(features: ImageFeatures, role: str) -> None:
    """Know features as those of a content or a style; those of files are of neither."""
    _ROLES[features] = role


def role_warnings(bank: FeatureBank) -> Iterator[str]:
    """One sentence where content and style stand in each other's place, or are one picture."""
    if bank.content is None:
        return
    content = _ROLES.get(bank.content)
    roles = [_ROLES.get(style.features) for style in bank.styles]
    if content == STYLE and CONTENT in roles:
        yield "content and style are exchanged: connect DDIM Inversion (Content) to content and (Style) to style."
        return
    if content == STYLE:
        yield "content holds features of DDIM Inversion (Style): connect those of DDIM Inversion (Content)."
    for number, style in enumerate(bank.styles, 1):
        if same_picture(bank.content, style.features):
            yield f"style {number} is the portrait itself, which then changes little: connect DDIM Inversion (Style)."
        elif roles[number - 1] == CONTENT:
            yield f"style {number} holds features of DDIM Inversion (Content): connect those of DDIM Inversion (Style)."


def same_picture(one: ImageFeatures, other: ImageFeatures) -> bool:
    """Whether two inversions ended in the same noise."""
    if one is other:
        return True
    if one.noise_pair is None or other.noise_pair is None or one.noise_pair.noise.shape != other.noise_pair.noise.shape:
        return False
    return torch.equal(one.noise_pair.noise, other.noise_pair.noise.to(one.noise_pair.noise))

"""What the host's cache is told of features and banks: the main memory that it would win back by forgetting them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..banks.bank import FeatureBank
from ..banks.image_features import ImageFeatures


def tensors(value: ImageFeatures | FeatureBank) -> list[Tensor]:
    """What newer hosts read."""
    return value.resident


def ram_usage(value: ImageFeatures | FeatureBank) -> int:
    """What ComfyUI 0.3.68 to 0.18 reads, in bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in value.resident)


def answer_the_host() -> None:
    """Give the pack's values the methods that the host's caches call."""
    kinds: tuple[Any, ...] = (ImageFeatures, FeatureBank)
    for kind in kinds:
        kind._comfy_cache_tensors = tensors
        kind.get_ram_usage = ram_usage

"""Numbers that users give, and the ranges in which they mean something."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import MagicStyleError

MAX_WEIGHT = 1e6  # the product of two is finite in single precision
MAX_TEMPERATURE = 100.0  # beyond it logits overflow in half precision


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside of low..high, NaN with it."""
    if not low <= value <= high:
        raise MagicStyleError(f"{name} is {value}: choose a value from {low:g} to {high:g}.")


def check_weight(name: str, weight: float) -> None:
    """Refuse what is no weight of a softmax's source."""
    check_range(name, weight, 0.0, MAX_WEIGHT)


def check_temperature(temperature: float) -> None:
    """Refuse what no logits can be multiplied with."""
    if not 0.0 < temperature <= MAX_TEMPERATURE:
        raise MagicStyleError(f"temperature is {temperature}: choose a value above 0, up to {MAX_TEMPERATURE:g}.")


def check_finite(values: Tensor, what: str, remedy: str) -> None:
    """Refuse a tensor, of any shape, that no longer says anything: NaN spreads to all that is made of it."""
    if not bool(torch.isfinite(values).all()):
        raise MagicStyleError(f"{what} holds NaN or infinite values: {remedy}.")

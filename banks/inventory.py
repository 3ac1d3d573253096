"""What a file says of its tensors before any is read: their types and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

WIDE = ("F32", "F16", "BF16")  # for what must stay exact
NARROW = (*WIDE, "F8_E4M3")
MAX_WIDTH = 65_536


class BadHeaderError(ValueError):
    """What of a bank file cannot be, in a few words."""


class TensorKind(NamedTuple):
    """A tensor's type in safetensors' words, and its shape."""

    dtype: str
    shape: tuple[int, ...]


Inventory = Mapping[str, TensorKind]


def require(condition: bool, what: str) -> None:
    """Refuse a file unless the condition holds."""
    if not condition:
        raise BadHeaderError(what)


def require_kind(own: Inventory, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Refuse a tensor that is of none of these types or not of this shape, or is not there."""
    require(name in own, f"no {name}")
    require(own[name].dtype in dtypes, f"type of {name}")
    require(own[name].shape == shape, f"shape of {name}")

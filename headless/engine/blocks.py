"""The shape of a block of pictures: how many contents are painted with how many styles at a time."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from ...core.errors import MagicStyleError

HELD = 4  # styles whose features a run holds from one portrait to the next
MAX_BLOCK_SIDE = 1000


class BlockShape(NamedTuple):
    """Contents times styles of a block."""

    contents: int = 16
    styles: int = 50

    def __str__(self) -> str:
        return f"{self.contents}x{self.styles}"


def parse_shape(text: str) -> BlockShape:
    """'16x50' -> 16 contents, 50 styles."""
    found = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text.strip().lower())
    if found is None or not all(1 <= int(side) <= MAX_BLOCK_SIDE for side in found.groups()):
        raise MagicStyleError(
            f"--block is '{text[:40]}': write portraits x styles, such as 16x50, each from 1 to {MAX_BLOCK_SIDE}."
        )
    return BlockShape(*map(int, found.groups()))


def rows_at_once(device: torch.device) -> int:
    """The rows of a model call that a device computes best: a processor gains nothing from more."""
    return 4 if device.type == "cpu" else 16

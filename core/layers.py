"""The names of self-attention layers, and the small language in which users choose them.

output.3-11              decoder blocks 3 to 11
output.6-11, middle      several parts, separated by commas
output.3.1               transformer block 1 inside output block 3 (SDXL has up to ten in one block)
double.0-18, single.0-37 blocks of a transformer; the names are those of the model's own stacks
all                      every self-attention layer of the model
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from .errors import MagicStyleError

_PART = re.compile(r"(?P<block>[a-z_]+)(?:\.(?P<first>\d+)(?:-(?P<last>\d+))?(?:\.(?P<index>\d+))?)?")


class LayerId(NamedTuple):
    """One self-attention layer: `output.5.0` is transformer block 0 of a UNet's output block 5.

    Which blocks there are, and in which order, is the architecture's to say.
    """

    block: str
    number: int
    index: int  # type: ignore[assignment]  # in place of tuple.index, which nobody calls

    def __str__(self) -> str:
        return f"{self.block}.{self.number}.{self.index}"

    @classmethod
    def parse(cls, name: str) -> LayerId:
        """The inverse of `str`."""
        block, number, index = name.split(".")
        return cls(block, int(number), int(index))


def misnamed(text: str, blocks: Collection[str]) -> str | None:
    """The first part of a layer text that names no layer of a model with such blocks; all of it if it is empty."""
    parts = [part.strip() for part in text.lower().split(",") if part.strip()]
    return next((part for part in parts if not _names_layers(part, blocks)), None if parts else text)


def _names_layers(part: str, blocks: Collection[str]) -> bool:
    match = _PART.fullmatch(part)
    if match is None or match["block"] not in blocks:
        return part == "all"
    return match["last"] is None or int(match["first"]) <= int(match["last"])


def select_layers(text: str, available: Iterable[LayerId]) -> tuple[LayerId, ...]:
    """The layers of `available` that the layer text names, in the order of `available`.

    A range may reach past the model (`output.3-11` is legal on SDXL, which ends at output.8); a part that selects
    nothing at all is an error, and the error names the part and the model's legal range.
    """
    layers = tuple(available)
    parts = [part.strip() for part in text.lower().split(",") if part.strip()]
    if not parts:
        raise MagicStyleError(
            f"layers is empty: name some, for example {_example(layers)[0]}; this model has {legal_range(layers)}."
        )
    chosen: set[LayerId] = set()
    for part in parts:
        chosen.update(_select_part(part, layers))
    return tuple(layer for layer in layers if layer in chosen)


def _select_part(part: str, layers: tuple[LayerId, ...]) -> list[LayerId]:
    if part == "all":
        return list(layers)
    match = _PART.fullmatch(part)
    if match is None or match["block"] not in _blocks(layers):
        raise MagicStyleError(
            f"layers: '{part}' is not a layer; write a block and its numbers, "
            f"such as {', '.join(_example(layers))} or all; this model has {legal_range(layers)}."
        )
    first = int(match["first"]) if match["first"] else 0
    last = int(match["last"]) if match["last"] else (first if match["first"] else 10**6)
    found = [
        layer
        for layer in layers
        if layer.block == match["block"]
        and first <= layer.number <= last
        and (match["index"] is None or layer.index == int(match["index"]))
    ]
    if not found:
        raise MagicStyleError(
            f"layers: '{part}' selects no self-attention layer of this model; it has {legal_range(layers)}."
        )
    return found


def legal_range(layers: Iterable[LayerId]) -> str:
    """The layers as the language would write them, for messages: `input.1-2, input.4-5, middle.0, output.3-11`."""
    layers = tuple(layers)
    parts = []
    for block in _blocks(layers):
        numbers = sorted({layer.number for layer in layers if layer.block == block})
        parts += [f"{block}.{a}" if a == b else f"{block}.{a}-{b}" for a, b in _runs(numbers)]
    return ", ".join(parts)


def _blocks(layers: Iterable[LayerId]) -> tuple[str, ...]:
    """The names of the blocks, in the model's order."""
    return tuple(dict.fromkeys(layer.block for layer in layers))


def _example(layers: tuple[LayerId, ...]) -> list[str]:
    """Parts that select something of these layers."""
    usual = [LayerId("output", 6, 0), LayerId("output", 11, 0), LayerId("middle", 0, 0)]
    return ["output.6-11", "middle"] if set(usual) <= set(layers) else legal_range(layers).split(", ")[-1:]


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs

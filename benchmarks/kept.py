"""Painted pictures kept in files, a few pairs at a time, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from magicstyle.banks.atomic import write_whole
from safetensors.torch import load_file, save
from torch import Tensor

Way = TypeVar("Way")
KEY = "pictures"


def paint_kept(
    ways: Sequence[Way],
    chunks: Sequence[slice],
    place: Callable[[Way, slice], Path],
    painter: Callable[[slice], Callable[[Way], Tensor]],
    until: float,
) -> dict[Way, Tensor]:
    """The pictures b 3 h w in 0..1 of every way that is painted whole by `until`, a `time.monotonic`.

    `place` names the file of some pairs' pictures; `painter` prepares some of the pairs for all ways. What is painted
    is rounded to 8 bits, so that a rerun finds what the first run measured.
    """
    for chunk in chunks:
        missing = [way for way in ways if not place(way, chunk).exists()]
        if missing and time.monotonic() < until:
            paint = painter(chunk)
            for way in missing:
                if time.monotonic() < until:
                    _keep(place(way, chunk), paint(way))
    files = {way: [place(way, chunk) for chunk in chunks] for way in ways}
    return {way: _joined(paths) for way, paths in files.items() if all(path.exists() for path in paths)}


def kept(file: Path, paint: Callable[[], Tensor]) -> Tensor:
    """The pictures b 3 h w in 0..1 of a file, painted if it is missing; rounded to 8 bits either way."""
    if not file.exists():
        _keep(file, paint())
    return _joined([file])


def _keep(path: Path, pictures: Tensor) -> None:
    content = save({KEY: (pictures.clamp(0, 1) * 255).round().to(torch.uint8).contiguous()})
    write_whole(path, lambda file: file.write(content))


def _joined(paths: Sequence[Path]) -> Tensor:
    return torch.cat([load_file(path)[KEY] for path in paths]).float() / 255


def chunks_of(count: int, size: int) -> list[slice]:
    """`count` pairs, `size` at a time."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]

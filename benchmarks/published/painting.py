"""All pairs of a method as files, in blocks of styles; what lies there already and was made alike is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.headless.engine.stylize import InvertedPicture
from magicstyle.headless.pictures.png import inspect, write_png
from magicstyle.headless.pictures.reading import read_picture, to_tensor
from tqdm import tqdm

from .inputs import Checkpoint, Data, pixel_hash
from .walks import SEED, Walk

# a method as its authors set it; what is not listed runs with this pack's defaults
SETTINGS = {
    "styleid": FusionSettings("styleid", query_preservation=0.75, temperature=1.5),
    "seac": FusionSettings("seac", query_preservation=0.0),
}


class Pair(NamedTuple):
    """A content, a style, and the file of their result."""

    content: Path
    style: Path
    result: Path


@dataclass(frozen=True)
class Order:
    """What is the same for all pairs of all methods."""

    data: Data
    checkpoint: Checkpoint
    protocol: str
    steps: int
    size: int
    out: Path
    block: int = 8  # styles in memory at a time

    @property
    def folder(self) -> Path:
        """Where a protocol's files lie."""
        return self.out / self.protocol

    def pairs(self, method: str) -> list[Pair]:
        """All pairs, content by content, under the names of StyleID's script."""
        return [
            Pair(content, style, self.folder / method / f"{content.stem}_stylized_{style.stem}.png")
            for content in self.data.contents
            for style in self.data.styles
        ]

    def record(self, method: str, pair: Pair) -> str:
        """How a result is made: the same text means the same picture."""
        facts = {
            "protocol": self.protocol,
            "steps": self.steps,
            "size": self.size,
            "seed": SEED,
            "checkpoint": self.checkpoint.sha256,
            "content": pixel_hash((pair.content,)),
            "style": pixel_hash((pair.style,)),
            **settings_of(method).knobs,
        }
        return json.dumps(facts, sort_keys=True)

    def waiting(self, method: str) -> list[Pair]:
        """The pairs that are not painted yet."""
        return [pair for pair in self.pairs(method) if self._record_of(pair) != self.record(method, pair)]

    def _record_of(self, pair: Pair) -> str | None:
        if not pair.result.exists():
            return None
        found = inspect(pair.result)
        if found.record is None and not found.blank:
            raise MagicStyleError(f"{pair.result} is not a result of this program: choose another folder with --out.")
        return found.record if found.whole else None


def settings_of(method: str) -> FusionSettings:
    """A method's settings."""
    return SETTINGS.get(method) or replace(FusionSettings(), method=method)


def paint_all(order: Order, method: str, load: Callable[[], Walk], *, quiet: bool = False) -> int:
    """Paint what is not painted yet; the model is loaded only if it is needed. Returns how many were painted."""
    waiting = order.waiting(method)
    total = len(order.pairs(method))
    if not waiting:
        return 0
    walk = load()
    styles = list(dict.fromkeys(pair.style for pair in waiting))
    with tqdm(total=total, initial=total - len(waiting), desc=method, unit="picture", disable=quiet or None) as bar:
        for first in range(0, len(styles), order.block):
            chosen = set(styles[first : first + order.block])
            _paint_block(order, method, walk, [pair for pair in waiting if pair.style in chosen], bar)
    return len(waiting)


def _paint_block(order: Order, method: str, walk: Walk, waiting: list[Pair], bar: Any) -> None:
    """Each style inverted once, then each content once with all of them."""
    roles = FUSIONS[method]
    with timed(order, method, walk, 0):
        styles = {path: _inverted(order, walk, path, roles.style, bar) for path in {p.style: None for p in waiting}}
    for content in dict.fromkeys(pair.content for pair in waiting):
        row = [pair for pair in waiting if pair.content == content]
        with timed(order, method, walk, len(row)):
            inverted = _inverted(order, walk, content, roles.content, bar)
            for pair in row:
                bar.set_postfix_str(pair.result.stem)
                result = walk.paint(inverted, styles[pair.style], settings_of(method))
                write_png(pair.result, result, order.record(method, pair))
                bar.update()


def _inverted(order: Order, walk: Walk, path: Path, roles: str, bar: Any) -> InvertedPicture:
    bar.set_postfix_str(f"invert {path.parent.name}/{path.name}")
    return walk.invert(to_tensor(read_picture(path, (order.size, order.size))), roles)


@contextmanager
def timed(order: Order, method: str, walk: Walk, pairs: int) -> Iterator[None]:
    """Note how long the work inside took, and the most memory so far, in a line of a file that outlives the run."""
    cuda = walk.model.device.type == "cuda"
    started = time.perf_counter()
    yield
    if cuda:
        torch.cuda.synchronize()
    entry = {
        "method": method,
        "pairs": pairs,
        "seconds": time.perf_counter() - started,
        "bytes": torch.cuda.max_memory_allocated() if cuda else _resident_peak(),
        "device": torch.cuda.get_device_name() if cuda else "CPU",
    }
    order.folder.mkdir(parents=True, exist_ok=True)
    with (order.folder / "timing.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _resident_peak() -> int:
    """The most memory that this process has had, or 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Cost(NamedTuple):
    """What a method's pictures took, over all runs that painted them."""

    seconds_a_picture: float
    gibibytes: float
    device: str


def cost(order: Order, method: str) -> Cost | None:
    """Read off the noted times; None where nothing was noted."""
    path = order.folder / "timing.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries = [entry for entry in map(_entry, lines) if entry.get("method") == method]
    pairs = sum(entry["pairs"] for entry in entries)
    if not pairs:
        return None
    devices = ", ".join(sorted({entry["device"] for entry in entries}))
    most = max(entry["bytes"] for entry in entries) / 2**30
    return Cost(sum(entry["seconds"] for entry in entries) / pairs, most, devices)


def _entry(line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except json.JSONDecodeError:  # the run was killed while it wrote
        return {}

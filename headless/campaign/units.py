"""Units of work: some portraits times some styles, each with a manifest that says what came of it.

Units are made from what is missing, portrait by portrait, so that a portrait, a style or a shard that is added leaves
everything that is finished finished. A shard takes portraits by the digest of their names.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ...core.errors import MagicStyleError
from ..engine.blocks import BlockShape
from ..failure import Failure
from .names import StyleName, digest_of
from .patience import patiently
from .store import Store, StoreEntry

READERS = 32  # of manifests at a time: an object store answers each after tens of milliseconds


class UnfitMachineError(MagicStyleError):
    """No unit would fare better on this machine; on another one it may."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{platform.node() or 'this machine'}: {why}")


class Unit(NamedTuple):
    """Portraits that all lack the same styles."""

    portraits: tuple[StoreEntry, ...]
    styles: tuple[StyleName, ...]

    @property
    def name(self) -> str:
        """The same for the same pictures, in whatever run."""
        return digest_of(self)

    @property
    def text(self) -> str:
        """The unit as a line that travels."""
        return json.dumps(self)

    @classmethod
    def of(cls, text: str) -> Unit:
        """The inverse of `text`."""
        portraits, styles = json.loads(text)
        return cls(tuple(StoreEntry(*entry) for entry in portraits), tuple(StyleName(*style) for style in styles))

    def __len__(self) -> int:
        """Pictures, made and failed."""
        return len(self.portraits) * len(self.styles)


class Report(NamedTuple):
    """What came of a unit."""

    unit: str
    made: int
    failed: tuple[Failure, ...] = ()
    rows: int = 0  # through the model
    seconds: float = 0.0
    skipped: bool = False  # it was finished already
    stop: str = ""  # why no other unit would fare better
    unfit: str = ""  # why no unit would fare better on this machine: the unit is handed back

    @property
    def is_lost(self) -> bool:
        """Whether nothing was made, for a reason that is no single picture's."""
        return not self.made and any(failure.portrait is None and failure.style is None for failure in self.failed)

    @property
    def text(self) -> str:
        """The report as a line that travels."""
        return json.dumps(self)

    @classmethod
    def of(cls, text: str) -> Report:
        """The inverse of `text`."""
        unit, made, failed, *rest = json.loads(text)
        return cls(unit, made, tuple(Failure(*failure) for failure in failed), *rest)


class FinishedPortrait(NamedTuple):
    """What a portrait has been painted with, as its file was then."""

    tag: str
    digest: str
    styles: frozenset[StyleName]


class Shard(NamedTuple):
    """One of several equal parts of all portraits, counted from 1."""

    number: int = 1
    of: int = 1

    def __contains__(self, name: object) -> bool:
        found = hashlib.sha256(str(name).encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(found[:8], "big") % self.of == self.number - 1


def missing_units(
    portraits: Iterable[StoreEntry],
    styles: Sequence[StyleName],
    finished: Mapping[str, Sequence[FinishedPortrait]],
    shape: BlockShape,
    digest: Callable[[str], str],
) -> Iterator[Unit]:
    """What is missing, as units of at most this shape; `digest` reads a portrait whose file is not as it was."""
    waiting: dict[tuple[StyleName, ...], list[StoreEntry]] = {}
    seen: dict[tuple[int, ...], tuple[StyleName, ...]] = {}
    for portrait in portraits:
        painted = _painted(portrait, finished.get(portrait.name, ()), digest)
        key = tuple(map(id, painted))
        if key not in seen:
            seen[key] = tuple(style for style in styles if not any(style in known for known in painted))
        lacking = seen[key]
        if not lacking:
            continue
        alike = waiting.setdefault(lacking, [])
        alike.append(portrait)
        if len(alike) == shape.contents:
            yield from _sliced(tuple(waiting.pop(lacking)), lacking, shape)
    for lacking, alike in waiting.items():
        yield from _sliced(tuple(alike), lacking, shape)


def _sliced(portraits: tuple[StoreEntry, ...], styles: Sequence[StyleName], shape: BlockShape) -> Iterator[Unit]:
    for start in range(0, len(styles), shape.styles):
        yield Unit(portraits, tuple(styles[start : start + shape.styles]))


def _painted(
    portrait: StoreEntry, finished: Sequence[FinishedPortrait], digest: Callable[[str], str]
) -> list[frozenset[StyleName]]:
    """The styles that a portrait of these very bytes has been painted with; its bytes are read if its file is newer."""
    found, bytes_digest = [], None
    for one in finished:
        if one.tag != portrait.tag and bytes_digest is None:
            bytes_digest = digest(portrait.name)
        if one.tag == portrait.tag or one.digest == bytes_digest:
            found.append(one.styles)
    return found


def manifest(unit: Unit, report: Report, digests: Mapping[str, str]) -> bytes:
    """What a finished unit leaves: its pictures, and what of them failed."""
    portraits = [[*portrait, digests.get(portrait.name, "")] for portrait in unit.portraits]
    return json.dumps({"portraits": portraits, "styles": unit.styles, "report": report}).encode()


def read_manifests(store: Store, folder: str) -> dict[str, list[FinishedPortrait]]:
    """What all finished units have made, by the portrait's name; a manifest that is no manifest counts for nothing."""
    names = [entry.name for entry in store.entries(folder)]
    found: dict[str, list[FinishedPortrait]] = {}
    with ThreadPoolExecutor(READERS) as pool:
        for data in pool.map(lambda name: _facts(store, name), names):
            _add(data, found)
    return found


def finished_report(store: Store, name: str) -> Report | None:
    """The report of a unit that is finished; None where it is not."""
    found = _facts(store, name)
    return None if found is None else Report.of(json.dumps(found["report"]))._replace(skipped=True)


def _facts(store: Store, name: str) -> dict[str, Any] | None:
    try:
        found = json.loads(patiently(lambda: store.read(name)))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() >= {"portraits", "styles", "report"} else None


def _add(facts: dict[str, Any] | None, found: dict[str, list[FinishedPortrait]]) -> None:
    """A manifest's portraits; those of one manifest that lost nothing share one set of styles."""
    if facts is None:
        return
    styles = frozenset(StyleName(*style) for style in facts["styles"])
    failed = [Failure(*entry) for entry in facts["report"][2]]
    for name, tag, digest in facts["portraits"]:
        gone = {entry.style for entry in failed if entry.portrait in (name, None)}
        kept = styles if not gone else frozenset(s for s in styles if None not in gone and s.name not in gone)
        found.setdefault(name, []).append(FinishedPortrait(tag, digest, kept))

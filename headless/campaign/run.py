"""A run over stores: what is missing, painted unit by unit here or on Ray, and its totals at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ...core.errors import MagicStyleError, one_line
from ...picture_files.kinds import USUAL, is_picture, unread
from ..console import Console
from ..digest import digest
from ..failure import Failure
from ..skipped import Skipped
from .library import Library
from .names import DIGEST, StyleName
from .patience import patiently
from .spec import RunSpec
from .store import Store, StoreEntry, open_store
from .units import Report, Shard, Unit, missing_units, read_manifests

SHOWN = 20  # of what failed; all of it is in the manifests
ADVICE = (
    "run magicstyle invert-styles STYLES --library {library} with the same --checkpoint, --size, --steps, --inversion "
    "and --level-stride"
)
Paint = Callable[[Iterable[Unit]], Iterator[Report]]


@dataclass
class RunTotals:
    """What came of all units so far."""

    total: int  # pictures that were missing
    made: int = 0
    rows: int = 0
    units: int = 0
    failed: list[Failure] = field(default_factory=list)
    stop: str = ""
    started: float = field(default_factory=time.monotonic)

    def add(self, report: Report) -> None:
        """One unit more."""
        self.units += 1
        self.made += report.made
        self.rows += 0 if report.skipped else report.rows
        self.failed += report.failed
        self.stop = self.stop or report.stop or report.unfit

    def __str__(self) -> str:
        minutes = max(time.monotonic() - self.started, 1e-3) / 60.0
        rows = f", {self.rows / self.made:.1f} rows through the model for each" if self.made and self.rows else ""
        return f"{self.made} of {self.total} pictures made{rows}, {self.made / minutes:.0f} a minute"


@dataclass(frozen=True)
class StorePlan:
    """What lies in the stores before a run."""

    portraits: list[StoreEntry]
    styles: list[StyleName]
    missing: list[Unit]
    skipped: Skipped  # what lies among the portraits and is no picture

    @property
    def missing_pictures(self) -> int:
        """How many are not made yet."""
        return sum(map(len, self.missing))


def find_missing(spec: RunSpec, shard: Shard, chosen: Iterable[str] = ()) -> StorePlan:
    """List portraits, styles and manifests; nothing is opened but manifests."""
    store, out, skipped = open_store(spec.portraits), open_store(spec.out), Skipped()
    library = open_store(spec.library)
    portraits = sorted(entry for entry in pictures_of(store, skipped, out, library) if entry.name in shard)
    styles = _styles(spec, set(chosen))
    finished = {} if spec.overwrite else read_manifests(out, spec.manifests)
    units = missing_units(
        portraits, styles, finished, spec.block, lambda name: digest(patiently(lambda: store.read(name)), DIGEST)
    )
    return StorePlan(portraits, styles, list(units), skipped)


def pictures_of(store: Store, skipped: Skipped, *others: Store) -> Iterator[StoreEntry]:
    """The pictures of a store, without those in other stores that lie inside it; the rest is counted."""
    inside = tuple(f"{name}/" for other in others if (name := other.within(store)) not in (None, ".", ""))
    found, last = False, ""
    for entry in store.entries():
        if entry.name.startswith(inside):
            continue
        if is_picture(entry.name):
            found = True
            yield entry
        else:
            last = entry.name
            skipped.add(last)
    if not found:
        one = f"; {unread(last)}" if last else ""
        raise MagicStyleError(f"{store.uri} holds no pictures ({USUAL}): name another place{one}.")


def _styles(spec: RunSpec, chosen: set[str]) -> list[StyleName]:
    styles = Library(open_store(spec.library), spec.library_key).styles()
    advice = ADVICE.format(library=spec.library)
    if not styles:
        raise MagicStyleError(f"the library {spec.library} holds no styles inverted with these settings: {advice}.")
    gone = sorted(chosen - {style.name for style in styles})
    if gone:
        raise MagicStyleError(f"the library {spec.library} holds no style '{one_line(gone[0])}': {advice}.")
    return [style for style in styles if not chosen or style.name in chosen]


def run_units(spec: RunSpec, found: StorePlan, paint: Paint, console: Console) -> RunTotals:
    """Have all units painted; says how far the run is after each."""
    totals = RunTotals(found.missing_pictures)
    finished = len(found.portraits) * len(found.styles) - found.missing_pictures
    console.progress(
        f"{found.missing_pictures} pictures to make in {len(found.missing)} units, {finished} finished earlier"
    )
    if found.missing:
        open_store(spec.out).put(spec.settings_file, spec.settings)
    for report in paint(found.missing):
        totals.add(report)
        console.progress(f"unit {totals.units} of {len(found.missing)}: {totals}")
        if totals.stop:
            break
    _tell(spec, found, totals, finished, console)
    return totals


def _tell(spec: RunSpec, found: StorePlan, totals: RunTotals, finished: int, console: Console) -> None:
    """What failed, each once, and the totals."""
    told = dict.fromkeys(totals.failed)
    for failure in list(told)[:SHOWN]:
        console.note(f"{failure} failed: {failure.reason}")
    if len(told) > SHOWN:
        console.note(f"and {len(told) - SHOWN} more failed: the manifests name all of them")
    failed = found.missing_pictures - totals.made
    parts = [f"{totals.made} made", f"{finished} finished earlier", *([f"{failed} not made"] if failed else [])]
    parts += [str(found.skipped)] if found.skipped else []
    if totals.made:
        console.progress(str(totals))
    if console.quiet and found.skipped:
        console.note(f"{found.skipped} of {spec.portraits}")
    if not console.quiet:
        console.result(f"{', '.join(parts)}: {spec.out.rstrip('/')}/{spec.key}")

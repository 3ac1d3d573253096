"""A run over stores: what is missing, painted unit by unit here or on Ray, and the account of it at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ...core.errors import MagicStyleError, one_line
from ...picture_files.kinds import USUAL, is_picture, unread
from ..console import Console
from ..skipped import Skipped
from .library import Library
from .names import StyleName, digest
from .patience import patiently
from .spec import Commission
from .store import Entry, Store, open_store
from .units import Lost, Report, Shard, Unit, read_manifests, units_of

SHOWN = 20  # of what failed; all of it is in the manifests
ADVICE = (
    "run magicstyle invert-styles STYLES --library {library} with the same --checkpoint, --size, --steps, --inversion "
    "and --every"
)
Paint = Callable[[Iterable[Unit]], Iterator[Report]]


@dataclass
class Account:
    """What came of all units so far."""

    total: int  # pictures that were missing
    made: int = 0
    rows: int = 0
    units: int = 0
    failed: list[Lost] = field(default_factory=list)
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
class Found:
    """What lies in the stores before a run."""

    portraits: list[Entry]
    styles: list[StyleName]
    units: list[Unit]
    skipped: Skipped  # what lies among the portraits and is no picture

    @property
    def missing(self) -> int:
        """Pictures that are not made yet."""
        return sum(map(len, self.units))


def look(asked: Commission, shard: Shard, chosen: Iterable[str] = ()) -> Found:
    """List portraits, styles and manifests; nothing is opened but manifests."""
    store, out, skipped = open_store(asked.portraits), open_store(asked.out), Skipped()
    library = open_store(asked.library)
    portraits = sorted(entry for entry in pictures_of(store, skipped, out, library) if entry.name in shard)
    styles = _styles(asked, set(chosen))
    made = {} if asked.overwrite else read_manifests(out, asked.manifests)
    units = units_of(portraits, styles, made, asked.block, lambda name: digest(patiently(lambda: store.read(name))))
    return Found(portraits, styles, list(units), skipped)


def pictures_of(store: Store, skipped: Skipped, *others: Store) -> Iterator[Entry]:
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


def _styles(asked: Commission, chosen: set[str]) -> list[StyleName]:
    styles = Library(open_store(asked.library), asked.library_key).styles()
    advice = ADVICE.format(library=asked.library)
    if not styles:
        raise MagicStyleError(f"the library {asked.library} holds no styles inverted with these settings: {advice}.")
    gone = sorted(chosen - {style.name for style in styles})
    if gone:
        raise MagicStyleError(f"the library {asked.library} holds no style '{one_line(gone[0])}': {advice}.")
    return [style for style in styles if not chosen or style.name in chosen]


def carry_out(asked: Commission, found: Found, paint: Paint, console: Console) -> Account:
    """Have all units painted; says how far the run is after each."""
    account = Account(found.missing)
    finished = len(found.portraits) * len(found.styles) - found.missing
    console.progress(f"{found.missing} pictures to make in {len(found.units)} units, {finished} finished earlier")
    if found.units:
        open_store(asked.out).put(asked.settings_file, asked.settings)
    for report in paint(found.units):
        account.add(report)
        console.progress(f"unit {account.units} of {len(found.units)}: {account}")
        if account.stop:
            break
    _tell(asked, found, account, finished, console)
    return account


def _tell(asked: Commission, found: Found, account: Account, finished: int, console: Console) -> None:
    """What failed, each once, and the account."""
    told = Counter((lost.portrait, lost.style, lost.reason) for lost in account.failed)
    for portrait, style, reason in list(told)[:SHOWN]:
        names = " + ".join(name for name in (portrait, style) if name) or "a unit"
        console.note(f"{names} failed: {reason}")
    if len(told) > SHOWN:
        console.note(f"and {len(told) - SHOWN} more failed: the manifests name all of them")
    failed = found.missing - account.made
    parts = [f"{account.made} made", f"{finished} finished earlier", *([f"{failed} not made"] if failed else [])]
    parts += [str(found.skipped)] if found.skipped else []
    if account.made:
        console.progress(str(account))
    if console.quiet and found.skipped:
        console.note(f"{found.skipped} of {asked.portraits}")
    if not console.quiet:
        console.result(f"{', '.join(parts)}: {asked.out.rstrip('/')}/{asked.key}")

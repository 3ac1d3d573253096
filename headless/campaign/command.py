"""`magicstyle invert-styles`, and `magicstyle stylize` over a library: on this machine, a shard of it, or on Ray."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...core.errors import MagicStyleError, one_line
from ..console import LONGEST, Console
from ..digest import digest
from ..exit import OK, SOME_FAILED, UNUSABLE
from ..skipped import Skipped
from .library import Library
from .names import DIGEST, StyleName
from .options import LIBRARY, read_spec, shard_of
from .patience import patiently
from .run import Paint, find_missing, pictures_of, run_units
from .spec import RunSpec
from .store import Store, open_store
from .units import Report, Shard, UnfitMachineError, Unit

if TYPE_CHECKING:
    from .worker import Worker

NO_STYLES = "there are no style pictures: name a folder of them, or an address such as s3://bucket/styles."


def stylize_store(given: argparse.Namespace, console: Console) -> int:
    """Paint what is missing; the exit code says whether all of it was made."""
    spec = read_spec(given, given.content, given.out)
    paint = _nothing if given.ray is None else _on_ray(spec, given)
    found = find_missing(spec, shard_of(given.shard), given.style)
    if found.missing and given.ray is None:
        paint = _here(spec, given.quiet)
    totals = run_units(spec, found, paint, console)
    return OK if totals.made == found.missing_pictures else SOME_FAILED


def _nothing(units: Iterable[Unit]) -> Iterator[Report]:
    """There is nothing to paint: no model is loaded."""
    return iter(())


def _here(spec: RunSpec, quiet: bool) -> Paint:
    from ..engine.model import load_model
    from .worker import Worker

    worker = Worker(spec, quiet=quiet, load=load_model)
    return lambda units: map(worker.paint, units)


def _on_ray(spec: RunSpec, given: argparse.Namespace) -> Paint:
    from .ray import check_ray, painting_on_ray

    check_ray()
    return painting_on_ray(spec, given.ray, given.workers)


def invert_styles(given: argparse.Namespace, console: Console) -> int:
    """Invert every style picture that the library does not hold yet."""
    if given.library is None:
        raise MagicStyleError(LIBRARY)
    if not given.content:
        raise MagicStyleError(NO_STYLES)
    places = [read_spec(given, place, given.library) for place in dict.fromkeys(given.content)]
    held = set(Library(open_store(given.library), places[0].library_key).styles())
    skipped, shard = Skipped(), shard_of(given.shard)
    named = list(_named(places, shard, skipped))
    inverting = Inverting({style.file for style in held}, len(named), given, console)
    for spec, name in named:
        inverting.look_at(spec, name)
    place = f"{places[0].library.rstrip('/')}/{places[0].library_key}"
    parts = [f"{inverting.made} styles inverted", f"{len(held)} there before", *([str(skipped)] if skipped else [])]
    if given.quiet and skipped:
        console.note(str(skipped))
    console.result(place if given.quiet else f"{', '.join(parts)}: {place}")
    if inverting.failed:
        return SOME_FAILED if inverting.made or held else UNUSABLE
    return OK


def _named(places: list[RunSpec], shard: Shard, skipped: Skipped) -> Iterator[tuple[RunSpec, str]]:
    """The style pictures of all places by name; two of one name would be one style of the library."""
    owner: dict[str, str] = {}
    for spec in places:
        store, library = open_store(spec.portraits), open_store(spec.library)
        for name in sorted(entry.name for entry in pictures_of(store, skipped, library)):
            if name in owner:
                raise MagicStyleError(
                    f"{name} is in {owner[name]} and in {spec.portraits}, and a library has one style of a name: "
                    "rename one."
                )
            owner[name] = spec.portraits
            if name in shard:
                yield spec, name


class Inverting:
    """One style after the other; the bytes of one picture are held at a time, and none of those that are there."""

    def __init__(self, known: set[str], total: int, given: argparse.Namespace, console: Console) -> None:
        self.made = self.failed = 0
        self._known = known
        self._total = total
        self._seen = 0
        self._quiet: bool = given.quiet
        self._console = console
        self._worker: Worker | None = None
        self._stores: dict[str, Store] = {}

    def look_at(self, spec: RunSpec, name: str) -> None:
        """Invert a picture unless the library holds it; one that fails does not stop the others."""
        self._seen += 1
        try:
            data = patiently(lambda: self._store(spec).read(name))
        except OSError as error:
            return self._fail(name, f"it cannot be read ({error.strerror or error})")
        style = StyleName(name, digest(data, DIGEST))
        if style.file in self._known and not spec.overwrite:
            return None
        self._console.progress(f"{self._seen} of {self._total}: {name}")
        try:
            self._inverter(spec).invert_style(style, data)
        except UnfitMachineError:
            raise
        except MagicStyleError as error:
            return self._fail(name, one_line(error, LONGEST))
        self.made += 1
        return None

    def _fail(self, name: str, why: str) -> None:
        self.failed += 1
        self._console.note(f"{name} failed: {why}")

    def _store(self, spec: RunSpec) -> Store:
        return self._stores.setdefault(spec.portraits, open_store(spec.portraits))

    def _inverter(self, spec: RunSpec) -> Worker:
        """One worker for all places: they differ in nothing that it uses."""
        from ..engine.model import load_model
        from .worker import Worker

        if self._worker is None:
            self._worker = Worker(spec, quiet=self._quiet, load=load_model)
        return self._worker

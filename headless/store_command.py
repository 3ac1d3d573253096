"""`magicstyle invert-styles`, and `magicstyle stylize` over a library: on this machine, a shard of it, or on Ray."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from ..core.errors import MagicStyleError, one_line
from .campaign import Paint, carry_out, look, pictures_of
from .cli import OK, SOME_FAILED, UNUSABLE
from .commission import Commission
from .console import Console
from .library import Library
from .names import StyleName, digest
from .store import open_store
from .store_options import commission, shard_of
from .units import Report, Shard, Unit


def stylize_store(given: argparse.Namespace, console: Console) -> int:
    """Paint what is missing; the exit code says whether all of it was made."""
    asked = commission(given, given.content, given.out)
    paint = _nothing if given.ray is None else _on_ray(asked, given)
    found = look(asked, shard_of(given.shard), given.style)
    if found.units and given.ray is None:
        paint = _here(asked, given.quiet)
    account = carry_out(asked, found, paint, console)
    return OK if account.made == found.missing else SOME_FAILED


def _nothing(units: Iterable[Unit]) -> Iterator[Report]:
    """There is nothing to paint: no model is loaded."""
    return iter(())


def _here(asked: Commission, quiet: bool) -> Paint:
    from .worker import Worker

    worker = Worker(asked, quiet=quiet)
    return lambda units: map(worker.paint, units)


def _on_ray(asked: Commission, given: argparse.Namespace) -> Paint:
    from .ray_run import check_ray, painting_on_ray

    check_ray()
    return painting_on_ray(asked, given.ray, given.workers)


def invert_styles(given: argparse.Namespace, console: Console) -> int:
    """Invert every style picture that the library does not hold yet."""
    asked = commission(given, given.content, given.library)
    held = set(Library(open_store(asked.library), asked.library_key).styles())
    todo = _new_styles(asked, held, shard_of(given.shard))
    failed = _invert_all(asked, todo, given.quiet, console) if todo else 0
    made, place = len(todo) - failed, f"{asked.library.rstrip('/')}/{asked.library_key}"
    console.result(place if given.quiet else f"{made} styles inverted, {len(held)} there before: {place}")
    if failed:
        return SOME_FAILED if made or held else UNUSABLE
    return OK


def _new_styles(asked: Commission, held: set[StyleName], shard: Shard) -> dict[StyleName, bytes]:
    """The style pictures that are to be inverted, by name and bytes; of each, what the library lacks."""
    store, library = open_store(asked.portraits), open_store(asked.library)
    names = sorted(entry.name for entry in pictures_of(store, library) if entry.name in shard)
    read = ((name, store.read(name)) for name in names)
    found = {StyleName(name, digest(data)): data for name, data in read}
    known = {style.file for style in held}
    return {style: data for style, data in found.items() if asked.overwrite or style.file not in known}


def _invert_all(asked: Commission, todo: dict[StyleName, bytes], quiet: bool, console: Console) -> int:
    """How many could not be inverted."""
    from .worker import Worker

    worker, failed = Worker(asked, quiet=quiet), 0
    for number, (style, data) in enumerate(todo.items(), start=1):
        console.progress(f"{number} of {len(todo)}: {style.name}")
        try:
            worker.invert_style(style, data)
        except MagicStyleError as error:
            failed += 1
            console.note(f"{style.name} failed: {one_line(error, 400)}")
    return failed

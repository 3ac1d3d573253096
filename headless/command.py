"""`magicstyle stylize`: everything is checked first, then the model is loaded, then picture after picture is made."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..banks.atomic import clear_litter
from ..core.errors import MagicStyleError, one_line
from ..picture_files.kinds import HEIF, HEIF_LIBRARY, suffix_of
from .console import LONGEST, Console
from .engine.device import chosen_device
from .exit import OK, SOME_FAILED, UNUSABLE, ending_at_once
from .failure import Failure
from .options import FilmRequest, Request, check_given, parse, read_film, read_request
from .pairs.film_plan import check_name, order_film
from .pairs.outcome import Outcome
from .pairs.plan import Bad, FolderPlan, Job, find_missing
from .pictures.reading import read_mask, read_picture
from .pictures.sizes import face_notes
from .pictures.video import is_video
from .skipped import Skipped
from .uris import over_stores


def command(arguments: Sequence[str]) -> int:
    """Run the command; what the user can correct is one line."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    console = Console()
    try:
        with ending_at_once():  # argparse, interrupted, fails on its own half-changed options
            given = parse(arguments)
        console.quiet = given.quiet
        check_given(given)
        return _chosen(given)(given, console)
    except MagicStyleError as error:
        console.note(one_line(error, LONGEST))
    except OSError as error:
        name = "" if error.filename is None else f"{error.filename}: "
        console.note(one_line(f"{name}{error.strerror or error}.", LONGEST))
    return UNUSABLE


def _chosen(given: argparse.Namespace) -> Callable[[argparse.Namespace, Console], int]:
    """The function of the command that was named."""
    if given.command == "stylize" and not over_stores(given):
        if given.content is not None and is_video(given.content):
            return lambda given, console: _stylize_film(read_film(given), console)
        return lambda given, console: _stylize(read_request(given), console)
    with ending_at_once():
        from .campaign.command import invert_styles, stylize_store
    return stylize_store if given.command == "stylize" else invert_styles


def _stylize(request: Request, console: Console) -> int:
    """Plan, say what is wrong or there already, paint what is missing, and say where everything lies."""
    found = find_missing(request.contents, request.styles, request.out, request.order, one_file=request.one_file)
    _leave_out_undecodable(found)
    for note in [*found.notes, *dict.fromkeys(bad.reason for bad in found.bad), *_notes_on(request)]:
        console.note(note)
    for job in found.finished:
        console.result(job.result if request.order.quiet else f"{job.result} (finished earlier)")
    outcome = _make(found, request, console) if found.missing else Outcome([], [])
    _say_failures(outcome.failed, console)
    _say_where(outcome.made, found.finished, request, console)
    if outcome.failed or (found.bad and found.missing + found.finished):
        return SOME_FAILED
    return UNUSABLE if found.bad else OK


def _make(found: FolderPlan, request: Request, console: Console) -> Outcome:
    """Paint what is missing, after everything that could stop it later has been looked at."""
    device, folder = chosen_device(request.device), _folder(request)
    check_writable(folder, 4 * max(job.content.size[0] * job.content.size[1] for job in found.missing))
    clear_litter(folder)
    _note_small_faces(found.missing, request, console)
    console.progress(f"loading {request.model.title}")
    with ending_at_once():
        from .engine.model import load_model
        from .pairs.block_jobs import run  # diffusers takes seconds to import

    return run(found, load_model(request.model.path, device), request.order, console)


def _stylize_film(request: FilmRequest, console: Console) -> int:
    """A video: everything that could stop it later is looked at before the model is loaded."""
    asked = request.source, request.style, request.out, request.recipe, request.frame, request.model.identity
    order = order_film(*asked)
    if order.finished and not request.overwrite:
        console.result(order.result if console.quiet else f"{order.result} (finished earlier)")
        return OK
    check_name(order, overwrite=request.overwrite)
    device, (width, height) = chosen_device(request.device), order.size
    check_writable(order.result.parent, 4 * width * height)
    clear_litter(order.result.parent)
    console.progress(f"loading {request.model.title}")
    with ending_at_once():
        from .engine.model import load_model
        from .pairs.film import paint_film

    failed = paint_film(load_model(request.model.path, device), request.recipe, order, console, request.batch)
    if failed is not None:
        console.note(f"{order.source} + {order.style} failed: {failed}")
        return SOME_FAILED
    console.result(order.result)
    return OK


def _notes_on(request: Request) -> Iterator[str]:
    """What nobody would see otherwise: pictures that a library is missing for, and all that a quiet run skips."""
    if any(suffix_of(name) in HEIF for name in request.skipped):
        yield f"{HEIF_LIBRARY}, or save them as PNG or JPEG."
    if request.order.quiet and request.skipped:
        yield f"{Skipped(request.skipped)}."


def _folder(request: Request) -> Path:
    return request.out.parent if request.one_file else request.out


def _say_failures(failures: Sequence[Failure], console: Console) -> None:
    """Each reason once, with the first pair that it stopped."""
    for reason, count in Counter(failure.reason for failure in failures).items():
        first = next(failure for failure in failures if failure.reason == reason)
        more = "" if count == 1 else f" and {count - 1} more"
        console.note(f"{first}{more} failed: {reason}")


def _say_where(made: Sequence[Job], finished: Sequence[Job], request: Request, console: Console) -> None:
    """How much there is now, and where, for whoever looks for it later."""
    jobs = [*made, *finished]
    if jobs and not request.order.quiet:
        parts = [f"{len(made)} made"] if made else []
        parts += [f"{len(finished)} finished earlier (--overwrite makes them again)"] if finished else []
        parts += [str(Skipped(request.skipped))] if request.skipped else []
        console.result(f"{', '.join(parts)}: {(jobs[0].result if len(jobs) == 1 else _folder(request)).resolve()}")


def _leave_out_undecodable(found: FolderPlan) -> None:
    """Decode every picture and mask once before the model is loaded, and drop the pairs of those that are damaged."""
    bad: dict[Path, str] = {}
    for picture in dict.fromkeys(picture for job in found.missing for picture in (job.content, job.style)):
        try:
            read_picture(picture.path, picture.size)
            if picture.keep is not None:
                read_mask(picture.keep.path, picture.size)
        except MagicStyleError as error:
            bad[picture.path] = str(error)
    found.bad += [Bad(path, reason) for path, reason in bad.items()]
    found.missing = [job for job in found.missing if not {job.content.path, job.style.path} & bad.keys()]


def _note_small_faces(jobs: Sequence[Job], request: Request, console: Console) -> None:
    """Say once of the portraits for the demo model what a small face becomes, if their shape allows one."""
    if request.model.path is not None:
        return
    contents = dict.fromkeys(job.content for job in jobs)
    notes = [note for one in contents for note in face_notes(str(one.path), one.shape, one.size)]
    if notes:
        more = "" if len(notes) == 1 else f"; so for {len(notes) - 1} more"
        console.note(f"{notes[0]}{more}.")


def check_writable(folder: Path, size: int) -> None:
    """Refuse a folder that will not take a picture of `size` bytes, before any work is done."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not place.is_dir():
        raise MagicStyleError(f"{place} is a file, so that {folder} cannot be a folder: choose another with -o.")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MagicStyleError(
            f"no picture can be written to {folder} ({error.strerror}): make room, or choose another folder with -o."
        ) from None

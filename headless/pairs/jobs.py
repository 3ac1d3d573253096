"""A plan carried out: each picture inverted once, each pair painted, what fails said at the end."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Literal

from PIL import Image
from torch import Tensor

from ...banks.atomic import DISK_ERRORS
from ...core.errors import MagicStyleError
from ...core.regions import keep_mask
from ..console import Console
from ..engine.model import HeadlessModel
from ..engine.session import Session, reason
from ..engine.stylize import InvertedPicture, reconstruct, stylize
from ..pictures.png import write_png
from ..pictures.reading import read_mask, read_picture
from ..pictures.sheet import contact_sheet
from ..pictures.sizes import shape_notes
from .memory import free_bytes
from .outcome import Outcome
from .plan import FolderPlan, Job, Order, OutputNames, Picture, file_record

LABELS = ("content", "style", "reconstruction", "result")
ROOM = 3  # times the largest picture's features: a style, a content, and what their inversion takes


class NoPlaceToWriteError(MagicStyleError):
    """The disk takes nothing more: no other job would fare better."""


def run_pairs(plan: FolderPlan, model: HeadlessModel, order: Order, console: Console) -> Outcome:
    """Make the pictures one by one; one that fails does not stop the others, unless nothing can be written."""
    runner, outcome = PairRunner(model, order, plan.names, console), Outcome([], [])
    for number, job in enumerate(plan.missing, start=1):
        console.progress(f"{number} of {len(plan.missing)}: {job}")
        try:
            job = runner.make(job)
        except NoPlaceToWriteError as error:
            outcome.failed.extend(left.failed(str(error)) for left in plan.missing[number - 1 :])
            break
        except Exception as error:  # the next pair may still succeed
            outcome.failed.append(job.failed(reason(error)))
        else:
            outcome.made.append(job)
            for path in [job.result, job.sheet][: 1 + order.sheet]:
                console.result(path)
    return outcome


class PairRunner:
    """A model at work: styles stay inverted for the whole run, a content as long as its pairs are made."""

    def __init__(self, model: HeadlessModel, order: Order, names: OutputNames, console: Console) -> None:
        self._model = model
        self._session = Session(model, order.recipe, quiet=order.quiet)
        self._names = names
        self._order = order
        self._console = console
        self._styles: OrderedDict[Path, InvertedPicture | MagicStyleError] = OrderedDict()
        self._forgotten = 0
        self._content: tuple[Path, InvertedPicture | MagicStyleError] | None = None

    def make(self, job: Job) -> Job:
        """Paint one pair and write its files, the result last: where it lies, all is done."""
        style = self._style(job.style)
        content = self._content_of(job.content)
        recipe = self._order.recipe
        with self._session.progress(f"paint {job.result.stem}") as callback:
            latent = stylize(self._model, content, style, recipe, callback, kept(job.content))
        result = self._session.picture(latent, "the result")
        return self.keep(job, result, content)

    def keep(self, job: Job, result: Image.Image, content: InvertedPicture) -> Job:
        """Write a result, and its sheet before it where one is wanted."""
        sheet = self._sheet(job, content, result) if self._order.sheet else None
        job = self._placed(job)
        if sheet is not None:
            _write(job.sheet, sheet, file_record(job.record, "sheet"))
        _write(job.result, result, job.record)
        return job

    def _sheet(self, job: Job, content: InvertedPicture, result: Image.Image) -> Image.Image:
        with self._session.progress(f"reconstruct {job.content.path.name}") as callback:
            latent = reconstruct(self._model, content, self._order.recipe, callback)
        plain = self._session.picture(latent, "the reconstruction")
        return contact_sheet([[self._read(job.content), self._read(job.style), plain, result]], LABELS)

    def _placed(self, job: Job) -> Job:
        """The job under a name that is free at this moment, should another run have taken the planned one."""
        name = self._names.find(job)
        for note in name.notes if name.result != job.result else ():
            self._console.note(note)
        return job._replace(result=name.result)

    def _style(self, picture: Picture) -> InvertedPicture:
        if picture.path not in self._styles:
            self._make_room()
            self._styles[picture.path] = self._invert("style", picture)
        return _found(self._styles[picture.path])

    def _make_room(self) -> None:
        """Forget the styles that were inverted first where another picture's features would not fit beside them."""
        sizes = {path: 0 if isinstance(f, MagicStyleError) else f.features.nbytes for path, f in self._styles.items()}
        while self._styles and free_bytes() < ROOM * max(sizes.values()):
            path, _ = self._styles.popitem(last=False)
            if self._forgotten == 0:
                self._console.note(
                    f"memory is short: {path} and other styles are inverted again for each portrait; "
                    "fewer styles a run, --steps or --layers need less."
                )
            self._forgotten += 1

    def _content_of(self, picture: Picture) -> InvertedPicture:
        if self._content is None or self._content[0] != picture.path:
            self._content = None  # make room before the next one is inverted
            self._content = (picture.path, self._invert("content", picture))
        return _found(self._content[1])

    def _invert(
        self, role: Literal["content", "style"], picture: Picture, storage: str = "features"
    ) -> InvertedPicture | MagicStyleError:
        for note in shape_notes(str(picture.path), picture.shape, picture.size):
            self._console.note(note)
        try:
            return self._session.invert(role, picture.path.name, self._read(picture), storage=storage)
        except MagicStyleError as error:
            return error

    def _read(self, picture: Picture) -> Image.Image:
        return read_picture(picture.path, picture.size)


def kept(content: Picture) -> Tensor | None:
    """Where a content stays like itself, 1 h w in 0..1."""
    if content.keep is None:
        return None
    return keep_mask(read_mask(content.keep.path, content.size), content.keep.strength, 1)


def _write(path: Path, image: Image.Image, record: str) -> None:
    try:
        write_png(path, image, record)
    except OSError as error:
        kind = NoPlaceToWriteError if error.errno in DISK_ERRORS else MagicStyleError
        raise kind(
            f"{path} cannot be written ({error.strerror}): make room, or choose another folder with -o."
        ) from None


def _found(inversion: InvertedPicture | MagicStyleError) -> InvertedPicture:
    if isinstance(inversion, MagicStyleError):
        raise inversion
    return inversion

"""Every content with every style: what is to be made, under which name, and what is made already.

A result is named after its two pictures, whatever else is in the run: adding a portrait or a style renames nothing.
Where another picture has that name already, made from other pictures or with other settings, a digest of what the
result is made of is added, so that nothing that exists is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import MagicStyleError
from ...picture_files.kinds import stem_of
from ..digest import digest
from ..engine.blocks import BlockShape
from ..engine.recipe import Recipe
from ..failure import Failure
from ..pictures.masks import Mask, Masks
from ..pictures.png import inspect
from ..pictures.reading import picture_size
from ..pictures.sizes import Frame, LongerSide, Size, check_shape

SHEET = "-sheet"
INPUTS = ("content", "style")  # entries of a record that say of which pictures it is
LONGEST_NAME = 100  # bytes of an input's name, so that a result's name fits any file system


@dataclass(frozen=True)
class Order:
    """What is the same for all pairs of a run."""

    recipe: Recipe
    frame: Frame | LongerSide
    checkpoint: str
    sheet: bool = False
    overwrite: bool = False
    quiet: bool = False
    masks: Masks | None = None
    block: BlockShape | None = None  # None: blocks of the usual shape where there are many styles
    batch: int | None = None  # rows of a model call in a block; None: what suits the device


class Picture(NamedTuple):
    """An input, as far as it is known before it is decoded."""

    path: Path
    digest: str  # of the file's bytes
    shape: Size  # upright, in its own pixels
    size: Size  # at which it is worked on
    keep: Mask | None = None  # where a content stays like itself


class Job(NamedTuple):
    """One content, one style, and the files that they become."""

    content: Picture
    style: Picture
    base: Path  # the result's name where nothing else has it
    result: Path
    record: str

    @property
    def sheet(self) -> Path:
        """Where the sheet belongs, if one is wanted."""
        return sheet_of(self.result)

    @property
    def pair(self) -> tuple[str, str]:
        """The two pictures, as users named them."""
        return str(self.content.path), str(self.style.path)

    def failed(self, reason: str) -> Failure:
        """The job as one that could not be done."""
        return Failure(*self.pair, reason)

    def __str__(self) -> str:
        return " + ".join(self.pair)


class Bad(NamedTuple):
    """An input that cannot be used, and why, in one sentence."""

    path: Path
    reason: str


@dataclass
class FolderPlan:
    """All pairs of a run, sorted by what is to be done with them."""

    names: OutputNames
    missing: list[Job] = field(default_factory=list)
    finished: list[Job] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class State(Enum):
    """What lies where a file is to be written."""

    FREE = auto()
    FINISHED = auto()  # this very file
    DAMAGED = auto()  # this very file, cut short
    OTHER_SETTINGS = auto()  # of the same two pictures
    OTHER_PICTURES = auto()
    FOREIGN = auto()  # not ours, or somebody's input


PREFERRED = {State.FINISHED: 0, State.DAMAGED: 1}  # where a job's file lies already, it stays


def find_missing(
    contents: Sequence[Path], styles: Sequence[Path], out: Path, order: Order, *, one_file: bool
) -> FolderPlan:
    """Look at every input once, then find each pair's name; `out` is the file itself or a folder."""
    if one_file and len(contents) * len(styles) > 1:
        raise MagicStyleError(f"{out} is one file but there are several pairs: give a folder instead.")
    inputs = dict.fromkeys([*contents, *styles])
    found = FolderPlan(OutputNames(order, frozenset(map(_file_id, inputs)), explicit=one_file))
    looked = {path: _looked_at(path, order.frame, found.bad) for path in inputs}
    for content in _masked(filter(None, map(looked.get, contents)), order.masks, found.bad):
        for style in filter(None, map(looked.get, styles)):
            base = out if one_file else out / f"{short_name(content.path)}--{short_name(style.path)}.png"
            _sort_in(Job(content, style, base, base, record_of(content, style, order)), found)
    return found


def _masked(contents: Iterable[Picture], masks: Masks | None, bad: list[Bad]) -> Iterator[Picture]:
    """The contents with their masks; those whose mask cannot be used are left out."""
    for content in contents:
        if masks is None:
            yield content
            continue
        try:
            yield content._replace(keep=masks.of(content.path, content.shape))
        except MagicStyleError as error:
            bad.append(Bad(content.path, str(error)))


def _sort_in(job: Job, found: FolderPlan) -> None:
    if found.names.is_claimed(job):
        return
    name = found.names.find(job)
    found.notes += name.notes
    (found.finished if name.finished else found.missing).append(job._replace(result=name.result))


class OutputName(NamedTuple):
    """A job's name, whether all of its files are there, and what the user should know about it."""

    result: Path
    finished: bool
    notes: list[str]


class OutputNames:
    """Which names are taken: on disk, by inputs, and by other jobs of this run."""

    def __init__(self, order: Order, inputs: frozenset[Any], *, explicit: bool) -> None:
        self._order = order
        self._inputs = inputs
        self._replaceable = {State.FREE, State.FINISHED, State.DAMAGED}
        if order.overwrite:
            self._replaceable |= {State.OTHER_SETTINGS} | ({State.OTHER_PICTURES} if explicit else set())
        self._explicit = explicit
        self._claims: dict[str, str] = {}

    def is_claimed(self, job: Job) -> bool:
        """Whether an equal job has a name: the same two pictures, named twice."""
        return any(self._claims.get(_key(name)) == job.record for name in possible_names(job))

    def find(self, job: Job) -> OutputName:
        """Where the job's file lies already, else the first of its names that is free; it is then taken."""
        seen = {name: self._states(name, job.record) for name in possible_names(job)}
        free = [name for name, states in seen.items() if self._replaceable.issuperset(states)]
        if not free or (self._explicit and State.FOREIGN in seen[job.base]):
            raise MagicStyleError(f"{self._in_the_way(job)}: it stays as it is; choose another name or folder with -o.")
        chosen = min(free, key=lambda name: PREFERRED.get(seen[name][0], len(PREFERRED)))
        notes = self._notes(job, chosen, seen)
        self._claims |= {_key(path): job.record for path in self._outputs(chosen)}
        return OutputName(chosen, not self._order.overwrite and set(seen[chosen]) == {State.FINISHED}, notes)

    def _outputs(self, result: Path) -> list[Path]:
        return [result, sheet_of(result)] if self._order.sheet else [result]

    def _states(self, result: Path, record: str) -> list[State]:
        return [
            State.FOREIGN
            if self._claims.get(_key(path), record) != record
            else state_of(path, kind, record, self._inputs)
            for path, kind in zip(self._outputs(result), ("result", "sheet"), strict=False)
        ]

    def _in_the_way(self, job: Job) -> str:
        """The file that keeps a job from its name, and what it is."""
        paths = [path for name in possible_names(job) for path in self._outputs(name)]
        path = next((path for path in paths if not _is_ours(path, self._inputs)), job.base)
        if path.is_dir():
            return f"{path} is a folder"
        return f"{path} is {'an input' if _file_id(path) in self._inputs else 'not a result of this program'}"

    def _notes(self, job: Job, chosen: Path, seen: dict[Path, list[State]]) -> list[str]:
        notes = [f"{chosen} is damaged: it is made again"] if State.DAMAGED in seen[chosen] else []
        if chosen != job.base and seen[chosen][0] is State.FREE:
            notes.append(f"{job.base} {self._why_taken(job, seen[job.base][0])}: this result becomes {chosen.name}")
        return notes

    def _why_taken(self, job: Job, state: State) -> str:
        if self._claims.get(_key(job.base), job.record) != job.record:
            return "is another pair's"
        return {
            State.OTHER_SETTINGS: "stays, made of the same pictures with other settings",
            State.OTHER_PICTURES: "stays, made of other pictures",
        }.get(state, "stays, not a result of this program")


def _is_ours(path: Path, inputs: frozenset[Any]) -> bool:
    return state_of(path, "result", "", inputs) is not State.FOREIGN


def state_of(path: Path, kind: str, record: str, inputs: frozenset[Any]) -> State:
    """What lies at a path where a file of this record is to be written."""
    if not os.path.lexists(path):
        return State.FREE
    if not path.is_file() or _file_id(path) in inputs:
        return State.FOREIGN
    found = inspect(path)
    if found.record is None:
        return State.DAMAGED if found.blank else State.FOREIGN
    if found.record == file_record(record, kind):
        return State.FINISHED if found.whole else State.DAMAGED
    return State.OTHER_SETTINGS if _inputs_of(found.record) == _inputs_of(record) else State.OTHER_PICTURES


def possible_names(job: Job) -> list[Path]:
    """The names that a job may have, the plain one first."""
    return [job.base, job.base.with_name(f"{job.base.stem}-{digest(job.record.encode())[:8]}{job.base.suffix}")]


def sheet_of(result: Path) -> Path:
    """The name of a result's sheet."""
    return result.with_name(f"{result.stem}{SHEET}.png")


def short_name(path: Path) -> str:
    """A picture's name in its results: without its ending, printable, and not too long for any file system."""
    text = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in stem_of(path.name))
    return text.encode()[:LONGEST_NAME].decode(errors="ignore")


def record_of(content: Picture, style: Picture, order: Order) -> str:
    """How a pair is made, as the text that its files carry; the same text means the same picture."""
    facts = {
        "content": content.digest,
        "style": style.digest,
        "checkpoint": order.checkpoint,
        "size": list(content.size),
        "style_size": list(style.size),
        **order.recipe.facts,
    }
    if content.keep is not None:
        facts["keep"] = [content.keep.digest, content.keep.strength]
    return json.dumps(facts, sort_keys=True)


def file_record(record: str, kind: str) -> str:
    """The record of one of a job's files."""
    return record if kind == "result" else json.dumps({**json.loads(record), "file": kind}, sort_keys=True)


def _looked_at(path: Path, frame: Frame | LongerSide, bad: list[Bad]) -> Picture | None:
    try:
        shape = picture_size(path)
        check_shape(str(path), shape)
        return Picture(path, digest(path.read_bytes()), shape, frame.around(shape))
    except MagicStyleError as error:
        bad.append(Bad(path, str(error)))
    except OSError as error:
        bad.append(Bad(path, f"{path} cannot be read ({error.strerror}): copy the file."))
    return None


def _inputs_of(record: str) -> list[Any]:
    try:
        return [json.loads(record).get(name) for name in INPUTS]
    except (ValueError, AttributeError):
        return [None]


def _file_id(path: Path) -> Any:
    """What is the same for all names of one file."""
    try:
        facts = path.stat()
    except OSError:
        return path
    return (facts.st_dev, facts.st_ino)


def _key(path: Path) -> str:
    """Two names with one key may be one file."""
    return os.path.normcase(path.absolute()).casefold()

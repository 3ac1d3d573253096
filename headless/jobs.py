"""Every content with every style: what is to be made, what is made already, and what failed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from ..core.errors import MagicStyleError
from ..core.fusion import METHODS
from ..core.layers import select_layers
from .model import HeadlessModel
from .pictures import Size, read_picture, read_record, to_images, to_tensor, write_png
from .sheet import contact_sheet
from .stylize import Inversion, Recipe, invert, reconstruct, stylize

SHEET = "-sheet"
LABELS = ("content", "style", "reconstruction", "result")


class Pair(NamedTuple):
    """One content, one style, and the files that they become."""

    content: Path
    style: Path
    result: Path
    sheet: Path | None

    @property
    def outputs(self) -> list[Path]:
        """The files to write, the result last: where it exists, all is done."""
        return [self.result] if self.sheet is None else [self.sheet, self.result]

    def __str__(self) -> str:
        return f"{self.content.name} + {self.style.name}"


class Failure(NamedTuple):
    """A pair that could not be made, and why, in one line."""

    pair: Pair
    reason: str


@dataclass(frozen=True)
class Order:
    """What is the same for all pairs of a run."""

    recipe: Recipe
    size: Size
    checkpoint: str
    overwrite: bool = False
    quiet: bool = False


class Outcome(NamedTuple):
    """What became of all pairs."""

    made: list[Pair]
    skipped: list[Pair]
    failed: list[Failure]

    @contextmanager
    def noting_failure(self, pair: Pair) -> Iterator[None]:
        """An error inside is this pair's own."""
        try:
            yield
        except Exception as error:  # the next pair may still succeed
            self.failed.append(Failure(pair, _one_line(error)))


def plan_pairs(contents: Sequence[Path], styles: Sequence[Path], out: Path, *, sheet: bool) -> list[Pair]:
    """All pairs; a single pair may be given a file name, several go into a folder."""
    if out.suffix.lower() == ".png":
        if len(contents) * len(styles) > 1:
            raise MagicStyleError(f"{out} is one file but there are several pairs: give a folder instead.")
        return [_pair(contents[0], styles[0], out, sheet)]
    if out.suffix:
        raise MagicStyleError(f"{out} ends with {out.suffix}, but results are PNG: give a .png name or a folder.")
    names = _short_names([*contents, *styles])
    return [_pair(c, s, out / f"{names[c]}--{names[s]}.png", sheet) for c in contents for s in styles]


def run(pairs: Sequence[Pair], order: Order, load: Callable[[], HeadlessModel]) -> Outcome:
    """Make what is not made yet; a pair that fails does not stop the others. The model is loaded if it is needed."""
    outcome = Outcome([], [], [])
    waiting: list[tuple[Pair, str]] = []
    for pair in pairs:
        with outcome.noting_failure(pair):
            record = describe(pair, order)
            if is_finished(pair, record, overwrite=order.overwrite):
                outcome.skipped.append(pair)
            else:
                waiting.append((pair, record))
    studio = Studio(load(), order) if waiting else None
    for pair, record in waiting:
        with outcome.noting_failure(pair):
            studio.make(pair, record)
            outcome.made.append(pair)
    return outcome


def describe(pair: Pair, order: Order) -> str:
    """How a pair is made, as the text that its files carry; the same text means the same picture."""
    facts = {
        "content": _digest(pair.content),
        "style": _digest(pair.style),
        "checkpoint": order.checkpoint,
        "size": list(order.size),
        **asdict(order.recipe),
    }
    return json.dumps(facts, sort_keys=True)


def is_finished(pair: Pair, record: str, *, overwrite: bool = False) -> bool:
    """Whether all files of a pair exist and were made like this; a file of other origin is not touched unasked."""
    if overwrite:
        return False
    existing = {path: read_record(path) for path in pair.outputs if path.exists()}
    for path, found in existing.items():
        if found is None:
            raise MagicStyleError(f"{path} exists and is not a result of this program: choose another name.")
    return len(existing) == len(pair.outputs) and set(existing.values()) == {record}


class Studio:
    """A model at work: styles stay inverted for the whole run, a content as long as its pairs are made."""

    def __init__(self, model: HeadlessModel, order: Order) -> None:
        select_layers(order.recipe.layers, model.layers)  # a wrong name is no pair's fault
        self._model = model
        self._order = order
        self._styles: dict[Path, Inversion | MagicStyleError] = {}
        self._content: tuple[Path, Inversion | MagicStyleError] | None = None

    def make(self, pair: Pair, record: str) -> None:
        """Write the files of one pair."""
        style = self._style(pair.style)
        content = self._content_of(pair.content)
        recipe = self._order.recipe
        with self._progress(f"paint {pair}") as callback:
            result = self._picture(stylize(self._model, content, style, recipe, callback))
        if pair.sheet is not None:
            with self._progress(f"reconstruct {pair.content.name}") as callback:
                plain = self._picture(reconstruct(self._model, content, recipe, callback))
            row = [self._read(pair.content), self._read(pair.style), plain, result]
            write_png(pair.sheet, contact_sheet([row], LABELS), record)
        write_png(pair.result, result, record)

    def _style(self, path: Path) -> Inversion:
        if path not in self._styles:
            self._styles[path] = self._invert("style", path, METHODS[self._order.recipe.settings.method].style)
        return _found(self._styles[path])

    def _content_of(self, path: Path) -> Inversion:
        if self._content is None or self._content[0] != path:
            self._content = None  # make room before the next one is inverted
            self._content = (path, self._invert("content", path, "qkv"))
        return _found(self._content[1])

    def _invert(self, role: str, path: Path, roles: str) -> Inversion | MagicStyleError:
        try:
            latent = self._model.encode(to_tensor(self._read(path)))
        except MagicStyleError as error:
            return error
        with self._progress(f"invert {role} {path.name}") as callback:
            return invert(self._model, latent, self._order.recipe, roles=roles, callback=callback)

    def _read(self, path: Path) -> Image.Image:
        return read_picture(path, self._order.size)

    def _picture(self, latent: Any) -> Image.Image:
        return to_images(self._model.decode(latent))[0]

    @contextmanager
    def _progress(self, phase: str) -> Iterator[Callable[[dict[str, Any]], None]]:
        total = len(self._order.recipe.sigmas) - 1
        with tqdm(total=total, desc=phase, unit="step", disable=self._order.quiet or None) as bar:
            yield lambda state: bar.update()


def _found(inversion: Inversion | MagicStyleError) -> Inversion:
    if isinstance(inversion, MagicStyleError):
        raise inversion
    return inversion


def _pair(content: Path, style: Path, result: Path, sheet: bool) -> Pair:
    return Pair(content, style, result, result.with_name(f"{result.stem}{SHEET}.png") if sheet else None)


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """File names without their ending, with it where two would be the same, and numbered where that is no help."""
    names: dict[Path, str] = {}
    for name in (lambda path: path.stem, lambda path: path.name.replace(".", "_")):
        clashes = Counter(name(path) for path in set(paths) if path not in names)
        names |= {path: name(path) for path in set(paths) if path not in names and clashes[name(path)] == 1}
    rest = [path for path in dict.fromkeys(paths) if path not in names]
    return names | {path: f"{path.stem}_{number}" for number, path in enumerate(rest, start=1)}


@cache
def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise MagicStyleError(f"{path.name} cannot be read ({error.strerror}).") from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, MagicStyleError) else f"{type(error).__name__}: {text}"

"""A worker: one model that inverts styles for a library, and paints units of portraits and styles from it.

A machine on which no unit can succeed says so, and its units are handed back: it has no such model file or another one
under that path, its device does not compute, or it does not see the places that the run reads and writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path

from PIL import Image

from ...banks.atomic import DISK_ERRORS
from ...banks.image_features import ImageFeatures
from ...core.errors import MagicStyleError
from ..digest import digest
from ..engine.blocks import rows_at_once
from ..engine.checkpoints import model_file
from ..engine.device import chosen_device
from ..engine.lockstep import paint_block
from ..engine.model import HeadlessModel, load_model
from ..engine.session import Session, reason
from ..failure import Failure
from ..pictures.png import png_bytes
from ..pictures.reading import decode_picture
from .library import Library
from .names import DIGEST, StyleName, output_name
from .patience import patiently
from .spec import RunSpec
from .store import StoreEntry, open_store
from .units import Report, UnfitMachineError, Unit, finished_report, manifest

Load = Callable[[Path | None, str], HeadlessModel]  # a model file, None for the demo model, and a device


class Worker:
    """What one process does for a run; the model is loaded with the first unit that needs it."""

    def __init__(self, spec: RunSpec, *, quiet: bool = True, load: Load = load_model) -> None:
        self._spec = spec
        self._quiet = quiet
        self._load = load
        self._portraits = open_store(spec.portraits)
        self._out = open_store(spec.out)
        self._library_store = open_store(spec.library)
        self._library = Library(self._library_store, spec.library_key)
        self._styles: dict[StyleName, ImageFeatures] = {}

    @cached_property
    def model(self) -> HeadlessModel:
        """The run's model on the worker's device; UnfitMachineError where that cannot be had here."""
        path = None if self._spec.checkpoint is None else Path(self._spec.checkpoint)
        try:
            found = model_file(path)
            if found.identity != self._spec.identity:
                raise MagicStyleError(
                    f"{found.title} is {found.identity}, and not {self._spec.identity}, which this run paints with: "
                    "copy the same file to every machine."
                )
            return self._load(path, chosen_device(self._spec.device))
        except Exception as error:  # also what torch says of a device
            raise UnfitMachineError(reason(error)) from None

    def check(self) -> None:
        """Load the model and look for every place of the run; UnfitMachineError where one is not there."""
        for store, what in ((self._portraits, "the portraits"), (self._library_store, "the library")):
            if not store.is_there():
                raise UnfitMachineError(f"it does not see {what}, {store.uri}: mount it there, at the same path.")
        try:
            seen = patiently(lambda: self._out.read(self._spec.settings_file))
        except OSError:
            seen = b""
        if seen != self._spec.settings:
            raise UnfitMachineError(
                f"it does not see what the driver has put into {self._spec.out}: mount the same place there."
            )
        self.model  # noqa: B018 (loads it)

    @cached_property
    def _session(self) -> Session:
        return Session(self.model, self._spec.recipe, quiet=self._quiet)

    def paint(self, unit: Unit) -> Report:
        """Make a unit's pictures, then its manifest; a unit that has one, and lost nothing, is left alone."""
        place = f"{self._spec.manifests}/{unit.name}.json"
        try:
            earlier = None if self._spec.overwrite else self._earlier(place)
            return self._painted(unit, place) if earlier is None or earlier.failed else earlier
        except UnfitMachineError as error:
            return Report(unit.name, 0, (Failure(None, None, str(error)),), unfit=str(error))
        except OSError as error:
            told = (
                f"{self._spec.out} cannot be written ({error.strerror or error}): make room, or choose another place."
            )
            failed = (Failure(None, None, told),)
            return Report(unit.name, 0, failed, stop=told if error.errno in DISK_ERRORS else "")
        except Exception as error:  # the next unit may still succeed
            return Report(unit.name, 0, (Failure(None, None, reason(error)),))

    def _earlier(self, place: str) -> Report | None:
        try:
            return finished_report(self._out, place)
        except OSError as error:
            raise MagicStyleError(f"{place} in {self._spec.out} cannot be read ({error.strerror or error}).") from None

    def invert_style(self, style: StyleName, data: bytes) -> None:
        """Add a style picture to the library."""
        recipe = replace(self._spec.recipe, layers="all")  # what is kept serves any choice of layers
        image = decode_picture(style.name, data, self._spec.frame)
        session = Session(self.model, recipe, quiet=self._quiet)
        found = session.invert("style", style.name, image, storage="latents")
        self._library.put(style, found.features, self.model.scale_factor)

    def _painted(self, unit: Unit, place: str) -> Report:
        started, rows = time.monotonic(), self.model.rows
        failed: list[Failure] = []
        digests: dict[str, str] = {}
        contents = self._contents(unit, failed, digests)
        styles = self._chosen(unit, failed)
        made = self._put_all(contents, styles, digests, failed) if contents and styles else 0
        seconds = round(time.monotonic() - started, 3)
        report = Report(unit.name, made, tuple(failed), self.model.rows - rows, seconds)
        self._out.put(place, manifest(unit, report, digests))
        return report

    def _contents(self, unit: Unit, failed: list[Failure], digests: dict[str, str]) -> dict[str, ImageFeatures]:
        """The portraits inverted, without those that cannot be."""
        found = {}
        for portrait in unit.portraits:
            try:
                found[portrait.name] = self._content(portrait, digests)
            except Exception as error:
                failed.append(Failure(portrait.name, None, reason(error)))
        return found

    def _content(self, portrait: StoreEntry, digests: dict[str, str]) -> ImageFeatures:
        try:
            data = patiently(lambda: self._portraits.read(portrait.name))
        except OSError as error:
            raise MagicStyleError(f"{portrait.name} cannot be read ({error.strerror or error}).") from None
        digests[portrait.name] = digest(data, DIGEST)
        image = decode_picture(portrait.name, data, self._spec.frame)
        return self._session.invert("content", portrait.name, image, storage="latents").features

    def _chosen(self, unit: Unit, failed: list[Failure]) -> dict[StyleName, ImageFeatures]:
        """The unit's styles from the library; those of the unit before are kept where they serve again."""
        known, self._styles = self._styles, {}
        for style in unit.styles:
            try:
                self._styles[style] = known[style] if style in known else self._style(style)
            except MagicStyleError as error:  # never kept: the next unit reads it again
                failed.extend(Failure(portrait.name, style.name, str(error)) for portrait in unit.portraits)
        return dict(self._styles)

    def _style(self, style: StyleName) -> ImageFeatures:
        try:
            return patiently(lambda: self._library.read(style, self.model.scale_factor))
        except OSError as error:
            told = f"the library's style {style.name} cannot be read ({error.strerror or error})."
            raise MagicStyleError(told) from None

    def _put_all(
        self,
        contents: dict[str, ImageFeatures],
        styles: dict[StyleName, ImageFeatures],
        digests: dict[str, str],
        failed: list[Failure],
    ) -> int:
        """Paint every content with every style and put the pictures -> how many."""
        rows = self._spec.batch or rows_at_once(self.model.device)
        with self._session.progress(f"paint {len(contents)} x {len(styles)}") as callback:
            sides = list(contents.values()), list(styles.values())
            latents = paint_block(self.model, *sides, self._spec.recipe, rows, callback)
        made = 0
        for (c, portrait), (s, style) in product(enumerate(contents), enumerate(styles)):
            try:
                picture = self._session.picture(latents[c, s], "the result")
            except MagicStyleError as error:
                failed.append(Failure(portrait, style.name, str(error)))
                continue
            self._put(picture, portrait, style, digests[portrait])
            made += 1
        return made

    def _put(self, picture: Image.Image, portrait: str, style: StyleName, content: str) -> None:
        name = output_name(self._spec.key, portrait, style.name)
        self._out.put(name, png_bytes(picture, self._spec.record(content, style.digest)))

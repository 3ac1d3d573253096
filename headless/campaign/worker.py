"""A worker: one model that inverts styles for a library, and paints units of portraits and styles from it.

A machine on which no unit can succeed says so, and its units are handed back: it has no such model file or another one
under that path, its device does not compute, or it does not see the places that the run reads and writes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path

from PIL import Image

from ...banks.atomic import DISK_ERRORS
from ...banks.image_features import ImageFeatures
from ...core.errors import MagicStyleError
from ..engine.blocks import rows_at_once
from ..engine.checkpoints import model_file
from ..engine.device import chosen_device
from ..engine.lockstep import paint_block
from ..engine.model import HeadlessModel, load_model
from ..engine.session import Easel, reason
from ..pictures.png import png_bytes
from ..pictures.reading import decode_picture
from .library import Library
from .names import StyleName, digest, output_name
from .patience import patiently
from .spec import Commission
from .store import Entry, open_store
from .units import Lost, Report, UnfitMachineError, Unit, finished, manifest


class Worker:
    """What one process does for a commission; the model is loaded with the first unit that asks for it."""

    def __init__(self, commission: Commission, *, quiet: bool = True) -> None:
        self._asked = commission
        self._quiet = quiet
        self._portraits = open_store(commission.portraits)
        self._out = open_store(commission.out)
        self._library_store = open_store(commission.library)
        self._library = Library(self._library_store, commission.library_key)
        self._styles: dict[StyleName, ImageFeatures] = {}

    @cached_property
    def model(self) -> HeadlessModel:
        """The commission's model on the worker's device; UnfitMachineError where that cannot be had here."""
        path = None if self._asked.checkpoint is None else Path(self._asked.checkpoint)
        try:
            found = model_file(path)
            if found.identity != self._asked.identity:
                raise MagicStyleError(
                    f"{found.title} is {found.identity}, and not {self._asked.identity}, which this run paints with: "
                    "copy the same file to every machine."
                )
            return load_model(path, chosen_device(self._asked.device))
        except Exception as error:  # also what torch says of a device
            raise UnfitMachineError(reason(error)) from None

    def check(self) -> None:
        """Load the model and look for every place of the run; UnfitMachineError where one is not there."""
        for store, what in ((self._portraits, "the portraits"), (self._library_store, "the library")):
            if not store.is_there():
                raise UnfitMachineError(f"it does not see {what}, {store.uri}: mount it there, at the same path.")
        try:
            seen = patiently(lambda: self._out.read(self._asked.settings_file))
        except OSError:
            seen = b""
        if seen != self._asked.settings:
            raise UnfitMachineError(
                f"it does not see what the driver has put into {self._asked.out}: mount the same place there."
            )
        self.model  # noqa: B018 (loads it)

    @cached_property
    def _easel(self) -> Easel:
        return Easel(self.model, self._asked.recipe, quiet=self._quiet)

    def paint(self, unit: Unit) -> Report:
        """Make a unit's pictures, then its manifest; a unit that has one, and lost nothing, is left alone."""
        place = f"{self._asked.manifests}/{unit.name}.json"
        try:
            earlier = None if self._asked.overwrite else self._earlier(place)
            return self._painted(unit, place) if earlier is None or earlier.failed else earlier
        except UnfitMachineError as error:
            return Report(unit.name, 0, (Lost(None, None, str(error)),), unfit=str(error))
        except OSError as error:
            told = (
                f"{self._asked.out} cannot be written ({error.strerror or error}): make room, or choose another place."
            )
            lost = (Lost(None, None, told),)
            return Report(unit.name, 0, lost, stop=told if error.errno in DISK_ERRORS else "")
        except Exception as error:  # the next unit may still succeed
            return Report(unit.name, 0, (Lost(None, None, reason(error)),))

    def _earlier(self, place: str) -> Report | None:
        try:
            return finished(self._out, place)
        except OSError as error:
            raise MagicStyleError(f"{place} in {self._asked.out} cannot be read ({error.strerror or error}).") from None

    def invert_style(self, style: StyleName, data: bytes) -> None:
        """Add a style picture to the library."""
        recipe = replace(self._asked.recipe, layers="all")  # what is kept serves any choice of layers
        image = decode_picture(style.name, data, self._asked.frame)
        easel = Easel(self.model, recipe, quiet=self._quiet)
        found = easel.invert("style", style.name, image, storage="latents")
        self._library.put(style, found.features, self.model.scale_factor)

    def _painted(self, unit: Unit, place: str) -> Report:
        started, rows = time.monotonic(), self.model.rows
        lost: list[Lost] = []
        digests: dict[str, str] = {}
        contents = self._contents(unit, lost, digests)
        styles = self._chosen(unit, lost)
        made = self._put_all(contents, styles, digests, lost) if contents and styles else 0
        seconds = round(time.monotonic() - started, 3)
        report = Report(unit.name, made, tuple(lost), self.model.rows - rows, seconds)
        self._out.put(place, manifest(unit, report, digests))
        return report

    def _contents(self, unit: Unit, lost: list[Lost], digests: dict[str, str]) -> dict[str, ImageFeatures]:
        """The portraits inverted, without those that cannot be."""
        found = {}
        for portrait in unit.portraits:
            try:
                found[portrait.name] = self._content(portrait, digests)
            except Exception as error:
                lost.append(Lost(portrait.name, None, reason(error)))
        return found

    def _content(self, portrait: Entry, digests: dict[str, str]) -> ImageFeatures:
        try:
            data = patiently(lambda: self._portraits.read(portrait.name))
        except OSError as error:
            raise MagicStyleError(f"{portrait.name} cannot be read ({error.strerror or error}).") from None
        digests[portrait.name] = digest(data)
        image = decode_picture(portrait.name, data, self._asked.frame)
        return self._easel.invert("content", portrait.name, image, storage="latents").features

    def _chosen(self, unit: Unit, lost: list[Lost]) -> dict[StyleName, ImageFeatures]:
        """The unit's styles from the library; those of the unit before are kept where they serve again."""
        known, self._styles = self._styles, {}
        for style in unit.styles:
            try:
                self._styles[style] = known[style] if style in known else self._style(style)
            except MagicStyleError as error:  # never kept: the next unit reads it again
                lost.extend(Lost(portrait.name, style.name, str(error)) for portrait in unit.portraits)
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
        lost: list[Lost],
    ) -> int:
        """Paint every content with every style and put the pictures -> how many."""
        rows = self._asked.batch or rows_at_once(self.model.device)
        with self._easel.progress(f"paint {len(contents)} x {len(styles)}") as callback:
            sides = list(contents.values()), list(styles.values())
            latents = paint_block(self.model, *sides, self._asked.recipe, rows, callback)
        made = 0
        for (c, portrait), (s, style) in product(enumerate(contents), enumerate(styles)):
            try:
                picture = self._easel.picture(latents[c, s], "the result")
            except MagicStyleError as error:
                lost.append(Lost(portrait, style.name, str(error)))
                continue
            self._put(picture, portrait, style, digests[portrait])
            made += 1
        return made

    def _put(self, picture: Image.Image, portrait: str, style: StyleName, content: str) -> None:
        name = output_name(self._asked.key, portrait, style.name)
        self._out.put(name, png_bytes(picture, self._asked.record(content, style.digest)))

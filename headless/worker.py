"""A worker: one model that inverts styles for a library, and paints units of portraits and styles from it."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path

from PIL import Image

from ..core.errors import MagicStyleError
from ..core.features import ImageFeatures
from .blocks import rows_at_once
from .command import chosen_device
from .commission import Commission
from .easel import Easel, reason
from .jobs import DISK_ERRORS
from .library import Library
from .lockstep import paint_block
from .model import HeadlessModel, load_model
from .names import StyleName, digest, output_name
from .pictures import decode_picture
from .png import png_bytes
from .store import Entry, open_store
from .units import Lost, Report, Unit, finished, manifest


class Worker:
    """What one process does for a commission; the model is loaded with the first unit that asks for it."""

    def __init__(self, commission: Commission, *, quiet: bool = True) -> None:
        self._asked = commission
        self._quiet = quiet
        self._portraits = open_store(commission.portraits)
        self._out = open_store(commission.out)
        self._library = Library(open_store(commission.library), commission.library_key)
        self._styles: dict[StyleName, ImageFeatures | MagicStyleError] = {}

    @cached_property
    def model(self) -> HeadlessModel:
        """The commission's model on the worker's device."""
        path = self._asked.checkpoint
        return load_model(None if path is None else Path(path), chosen_device(self._asked.device))

    @cached_property
    def _easel(self) -> Easel:
        return Easel(self.model, self._asked.recipe, quiet=self._quiet)

    def paint(self, unit: Unit) -> Report:
        """Make a unit's pictures, then its manifest; a unit that has one, and lost nothing, is left alone."""
        place = f"{self._asked.manifests}/{unit.name}.json"
        try:
            earlier = None if self._asked.overwrite else finished(self._out, place)
            return self._painted(unit, place) if earlier is None or earlier.failed else earlier
        except OSError as error:
            told = (
                f"{self._asked.out} cannot be written ({error.strerror or error}): make room, or choose another place."
            )
            lost = (Lost(None, None, told),)
            return Report(unit.name, 0, lost, stop=told if error.errno in DISK_ERRORS else "")
        except Exception as error:  # the next unit may still succeed
            return Report(unit.name, 0, (Lost(None, None, reason(error)),))

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
            data = self._portraits.read(portrait.name)
        except OSError as error:
            raise MagicStyleError(f"{portrait.name} cannot be read ({error.strerror or error}).") from None
        digests[portrait.name] = digest(data)
        image = decode_picture(portrait.name, data, self._asked.frame)
        return self._easel.invert("content", portrait.name, image, storage="latents").features

    def _chosen(self, unit: Unit, lost: list[Lost]) -> dict[StyleName, ImageFeatures]:
        """The unit's styles from the library; those of the unit before are kept where they serve again."""
        known = {style: self._styles[style] for style in unit.styles if style in self._styles}
        self._styles = known | {style: self._style(style) for style in unit.styles if style not in known}
        for style, features in self._styles.items():
            if isinstance(features, MagicStyleError):
                lost.extend(Lost(portrait.name, style.name, str(features)) for portrait in unit.portraits)
        return {style: features for style, features in self._styles.items() if isinstance(features, ImageFeatures)}

    def _style(self, style: StyleName) -> ImageFeatures | MagicStyleError:
        try:
            return self._library.read(style, self.model.scale_factor)
        except MagicStyleError as error:
            return error
        except OSError as error:
            return MagicStyleError(f"the library's style {style.name} cannot be read ({error.strerror or error}).")

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

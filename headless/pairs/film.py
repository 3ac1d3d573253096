"""A video painted frame by frame in one style: batches of frames, each kept as a file until the video is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...banks.bank import FeatureBank, StyleEntry
from ...banks.stored_features import feature_bytes
from ...core.adain import adain_map
from ...core.errors import MagicStyleError
from ...core.layers import select_layers
from ..console import Console
from ..engine.blocks import rows_at_once
from ..engine.model import HeadlessModel
from ..engine.recipe import Recipe
from ..engine.session import Session, reason
from ..engine.stylize import InvertedPicture, invert, paint
from ..pictures.png import inspect, write_png
from ..pictures.reading import fitted, read_picture, to_tensor
from ..pictures.sizes import shape_notes
from ..pictures.video import read_frames, write_video
from .film_plan import FilmOrder
from .memory import free_bytes

PART = 4  # the features of a batch of frames may take a quarter of the free memory


def paint_film(
    model: HeadlessModel, recipe: Recipe, order: FilmOrder, console: Console, batch: int | None
) -> str | None:
    """Make the video -> why it could not be made, if so; `batch` is how many frames are painted at once."""
    try:
        FilmPainter(model, recipe, order, console, batch).paint()
    except (MagicStyleError, OSError):
        raise
    except Exception as error:
        return reason(error)
    return None


class FilmPainter:
    """A model at work on one video: the style stays inverted, frames come in batches."""

    def __init__(
        self, model: HeadlessModel, recipe: Recipe, order: FilmOrder, console: Console, batch: int | None
    ) -> None:
        self._model, self._recipe, self._order, self._console = model, recipe, order, console
        self._session = Session(model, recipe, quiet=console.quiet)
        self._batch = batch or self._fitting_batch()
        self._moved: Callable[[Tensor], Tensor] | None = None

    def paint(self) -> None:
        """Paint the frames that are not there yet, then write the video and remove them."""
        order = self._order
        for note in shape_notes(str(order.source), order.facts.size, order.size):
            self._console.note(note)
        style = self._session.invert("style", order.style.name, read_picture(order.style, order.style_size))
        fitting = (fitted(frame, order.size) for frame in read_frames(order.source))
        first, count = next(fitting), 0
        frames = chain([first], fitting)
        while batch := list(islice(frames, self._batch)):
            numbered = enumerate(batch, count + 1)
            missing = {number: frame for number, frame in numbered if not self._is_finished(number)}
            if missing:
                self._paint_frames(missing, first, style)
            count += len(batch)
        self._console.progress(f"writing {order.result}")
        files = (order.frame(number) for number in range(1, count + 1))
        write_video(order.result, order.source, (_read(file) for file in files), order.record)
        shutil.rmtree(order.folder)

    def _paint_frames(self, frames: dict[int, Image.Image], first: Image.Image, style: InvertedPicture) -> None:
        """A batch of frames by their numbers; `first` is the video's first one."""
        numbers = f"{min(frames)} to {max(frames)}"
        total = f" of {self._order.facts.frames}" if self._order.facts.frames else ""
        self._console.progress(f"frames {numbers}{total}")
        found = self._inverted(numbers, *frames.values())
        if self._moved is None:  # the first frame's statistics are those of all, so that a fade stays
            noise = found.noise[:1] if 1 in frames else self._inverted("1", first).noise
            self._moved = adain_map(noise, style.noise, self._recipe.adain)
        bank = FeatureBank(found.features, (StyleEntry(style.features),))
        with self._session.progress(f"paint frames {numbers}") as callback:
            latents = paint(self._model, bank, found.noise_pair.map(self._moved), self._recipe, callback)
        self._order.folder.mkdir(parents=True, exist_ok=True)
        for number, latent in zip(frames, latents.split(1), strict=True):
            write_png(self._order.frame(number), self._session.picture(latent, f"frame {number}"), self._record(number))

    def _inverted(self, numbers: str, *frames: Image.Image) -> InvertedPicture:
        latents = self._model.encode(torch.cat([to_tensor(frame) for frame in frames]))
        with self._session.progress(f"invert frames {numbers}") as callback:
            return invert(self._model, latents, self._recipe, roles=self._recipe.content_roles, callback=callback)

    def _is_finished(self, number: int) -> bool:
        path = self._order.frame(number)
        if not path.is_file():
            return False
        seen = inspect(path)
        return seen.whole and seen.record == self._record(number)

    def _record(self, number: int) -> str:
        return json.dumps({**json.loads(self._order.record), "frame": number}, sort_keys=True)

    def _fitting_batch(self) -> int:
        """As many frames as the device computes well at once, if their features fit a part of the free memory."""
        (width, height), model = self._order.size, self._model
        every = model.architecture.grids((height // model.downscale, width // model.downscale))
        grids = {layer: every[layer] for layer in select_layers(self._recipe.kept_layers, every)}
        levels = -(-len(self._recipe.sigmas) // self._recipe.every)
        roles = self._recipe.content_roles
        one = levels * feature_bytes(grids, model.architecture.widths, 1, 1, roles, torch.float16)
        return int(max(1, min(rows_at_once(model.device), free_bytes() // (PART * one))))


def _read(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")

"""What every run does with a model: invert a picture, decode what was painted, and show how far each phase is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ...core.errors import MagicStyleError, one_line
from ...core.ranges import check_finite
from ..console import LONGEST
from ..pictures.reading import to_images, to_tensor
from .model import HeadlessModel
from .recipe import Recipe
from .stylize import InvertedPicture, invert

OVERFLOW = "set temperature and weights nearer to their defaults, or give another checkpoint"


class Session:
    """A model at work with one recipe."""

    def __init__(self, model: HeadlessModel, recipe: Recipe, *, quiet: bool) -> None:
        self.model = model
        self.recipe = recipe
        self._quiet = quiet

    def invert(
        self, role: Literal["content", "style"], name: str, image: Image.Image, *, storage: str = "features"
    ) -> InvertedPicture:
        """A picture inverted as a content or a style, with what the recipe reads of it."""
        roles = self.recipe.content_roles if role == "content" else self.recipe.style_roles
        latent = self.model.encode(to_tensor(image))
        with self.progress(f"invert {role} {name}") as callback:
            found = invert(self.model, latent, self.recipe, roles=roles, storage=storage, callback=callback)
        for end in found.noise_pair.tensors.values():
            check_finite(end, f"the inversion of {name}", OVERFLOW)
        return found

    def picture(self, latent: Tensor, what: str) -> Image.Image:
        """A latent 1 c h w as a picture."""
        pixels = self.model.decode(latent)
        for values in (latent, pixels):  # infinity may come out of the decoder as white
            check_finite(values, what, OVERFLOW)
        return to_images(pixels)[0]

    @contextmanager
    def progress(self, phase: str) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A bar of the steps of one phase."""
        total = len(self.recipe.sigmas) - 1
        with tqdm(total=total, desc=phase, unit="step", disable=self._quiet or None) as bar:
            yield lambda state: bar.update()


def reason(error: Exception) -> str:
    """Why something failed, in one line."""
    text = one_line(error, LONGEST)
    if isinstance(error, MagicStyleError):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return "there is not enough memory: choose a smaller --size, fewer --layers or fewer --steps."
    return f"{type(error).__name__}: {text}"

"""Two public-domain photographs that test packages carry: Eileen Collins (NASA) and Grace Hopper (US Navy)."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import skimage.data
from PIL import Image

# left, upper, side of the head and shoulders, in the picture's own pixels
PORTRAIT_CROP = (96, 0, 270)
STYLE_CROP = (90, 20, 340)


def crop(image: Image.Image, left: int, upper: int, side: int, size: tuple[int, int]) -> np.ndarray:
    """A square of the picture, cut to the aspect of (width, height) and resized -> h w 3, uint8."""
    width, height = size
    scale = side / max(size)
    box_width, box_height = width * scale, height * scale
    left, upper = left + (side - box_width) / 2, upper + (side - box_height) / 2
    box = (left, upper, left + box_width, upper + box_height)
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS, box=box))


def portrait(size: tuple[int, int] = (512, 512)) -> np.ndarray:
    """The content: an astronaut in an orange suit before a pale wall."""
    return crop(Image.fromarray(skimage.data.astronaut()), *PORTRAIT_CROP, size)


def style(size: tuple[int, int] = (512, 512)) -> np.ndarray:
    """The style: a naval officer in navy and gold before a blue wall."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return crop(Image.open(path), *STYLE_CROP, size)

"""The working size of pictures: each in its own aspect where the model can, else cropped to the nearest one."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from ...core.errors import MagicStyleError

Size = tuple[int, int]  # width, height

SIDES = range(64, 2049)
GRID = 8  # pixels per latent pixel
UNIT = 8 * GRID  # what every level of the UNet halves without a rest
WIDEST = 2.0  # aspect that is kept; a longer picture is cropped to it
LONGEST = 8.0  # aspect that is worked on at all
SMALLEST = 32  # pixels of the shorter side
WIDE, TALL = 1.25, 1.6  # aspects from which on a portrait may hold more than head and shoulders
SMALL_HEAD = 80  # pixels from the chin to the top of the hair: at 60 eyes and mouth are lost, at 107 they stay


class Frame(NamedTuple):
    """The working size: one for all pictures, or each picture's own aspect at about the same area."""

    size: Size
    fixed: bool

    def around(self, picture: Size) -> Size:
        """The working size of a picture."""
        return self.size if self.fixed else nearest_aspect(picture, self.size[0] * self.size[1])


class LongerSide(NamedTuple):
    """The working size: each picture's own aspect, its longer side at a length; a small picture at half of it."""

    side: int

    def around(self, picture: Size) -> Size:
        """The working size of a picture, enlarged to the whole length only where that is at most twice its own."""
        side = self.side if 2 * max(picture) >= self.side else self.side // 2
        ratio = min(max(picture[0] / picture[1], 1.0 / WIDEST), WIDEST)
        shorter = range(-(-side // (2 * UNIT)) * UNIT, side + 1, UNIT)
        sizes = [(side, short) for short in shorter] if ratio > 1.0 else [(short, side) for short in shorter]
        return min(sizes, key=lambda size: _distance(size, ratio))


def nearest_aspect(picture: Size, area: int) -> Size:
    """The size in multiples of UNIT that comes nearest to a picture's aspect at about an area of pixels."""
    ratio = min(max(picture[0] / picture[1], 1.0 / WIDEST), WIDEST)
    sides = range(UNIT, SIDES[-1] + 1, UNIT)
    near = [(w, h) for w in sides for h in sides if 0.8 * area <= w * h <= 1.15 * area and w <= 2 * h and h <= 2 * w]
    return min(near, key=lambda size: (_distance(size, ratio), abs(size[0] * size[1] - area)))


def parse_size(text: str) -> Size:
    """'512' or '384x512' -> (width, height)."""
    found = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text.strip().lower())
    if found is None:
        raise MagicStyleError(
            f"--size is '{text[:40]}': write one side, such as 512, or width x height, such as 384x512."
        )
    size = int(found[1]), int(found[2] or found[1])
    if any(side % GRID or side not in SIDES for side in size):
        raise MagicStyleError(f"--size is '{text}': choose multiples of {GRID} from {SIDES[0]} to {SIDES[-1]}.")
    return size


def cropped(picture: Size, size: Size) -> Size:
    """What is left of a picture that is cropped to the aspect of `size`, in its own pixels."""
    width, height = picture
    if width * size[1] > size[0] * height:
        return max(round(height * size[0] / size[1]), 1), height
    return width, max(round(width * size[1] / size[0]), 1)


def check_shape(name: str, picture: Size) -> None:
    """Refuse what no working size can show."""
    width, height = picture
    if min(picture) < SMALLEST:
        raise MagicStyleError(
            f"{name} has {width}x{height} pixels: give a picture whose shorter side has at least {SMALLEST}."
        )
    if max(picture) > LONGEST * min(picture):
        raise MagicStyleError(
            f"{name} has {width}x{height} pixels, a strip {max(picture) / min(picture):.0f} times as long as wide: "
            "cut out the part that you want."
        )


def shape_notes(name: str, picture: Size, size: Size) -> list[str]:
    """What a user should know about how a picture becomes the working size."""
    left, notes = cropped(picture, size), []
    if left != picture:
        side = "upper part" if left[1] < picture[1] else "middle"
        notes.append(f"{name}: cropped {_text(picture)} to {_text(left)}, its {side}")
    if size[0] > 2 * left[0]:
        notes.append(f"{name}: {_text(left)} is enlarged to {_text(size)}, which stays soft")
    return notes


def face_notes(name: str, picture: Size, size: Size) -> list[str]:
    """What the demo model's user should know of a portrait whose shape lets its face become small."""
    width, height = picture
    if width <= WIDE * height and height <= TALL * width:
        return []
    shape = "wide" if width > height else "tall"
    return [
        f"{name} is {shape} ({_text(picture)}) and is painted at {_text(size)}: where a head comes out less than about "
        f"{SMALL_HEAD} pixels high its features dissolve, so cut the picture to head and shoulders if yours is smaller"
    ]


def _distance(size: Size, ratio: float) -> float:
    return round(abs(math.log(size[0] / size[1] / ratio)), 6)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"

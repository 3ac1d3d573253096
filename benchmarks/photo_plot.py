"""Identity against style as a plot, drawn with Pillow: a point for each row, the front as a line through the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from .likeness_plot import BOTTOM, GRID, INK, LEFT, RIGHT, SCALE, SIZE, TOP, Axis, font
from .photo_measures import Score

COLOUR, BEST = "#2f6fb0", "#c0392b"
ENDS = ("the photograph itself", "the style picture itself", "another of the style pictures")


class Point(NamedTuple):
    """What a row is called, the share of the photograph's style distance that is left, and how far its face is."""

    label: str
    style: float
    identity: float


def points(scores: Mapping[str, Score]) -> list[Point]:
    """The rows that have both numbers."""
    found = [Point(label.replace("`", "").replace("*", ""), s.patches, s.identity) for label, s in scores.items()]
    return [point for point in found if math.isfinite(point.identity)]


def front(found: Sequence[Point]) -> list[Point]:
    """Those that no other beats in both, by style."""
    best = [a for a in found if not any(b.identity < a.identity and b.style < a.style for b in found)]
    return sorted(best, key=lambda point: point.style)


def front_plot(panels: Mapping[str, Mapping[str, Score]]) -> Image.Image:
    """A panel for each title, its rows of the same pairs, below one another; lower is better on both axes."""
    shown = [_panel(title, points(scores)) for title, scores in panels.items() if points(scores)]
    image = Image.new("RGB", (SIZE[0], SIZE[1] * len(shown)), "white")
    for place, panel in enumerate(shown):
        image.paste(panel, (0, place * SIZE[1]))
    return image.quantize(64)


def _panel(title: str, found: Sequence[Point]) -> Image.Image:
    width, height = (side * SCALE for side in SIZE)
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    kept = [point for point in found if point.label not in ENDS] or list(found)
    x = Axis(*_range([p.style for p in kept], 0.35), LEFT * SCALE, width - RIGHT * SCALE)
    y = Axis(*_range([p.identity for p in kept], 0.0), height - BOTTOM * SCALE, TOP * SCALE)
    _frame(pen, title, x, y)
    best = front(kept)
    pen.line([(x.at(p.style), y.at(p.identity)) for p in best], fill=BEST, width=2 * SCALE)
    taken: list[tuple[float, float]] = []
    for point in sorted(kept, key=lambda point: -point.identity):
        _point(
            pen, point, BEST if point in best else COLOUR, _free(taken, x.at(point.style), y.at(point.identity)), x, y
        )
    return image.resize(SIZE, Image.Resampling.LANCZOS)


def _range(values: Sequence[float], room: float) -> tuple[float, float]:
    """The ends of an axis around values in steps of 0.05, with a share of room at the right for names."""
    low = math.floor(min(values) * 20 - 0.4) / 20
    high = math.ceil(max(values) * 20 + 0.4) / 20
    return max(low, 0.0), high + room * (high - low)


def _free(taken: list[tuple[float, float]], a: float, b: float) -> float:
    """The height of a name beside a point a, b: moved down until no name before it is in the way."""
    while any(abs(a - x) < 220 * SCALE and abs(b - y) < 16 * SCALE for x, y in taken):
        b += 2 * SCALE
    taken.append((a, b))
    return b


def _frame(pen: ImageDraw.ImageDraw, title: str, x: Axis, y: Axis) -> None:
    for value in x.ticks(0.05):
        pen.line((x.at(value), y.begin, x.at(value), y.end), fill=GRID, width=SCALE)
        pen.text((x.at(value), y.begin + 8 * SCALE), f"{value:.2f}", fill=INK, font=font(15), anchor="mt")
    for value in y.ticks(0.05):
        pen.line((x.begin, y.at(value), x.end, y.at(value)), fill=GRID, width=SCALE)
        pen.text((x.begin - 8 * SCALE, y.at(value)), f"{value:.2f}", fill=INK, font=font(15), anchor="rm")
    text = "share of the photograph's distance to the style picture that is left (5x5 patches)"
    pen.text(((x.begin + x.end) / 2, y.begin + 36 * SCALE), text, fill=INK, font=font(16), anchor="mt")
    text = f"{title.replace('`', '')}: median distance of the face (dlib; one person below 0.6)"
    pen.text((x.begin, y.end - 12 * SCALE), text, fill=INK, font=font(16), anchor="lb")


def _point(pen: ImageDraw.ImageDraw, point: Point, colour: str, height: float, x: Axis, y: Axis) -> None:
    a, b, radius = x.at(point.style), y.at(point.identity), 6 * SCALE
    pen.ellipse((a - radius, b - radius, a + radius, b + radius), fill=colour)
    pen.text((a + 12 * SCALE, height), point.label, fill=colour, font=font(13), anchor="lm")

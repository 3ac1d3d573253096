"""Identity against style as a plot, drawn with Pillow: a point for each row, the front as a line through the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from .likeness_plot import BOTTOM, GRID, INK, LEFT, RIGHT, SCALE, SIZE, TOP, Axis, font
from .photo_measures import Score

COLOUR, BEST, END = "#2f6fb0", "#c0392b", "#888888"
THRESHOLD = 0.6  # dlib's, one person below it
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


def front_plot(scores: Mapping[str, Score]) -> Image.Image:
    """The plot; lower is better on both axes."""
    found = points(scores)
    width, height = (side * SCALE for side in SIZE)
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    x = Axis(0.0, max(1.05, *(p.style for p in found)), LEFT * SCALE, width - RIGHT * SCALE)
    y = Axis(0.0, max(0.9, *(p.identity for p in found)), height - BOTTOM * SCALE, TOP * SCALE)
    _frame(pen, x, y)
    best = front([point for point in found if point.label not in ENDS])
    pen.line([(x.at(p.style), y.at(p.identity)) for p in best], fill=BEST, width=2 * SCALE)
    for point in found:
        _point(pen, point, END if point.label in ENDS else BEST if point in best else COLOUR, x, y)
    return image.resize(SIZE, Image.Resampling.LANCZOS).quantize(64)


def _frame(pen: ImageDraw.ImageDraw, x: Axis, y: Axis) -> None:
    for value in x.ticks(0.1):
        pen.line((x.at(value), y.begin, x.at(value), y.end), fill=GRID, width=SCALE)
        pen.text((x.at(value), y.begin + 8 * SCALE), f"{value:.1f}", fill=INK, font=font(15), anchor="mt")
    for value in y.ticks(0.1):
        pen.line((x.begin, y.at(value), x.end, y.at(value)), fill=GRID, width=SCALE)
        pen.text((x.begin - 8 * SCALE, y.at(value)), f"{value:.1f}", fill=INK, font=font(15), anchor="rm")
    pen.line((x.begin, y.at(THRESHOLD), x.end, y.at(THRESHOLD)), fill=INK, width=SCALE)
    pen.text((x.end, y.at(THRESHOLD)), "one person below this line", fill=INK, font=font(14), anchor="rb")
    text = "share of the photograph's distance to the style picture that is left (5x5 patches)"
    pen.text(((x.begin + x.end) / 2, y.begin + 36 * SCALE), text, fill=INK, font=font(16), anchor="mt")
    text = "identity: median distance of the face (dlib); lower is more like the person"
    pen.text((x.begin, y.end - 12 * SCALE), text, fill=INK, font=font(16), anchor="lb")


def _point(pen: ImageDraw.ImageDraw, point: Point, colour: str, x: Axis, y: Axis) -> None:
    a, b, radius = x.at(point.style), y.at(point.identity), 6 * SCALE
    pen.ellipse((a - radius, b - radius, a + radius, b + radius), fill=colour)
    right = point.style > 0.8 * x.high
    place, anchor = (a - 10 * SCALE, "rb") if right else (a + 10 * SCALE, "lb")
    pen.text((place, b - 2 * SCALE), point.label, fill=colour, font=font(13), anchor=anchor)

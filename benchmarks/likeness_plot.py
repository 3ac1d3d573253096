"""A plot of curves with points, drawn with Pillow: style distance to the right, landmark error upwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIZE, LEFT, TOP, RIGHT, BOTTOM = (1000, 640), 90, 40, 30, 70
SCALE = 2  # drawn so much larger, then reduced
COLOURS = ("#666666", "#2f6fb0", "#c0392b", "#2e8b57")
INK, GRID = "#222222", "#e4e4e4"


class Curve(NamedTuple):
    """A name and its points: style distance, landmark error, and a share that is written beside the point."""

    name: str
    points: list[tuple[float, float, float]]


class Axis(NamedTuple):
    """Values and where they lie on the canvas."""

    low: float
    high: float
    begin: int
    end: int

    def at(self, value: float) -> float:
        """The place of a value."""
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self, step: float) -> list[float]:
        """The multiples of `step` on the axis."""
        first = int(self.low / step + 0.999999)
        return [i * step for i in range(first, int(self.high / step + 1e-9) + 1)]


def draw(curves: Sequence[Curve]) -> Image.Image:
    """The plot."""
    width, height = (side * SCALE for side in SIZE)
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    points = [point for curve in curves for point in curve.points]
    x = Axis(*_range([p[0] for p in points], 0.05), LEFT * SCALE, width - RIGHT * SCALE)
    y = Axis(*_range([p[1] for p in points], 1.0), height - BOTTOM * SCALE, TOP * SCALE)
    _frame(pen, x, y)
    for number, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        _curve(pen, curve, colour, x, y)
        _key(pen, curve.name, colour, number, x, y)
    return image.resize(SIZE, Image.Resampling.LANCZOS).quantize(64)


def _range(values: Sequence[float], step: float) -> tuple[float, float]:
    return int(min(values) / step) * step, (int(max(values) / step) + 1) * step


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The plots' typeface, in pixels of the finished picture."""
    return ImageFont.load_default(size * SCALE)


def _frame(pen: ImageDraw.ImageDraw, x: Axis, y: Axis) -> None:
    for value in x.ticks(0.05):
        place = x.at(value)
        pen.line((place, y.begin, place, y.end), fill=GRID, width=SCALE)
        pen.text((place, y.begin + 8 * SCALE), f"{value:.2f}", fill=INK, font=font(15), anchor="mt")
    for value in y.ticks(1.0):
        place = y.at(value)
        pen.line((x.begin, place, x.end, place), fill=GRID, width=SCALE)
        pen.text((x.begin - 8 * SCALE, place), f"{value:.0f}", fill=INK, font=font(15), anchor="rm")
    text = "style distance of the whole picture (0: the style's own look)"
    pen.text(((x.begin + x.end) / 2, y.begin + 36 * SCALE), text, fill=INK, font=font(16), anchor="mt")
    text = "landmark error, pixels of 256 (beside each point: the share of faces in the style's technique)"
    pen.text((x.begin, y.end - 12 * SCALE), text, fill=INK, font=font(16), anchor="lb")


def _curve(pen: ImageDraw.ImageDraw, curve: Curve, colour: str, x: Axis, y: Axis) -> None:
    places = [(x.at(a), y.at(b)) for a, b, _ in curve.points]
    pen.line(places, fill=colour, width=3 * SCALE, joint="curve")
    for (a, b), (_, _, share) in zip(places, curve.points, strict=True):
        radius = 6 * SCALE
        pen.ellipse((a - radius, b - radius, a + radius, b + radius), fill=colour)
        pen.text((a + 10 * SCALE, b - 4 * SCALE), f"{share:.2f}", fill=colour, font=font(14), anchor="lb")


def _key(pen: ImageDraw.ImageDraw, name: str, colour: str, number: int, x: Axis, y: Axis) -> None:
    top, left = y.end + (18 + 26 * number) * SCALE, x.begin + (x.end - x.begin) * 0.55
    pen.line((left, top, left + 30 * SCALE, top), fill=colour, width=4 * SCALE)
    pen.text((left + 40 * SCALE, top), name, fill=INK, font=font(16), anchor="lm")

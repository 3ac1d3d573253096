"""Rendering techniques: a flat drawing redrawn as ink, hatching, stipple, oil, watercolour, mosaic and so on.

    picture = drawing(7)                          # the seed chooses portrait and technique, independently
    picture = drawing(7, "mosaic", size=256)      # the same portrait as a mosaic

Lengths are in pixels of a 256 pixel picture. No texture has a period below 6 of them, so that an autoencoder that
shrinks pictures 8 times can keep it. Every parameter, ink and paper is drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from .fills import Array, Rng, oklch
from .portraits import Portrait, portrait

SIZE = 256
SOFTNESS = 0.9  # hard edges cost a small autoencoder most of its capacity
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
PLAIN_SHARE = 0.7  # of the portraits are drawn without stripes, dots and the like
REGIONS = ("hair", "face", "clothes", "background")


class Drawing(NamedTuple):
    """A portrait in a technique."""

    image: Array  # h w 3, uint8
    masks: dict[str, Array]  # hair, face, clothes, background: bool h w
    technique: str


@dataclass(frozen=True)
class Scene:
    """The flat drawing that a technique starts from: colours h w 3 and regions h w; `unit` is a pixel of 256."""

    image: Array
    labels: Array
    unit: float

    @property
    def size(self) -> int:
        """Pixels of a side."""
        return len(self.image)

    def blurred(self, sigma: float) -> Array:
        """Colours smoothed over `sigma` units."""
        return ndimage.gaussian_filter(self.image, (sigma * self.unit, sigma * self.unit, 0))

    def grid(self) -> tuple[Array, Array]:
        """Pixel centres in units -> x and y, h w each."""
        axis = (np.arange(self.size, dtype=np.float32) + 0.5) / self.unit
        return np.broadcast_to(axis[None, :], self.labels.shape), np.broadcast_to(axis[:, None], self.labels.shape)

    def noise(self, rng: Rng, period: float) -> Array:
        """Smooth noise of unit variance, h w."""
        field = ndimage.gaussian_filter(rng.standard_normal(self.labels.shape, np.float32), period * self.unit / 4)
        return field / field.std()

    def borders(self) -> Array:
        """Where neighbouring pixels belong to different regions: bool h w."""
        found = np.zeros(self.labels.shape, bool)
        found[1:] |= self.labels[1:] != self.labels[:-1]
        found[:, 1:] |= self.labels[:, 1:] != self.labels[:, :-1]
        return found


def tone(scene: Scene, rng: Rng, sigma: float = 1.5, light: float = 0.35) -> Array:
    """How light the drawing is, stretched to its full range and lit from one side -> h w in 0..1."""
    luma = scene.blurred(sigma) @ LUMA
    low, high = np.percentile(luma, (2, 98))
    x, y = scene.grid()
    angle = rng.uniform(0, 2 * np.pi)
    side = ((x - 128) * np.cos(angle) + (y - 128) * np.sin(angle)) / 360
    return np.clip((luma - low) / max(high - low, 0.15) + light * rng.uniform(0.3, 1.0) * side, 0, 1)


def lines_of(scene: Scene, width: float, threshold: float = 0.035) -> Array:
    """Outlines: where colour changes fast, `width` units wide -> h w in 0..1."""
    soft = scene.blurred(1.2)
    strength = np.hypot(ndimage.sobel(soft, 0), ndimage.sobel(soft, 1)).max(axis=2) / 8 * scene.unit
    peak = strength >= ndimage.maximum_filter(strength, max(3, round(3 * scene.unit))) * 0.92
    seeds = (peak & (strength > threshold)) | scene.borders()
    return _soft_step(width / 2 - ndimage.distance_transform_edt(~seeds) / scene.unit)


def _soft_step(distance: Array, softness: float = 1.6) -> Array:
    """Signed distance in units -> 0..1 over `softness` units."""
    return np.clip(distance / softness + 0.5, 0, 1)


def _mix(paper: Array, ink: Array, amount: Array) -> Array:
    return paper + (ink - paper) * amount[..., None]


def _two_inks(rng: Rng) -> tuple[Array, Array]:
    """A dark ink and a light paper."""
    ink = oklch(rng.uniform(0.15, 0.42), rng.uniform(0.0, 0.14), rng.uniform(0, 360))
    return ink, oklch(rng.uniform(0.84, 0.97), rng.uniform(0.0, 0.07), rng.uniform(0, 360))


def _turned(scene: Scene, angle: float) -> tuple[Array, Array]:
    x, y = scene.grid()
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def flat(scene: Scene, rng: Rng) -> Array:
    """The drawing as it is."""
    return scene.image


def ink(scene: Scene, rng: Rng) -> Array:
    """Pen outlines and solid blacks on paper, with one light wash."""
    dark, paper = _two_inks(rng)
    light = tone(scene, rng, 1.5, 0.0)
    wash = oklch(rng.uniform(0.68, 0.8), rng.uniform(0.04, 0.13), rng.uniform(0, 360))
    picture = _mix(paper, wash, _soft_step((rng.uniform(0.45, 0.6) - light) * 40) * 0.8)
    blacks = _soft_step((rng.uniform(0.16, 0.26) - light) * 40)
    return _mix(picture, dark, np.maximum(lines_of(scene, rng.uniform(3.0, 4.5)), blacks))


def hatching(scene: Scene, rng: Rng) -> Array:
    """Pencil lines, crossed where it is darker, and thin outlines."""
    pencil, paper = _two_inks(rng)
    light, angle, period = tone(scene, rng, 3), rng.uniform(0, np.pi), rng.uniform(7, 9.5)
    drawn = lines_of(scene, 2.2) * 0.85
    for turn, reach in ((0.0, 1.05), (rng.choice([-1, 1]) * rng.uniform(0.9, 1.3), 0.55)):
        across = _turned(scene, angle + turn)[0] + 0.8 * scene.noise(rng, 60)
        distance = np.abs((across / period) % 1 - 0.5) * period  # to the line in the middle of each period
        drawn = np.maximum(drawn, _soft_step((reach - light) * 0.42 * period - distance, 2.2) * 0.9)
    return _mix(paper, pencil, drawn)


def stipple(scene: Scene, rng: Rng) -> Array:
    """Dots of one size, denser where it is darker and along outlines."""
    dark, paper = _two_inks(rng)
    pitch, radius = rng.uniform(5.8, 6.8), rng.uniform(1.8, 2.2)
    shade = np.maximum(0.03 + 0.9 * (1 - tone(scene, rng, 3)) ** 1.3, lines_of(scene, 6.0))
    points = _jittered(scene, rng, pitch, 0.3)
    place = np.clip((points * scene.unit).astype(int), 0, scene.size - 1)
    kept = points[shade[place[:, 1], place[:, 0]] > rng.random(len(points))]
    distance = _nearest(scene, kept)[0][..., 0]
    return _mix(paper, dark, _soft_step(radius - distance, 1.8))


def _jittered(scene: Scene, rng: Rng, pitch: float, jitter: float) -> Array:
    """Points of a shaken hexagonal grid that covers the picture, in units -> n 2 (x, y)."""
    rows, columns = np.mgrid[-1 : 256 / (0.87 * pitch) + 2, -1 : 256 / pitch + 2]
    grid = np.stack([(columns + 0.5 * (rows % 2)) * pitch, rows * 0.87 * pitch], axis=-1).reshape(-1, 2)
    return grid + rng.uniform(-jitter, jitter, grid.shape) * pitch


def _nearest(scene: Scene, points: Array, count: int = 1) -> tuple[Array, Array]:
    """Distances in units to the nearest points and their numbers -> h w count each."""
    pixels = np.stack(scene.grid(), axis=-1).reshape(-1, 2)
    distance, index = cKDTree(points).query(pixels, k=range(1, count + 1))
    shape = (scene.size, scene.size, count)
    return distance.reshape(shape).astype(np.float32), index.reshape(shape)


def oil(scene: Scene, rng: Rng) -> Array:
    """Dabs of a brush along the drawing's lines, large ones first, lit as thick paint."""
    soft = scene.blurred(1.5)
    flow = _flow(scene)
    colours = Image.fromarray((np.clip(scene.blurred(6), 0, 1) * 255).astype(np.uint8))
    relief = Image.new("L", colours.size, 128)
    scale = rng.uniform(0.9, 1.25)
    detail = ndimage.maximum_filter(lines_of(scene, 3.0, 0.06), round(3 * scene.unit))
    for length, width, pitch, everywhere in ((34, 13, 9, 1.0), (22, 8, 6.5, 1.0), (13, 4.5, 4.5, 0.0)):
        points = rng.permutation(_jittered(scene, rng, pitch * scale, 0.5)) * scene.unit
        at = np.clip(points.astype(int), 0, scene.size - 1)
        wanted = np.maximum(detail, everywhere)[at[:, 1], at[:, 0]] > 0.5
        _dabs(
            rng,
            (colours, relief),
            (soft, flow),
            points[wanted],
            (length * scale * scene.unit, width * scale * scene.unit),
        )
    height = ndimage.gaussian_filter(np.asarray(relief, np.float32) / 255, 1.3 * scene.unit)
    light = ndimage.sobel(height, 0) + ndimage.sobel(height, 1)
    paint = ndimage.gaussian_filter(np.asarray(colours, np.float32) / 255, (0.7 * scene.unit, 0.7 * scene.unit, 0))
    return paint - 0.16 * scene.unit * np.clip(light, -0.8, 0.8)[..., None]


def _flow(scene: Scene) -> Array:
    """The direction along lines and borders, smooth between them -> angles h w."""
    luma = scene.blurred(2) @ LUMA
    gy, gx = ndimage.sobel(luma, 0), ndimage.sobel(luma, 1)
    xx, yy, xy = (ndimage.gaussian_filter(g, 9 * scene.unit) for g in (gx * gx, gy * gy, gx * gy))
    return 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2


def _dabs(
    rng: Rng,
    canvases: tuple[Image.Image, Image.Image],
    guides: tuple[Array, Array],
    points: Array,
    sizes: tuple[float, float],
) -> None:
    """Draw dabs of (length, width) pixels at points n 2 on colours and relief; guides: colours, directions."""
    (colours, flow), (length, width) = guides, sizes
    paint, relief = (ImageDraw.Draw(canvas) for canvas in canvases)
    for x, y in points:
        row, column = (int(min(max(v, 0), len(flow) - 1)) for v in (y, x))
        angle = flow[row, column] + rng.normal(0, 0.18)
        shade = colours[row, column] + rng.normal(0, 0.035) + rng.normal(0, 0.02, 3)
        half = 0.5 * length * rng.uniform(0.6, 1.1)
        dx, dy = half * np.cos(angle), half * np.sin(angle)
        ends = [(x - dx, y - dy), (x, y), (x + dx, y + dy)]
        thick = max(1, round(width * rng.uniform(0.8, 1.15)))
        for draw, fill in (
            (paint, tuple(int(c) for c in np.clip(shade * 255, 0, 255))),
            (relief, int(rng.integers(30, 225))),
        ):
            draw.line(ends, fill=fill, width=thick)
            for ex, ey in (ends[0], ends[2]):
                draw.ellipse((ex - thick / 2, ey - thick / 2, ex + thick / 2, ey + thick / 2), fill=fill)


def watercolour(scene: Scene, rng: Rng) -> Array:
    """Transparent washes with dark rims and white gaps, pigment in clouds, on paper with a tooth."""
    paper = oklch(rng.uniform(0.93, 0.98), rng.uniform(0.0, 0.03), rng.uniform(40, 110))
    wobble = [2.5 * scene.unit * scene.noise(rng, 40) for _ in range(2)]
    y, x = np.mgrid[0 : scene.size, 0 : scene.size].astype(np.float32)
    at = [y + wobble[0], x + wobble[1]]
    moved = np.stack(
        [ndimage.map_coordinates(scene.blurred(1.5)[..., c], at, order=1, mode="nearest") for c in range(3)], -1
    )
    labels = ndimage.map_coordinates(scene.labels, at, order=0, mode="nearest")
    inside = ndimage.distance_transform_edt(~Scene(moved, labels, scene.unit).borders()) / scene.unit
    inside = np.minimum(inside, _to_frame(scene) - 6 + 3 * scene.noise(rng, 60))
    wet = _soft_step(inside - rng.uniform(1.8, 2.6), 1.8)
    rim = np.exp(-(((inside - 4.5) / 2.2) ** 2))
    clouds = 0.16 * scene.noise(rng, 70) + 0.05 * scene.noise(rng, 9)
    density = wet * np.clip(rng.uniform(0.62, 0.8) + 0.4 * rim + clouds, 0.1, 1.3)
    return paper * (1 - density[..., None] * (1 - np.clip(moved, 0.02, 1)))


def _to_frame(scene: Scene) -> Array:
    """Distance to the picture's frame in units."""
    x, y = scene.grid()
    return np.minimum(np.minimum(x, 256 - x), np.minimum(y, 256 - y))


def mosaic(scene: Scene, rng: Rng) -> Array:
    """Square stones in bent rows, each of one colour, with joints between them."""
    pitch, joint = rng.uniform(9, 12), rng.uniform(1.2, 1.7)
    u, v = (axis + 2.2 * scene.noise(rng, 90) for axis in _turned(scene, rng.uniform(-0.5, 0.5)))
    cell = np.floor(u / pitch).astype(int), np.floor(v / pitch).astype(int)
    stones = _per_cell(scene, rng, (cell[0] - cell[0].min()) * 1000 + cell[1] - cell[1].min(), 0.06)
    edge = np.minimum(_to_line(u, pitch), _to_line(v, pitch))
    grout = oklch(rng.choice([rng.uniform(0.12, 0.3), rng.uniform(0.85, 0.95)]), 0.02, rng.uniform(0, 360))
    bevel = 0.05 * (((u / pitch) % 1 < 0.3).astype(np.float32) - ((v / pitch) % 1 > 0.7))
    return _mix(stones + bevel[..., None], grout, _soft_step(joint - edge))


def _to_line(u: Array, period: float) -> Array:
    """Distance to the nearest multiple of a period."""
    return (0.5 - np.abs((u / period) % 1 - 0.5)) * period


def _per_cell(scene: Scene, rng: Rng, cells: Array, jitter: float) -> Array:
    """The mean colour of every cell, a little lighter or darker by chance -> h w 3."""
    _, index = np.unique(cells, return_inverse=True)
    index = index.reshape(-1)
    count = np.bincount(index)
    means = np.stack([np.bincount(index, scene.image[..., c].reshape(-1)) / count for c in range(3)], axis=1)
    means = means * (1 + rng.normal(0, jitter, (len(means), 1))) + rng.normal(0, jitter / 3, means.shape)
    return means[index].reshape(scene.image.shape)


def stained_glass(scene: Scene, rng: Rng) -> Array:
    """Large panes of strong colour, brighter in their middle, in dark lead that follows the drawing."""
    points = _jittered(scene, rng, rng.uniform(26, 34), 0.4)
    distance, index = _nearest(scene, points, 2)
    panes = _per_cell(scene, rng, index[..., 0] * 8 + scene.labels, 0.12)
    grey = (panes @ LUMA)[..., None]
    strong = np.clip(grey + (panes - grey) * rng.uniform(1.5, 2.0), 0, 1)
    lead = np.minimum(
        (distance[..., 1] - distance[..., 0]) / 2, ndimage.distance_transform_edt(~scene.borders()) / scene.unit
    )
    glow = 0.72 + 0.42 * np.clip(lead / 10, 0, 1)
    dark = oklch(rng.uniform(0.08, 0.2), 0.02, rng.uniform(0, 360))
    features = lines_of(scene, 2.4, 0.06) * (scene.labels == REGIONS.index("face"))
    return _mix(
        np.clip(strong * glow[..., None], 0, 1), dark, np.maximum(_soft_step(rng.uniform(2.0, 2.8) - lead), features)
    )


def linocut(scene: Scene, rng: Rng) -> Array:
    """Ink printed from a carved block: bare paper in the lights, gouged lines along the contours elsewhere."""
    dark, paper = _two_inks(rng)
    light, period = tone(scene, rng, 3), rng.uniform(9, 12)
    contour = ndimage.gaussian_filter(ndimage.distance_transform_edt(~scene.borders()), 3 * scene.unit) / scene.unit
    along = contour + 1.5 * scene.noise(rng, 50)
    gouge = (light - 0.22) * 0.62 * period - _to_line(along, period)
    cut = np.maximum(_soft_step(gouge), _soft_step((light - 0.72) * 60))
    edge = lines_of(scene, 3.0) * (light > 0.45)
    return _mix(paper, dark, np.maximum(1 - cut, edge))


def halftone(scene: Scene, rng: Rng) -> Array:
    """Two printed screens of round dots on tinted paper, the second ink turned and shifted."""
    paper = oklch(rng.uniform(0.9, 0.97), rng.uniform(0.0, 0.05), rng.uniform(0, 360))
    hue = rng.uniform(0, 360)
    inks = (
        oklch(rng.uniform(0.3, 0.5), rng.uniform(0.1, 0.18), hue),
        oklch(0.75, rng.uniform(0.12, 0.18), hue + rng.uniform(90, 270)),
    )
    light, pitch, angle = tone(scene, rng, 2.5), rng.uniform(8.5, 11), rng.uniform(0, np.pi / 2)
    tint = _soft_step((rng.uniform(0.55, 0.75) - np.roll(light, round(2 * scene.unit), 1)) * 30)
    u, v = _turned(scene, angle)
    dots = (np.cos(2 * np.pi * u / pitch) + np.cos(2 * np.pi * v / pitch)) / 4 + 0.5
    picture = _mix(paper, paper * inks[1], 0.85 * tint)
    return picture * (1 - _soft_step((dots - 0.08 - 0.9 * light) * 14)[..., None] * (1 - inks[0]))


def chalk(scene: Scene, rng: Rng) -> Array:
    """Rough light lines and rubbed tones on dark paper."""
    board = oklch(rng.uniform(0.16, 0.3), rng.uniform(0.0, 0.06), rng.uniform(0, 360))
    tint = rng.uniform(0.3, 0.75)
    pale = np.clip(0.55 + 0.45 * (tint * scene.blurred(3) + (1 - tint)), 0, 1)
    grain = 0.7 * scene.noise(rng, 7) + 0.5 * scene.noise(rng, 14)
    angle = rng.uniform(0, np.pi)
    streaks = np.sin(2 * np.pi * (_turned(scene, angle)[0] + 1.5 * scene.noise(rng, 30)) / rng.uniform(9, 12))
    rubbed = np.clip(tone(scene, rng, 3) - 0.25, 0, 1) * np.clip(0.42 + 0.22 * grain + 0.28 * streaks, 0, 1)
    stroke = lines_of(scene, rng.uniform(3.5, 5.0)) * np.clip(0.85 + 0.25 * grain, 0.2, 1)
    return _mix(board, pale, np.maximum(rubbed * 0.9, stroke))


def cross_stitch(scene: Scene, rng: Rng) -> Array:
    """Crossed threads, one cross of one colour per cell, on woven cloth."""
    pitch = float(rng.choice([256 / 24, 256 / 21, 256 / 18]))
    x, y = scene.grid()
    cells = np.floor(x / pitch).astype(int) * 1000 + np.floor(y / pitch).astype(int)
    threads = _per_cell(scene, rng, cells, 0.05)
    u, v = (2 * ((axis / pitch) % 1) - 1 for axis in (x, y))
    half = rng.uniform(0.34, 0.42) * pitch / 2
    over, under = (_soft_step(half - np.abs(d) * pitch / 2 / np.sqrt(2), 1.4) for d in (u - v, u + v))
    round_over, round_under = (
        1.06 - 0.45 * np.clip(np.abs(d) * pitch / 2 / np.sqrt(2) / half, 0, 1) ** 2 for d in (u - v, u + v)
    )
    inside = _soft_step((1.0 - np.maximum(np.abs(u), np.abs(v))) * pitch / 2 - 0.3, 1.4)
    cloth = oklch(
        rng.choice([rng.uniform(0.86, 0.95), rng.uniform(0.2, 0.35)]), rng.uniform(0.0, 0.04), rng.uniform(0, 360)
    )
    picture = cloth * np.ones_like(scene.image)
    picture += (under * inside)[..., None] * (threads * 0.86 * round_under[..., None] - picture)
    return picture + (over * inside)[..., None] * (threads * round_over[..., None] - picture)


Technique = Callable[[Scene, Rng], Array]
TECHNIQUES: dict[str, Technique] = {
    paint.__name__: paint
    for paint in (
        flat, ink, hatching, stipple, oil, watercolour, mosaic, stained_glass, linocut, halftone, chalk, cross_stitch,
    )
}  # fmt: skip
NAMES = tuple(TECHNIQUES)


def render(drawn: Portrait, technique: str, rng: Rng) -> Array:
    """Redraw a portrait in a technique -> h w 3, uint8."""
    labels = np.zeros(drawn.image.shape[:2], np.int8)
    for number, region in enumerate(REGIONS):
        labels[drawn.masks[region]] = number
    scene = Scene(drawn.image.astype(np.float32) / 255, labels, len(labels) / SIZE)
    picture = np.clip(TECHNIQUES[technique](scene, rng), 0, 1)
    soft = SOFTNESS * scene.unit
    return (ndimage.gaussian_filter(picture, (soft, soft, 0)) * 255 + 0.5).astype(np.uint8)


def technique_of(seed: int) -> str:
    """The technique that a seed draws."""
    return NAMES[int(np.random.default_rng([2, seed]).integers(len(NAMES)))]


def drawing(seed: int, technique: str | None = None, *, size: int = SIZE) -> Drawing:
    """Draw the portrait of a seed, in the technique of the seed unless one is named; most wear no patterns."""
    plain = bool(np.random.default_rng([4, seed]).random() < PLAIN_SHARE)
    drawn, chosen = portrait(seed, size=size, plain=plain), technique or technique_of(seed)
    return Drawing(render(drawn, chosen, np.random.default_rng([3, seed])), drawn.masks, chosen)

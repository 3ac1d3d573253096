"""Procedural portraits: seeded, varied, 128x128 by default, with a mask per region. Only numpy and Pillow.

    picture = portrait(7)            # one seed for shape and style
    picture = portrait(7, 12)        # the shape of 7 in the style of 12

Coordinates: a picture is the unit square. The head has its own frame (u, v) in half widths and half heights of the
head, u to the right and v downwards, tilted around the chin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .fills import REGIONS, Array, Rng, Style, draw_style, paint

OVERSAMPLING = 3
SOFTNESS = 0.75  # pixels of a 128 pixel picture: hard edges cost a small autoencoder most of its capacity
BACK_HAIR = ("none", "long", "bob", "short", "afro", "bun", "ponytail", "pigtails", "spiky")
BACK_HAIR_ODDS = (0.06, 0.22, 0.16, 0.16, 0.09, 0.11, 0.08, 0.06, 0.06)
FRINGES = ("bangs", "side", "middle", "swept", "high")
COLLARS = ("crew", "v", "shirt", "turtleneck", "scarf", "wide")
EYES = ("almond", "round", "dot", "closed")
MOUTHS = ("smile", "lips", "open", "calm")


class Portrait(NamedTuple):
    """A picture and the regions it consists of."""

    image: Array  # h w 3, uint8
    masks: dict[str, Array]  # hair, face, clothes, background: bool h w, a partition of the picture


@dataclass(frozen=True)
class Shape:
    """Everything about a portrait that is not its style."""

    x: float
    y: float
    width: float
    height: float
    tilt: float
    jaw: float
    gaze: float
    back_hair: str
    fringe: str
    part: float
    volume: float
    length: float
    wave: float
    collar: str
    shoulder_width: float
    shoulder_y: float
    neck: float
    eyes: str
    eye_size: float
    eye_gap: float
    brow: float
    nose: float
    mouth: str
    mouth_width: float
    smile: float
    glasses: bool
    beard: str
    earrings: bool
    backdrop: str
    light: float


def draw_shape(rng: Rng) -> Shape:
    """Draw one anatomy, hair cut and outfit."""
    width = rng.uniform(0.165, 0.215)
    back_hair = str(rng.choice(BACK_HAIR, p=BACK_HAIR_ODDS))
    bearded = back_hair in ("none", "short", "spiky", "afro", "bun") and rng.random() < 0.4
    return Shape(
        x=rng.uniform(0.45, 0.55),
        y=rng.uniform(0.41, 0.47),
        width=width,
        height=width * rng.uniform(1.18, 1.38),
        tilt=rng.uniform(-0.22, 0.22),
        jaw=rng.uniform(0.08, 0.34),
        gaze=rng.uniform(-0.22, 0.22),
        back_hair=back_hair,
        fringe=str(rng.choice(FRINGES)),
        part=rng.choice([-1, 1]) * rng.uniform(0.2, 0.55),
        volume=rng.uniform(0.08, 0.24),
        length=rng.uniform(0.0, 1.0),
        wave=rng.uniform(0.0, 0.09),
        collar=str(rng.choice(COLLARS)),
        shoulder_width=rng.uniform(0.34, 0.48),
        shoulder_y=rng.uniform(0.80, 0.86),
        neck=rng.uniform(0.40, 0.56),
        eyes=str(rng.choice(EYES, p=[0.4, 0.3, 0.2, 0.1])),
        eye_size=rng.uniform(0.17, 0.23),
        eye_gap=rng.uniform(0.40, 0.48),
        brow=rng.uniform(-0.01, 0.06),
        nose=rng.uniform(0.07, 0.14),
        mouth=str(rng.choice(MOUTHS)),
        mouth_width=rng.uniform(0.26, 0.40),
        smile=rng.uniform(0.05, 0.13),
        glasses=bool(rng.random() < 0.2),
        beard=str(rng.choice(["full", "goatee", "moustache"])) if bearded else "none",
        earrings=bool(rng.random() < 0.25),
        backdrop=str(rng.choice(["plain", "disc", "horizon", "arch"], p=[0.45, 0.25, 0.15, 0.15])),
        light=float(rng.choice([-1, 1])),
    )


def _spline(points: list[tuple[float, float]], *, closed: bool = True, per_segment: int = 10) -> Array:
    """Catmull-Rom curve through control points -> n 2."""
    p = np.asarray(points, np.float64)
    if not closed:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    before, start, end, after = (np.roll(p, shift, axis=0) for shift in (1, 0, -1, -2))
    t = np.linspace(0, 1, per_segment, endpoint=False)[None, :, None]
    a, b, c, d = (q[:, None, :] for q in (before, start, end, after))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.reshape(-1, 2) if closed else np.concatenate([curve[1:-2].reshape(-1, 2), p[-2:-1]])


def _ellipse(u: float, v: float, ru: float, rv: float, count: int = 40) -> Array:
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([u + ru * np.cos(t), v + rv * np.sin(t)], axis=1)


def on_picture(shape: Shape, points: Array) -> Array:
    """Head frame (u, v) -> picture coordinates, tilted around the chin: n 2 -> n 2."""
    s = shape
    x, y = points[:, 0] * s.width, (points[:, 1] - 1) * s.height
    turned = np.stack([x * np.cos(s.tilt) - y * np.sin(s.tilt), x * np.sin(s.tilt) + y * np.cos(s.tilt)], axis=1)
    return turned + np.array([s.x, s.y + s.height])


def shape_of(seed: int) -> Shape:
    """The anatomy of a seed's portrait."""
    return draw_shape(np.random.default_rng([0, seed]))


class _Painter:
    """Paints layers on a float picture h w 3 and remembers which region is on top of every pixel."""

    def __init__(self, shape: Shape, style: Style, size: int) -> None:
        self.shape, self.style, self.size = shape, style, size
        self.paints = {region: paint(style.fills[region], size) for region in REGIONS}
        self.image = self.paints["background"].copy()
        self.labels = np.zeros((size, size), np.int8)
        grid = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.grid = grid[None, :], grid[:, None]

    def head(self, points: Array) -> Array:
        """Head frame (u, v) -> picture coordinates."""
        return on_picture(self.shape, points)

    def cover(self, *polygons: Array) -> Array:
        """Antialiased union of polygons -> h w 1 in 0..1."""
        side = self.size * OVERSAMPLING
        mask = Image.new("L", (side, side))
        draw = ImageDraw.Draw(mask)
        for polygon in polygons:
            draw.polygon([tuple(p) for p in (polygon * side).tolist()], fill=255)
        return self._alpha(mask)

    def stroke(self, *curves: Array, width: float, closed: bool = False) -> Array:
        """Antialiased union of round-capped lines, `width` in pixels of a 128 pixel picture -> h w 1 in 0..1."""
        side = self.size * OVERSAMPLING
        mask = Image.new("L", (side, side))
        draw, thick = ImageDraw.Draw(mask), max(1, round(width * side / 128))
        for curve in curves:
            points = [tuple(p) for p in ((np.concatenate([curve, curve[:2]]) if closed else curve) * side).tolist()]
            draw.line(points, fill=255, width=thick, joint="curve")
            for x, y in (points[0], points[-1]):
                draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=255)
        return self._alpha(mask)

    def _alpha(self, mask: Image.Image) -> Array:
        return np.asarray(mask.reduce(OVERSAMPLING), np.float32)[..., None] / 255

    def blend(self, alpha: Array, colour: Array, region: str | None = None) -> None:
        """Put a colour (3,) or a picture h w 3 on top where alpha h w 1 says so."""
        self.image += alpha * (np.asarray(colour, np.float32) - self.image)
        if region is not None:
            self.labels[alpha[..., 0] > 0.5] = REGIONS.index(region)

    def layer(self, region: str, *polygons: Array, colour: Array | None = None) -> Array:
        """Fill polygons as part of a region and outline their union if the style has line art -> their cover."""
        style = self.style
        if style.line_width:
            self.blend(self.stroke(*polygons, width=2 * style.line_width, closed=True), style.line, region)
        alpha = self.cover(*polygons)
        self.blend(alpha, self.paints[region] if colour is None else colour, region)
        return alpha

    def lines(self, *curves: Array, width: float, colour: Array | None = None) -> None:
        """Draw features of the face."""
        self.blend(self.stroke(*curves, width=width), self.style.line if colour is None else colour)

    def glow(self, centre: Array, radius: float) -> Array:
        """A soft spot around a point of the picture -> h w 1."""
        x, y = self.grid
        return np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * radius**2))[..., None]


def head_outline(shape: Shape, grow: float = 0.0) -> Array:
    """The head without ears, in its own frame: n 2."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    v = -np.cos(t)
    narrow = 1 - shape.jaw * np.clip(v + 0.1, 0, None) ** 2
    return np.stack([np.sin(t) * narrow * (1 + grow), v * (1 + grow)], axis=1)


def _backdrop(p: _Painter) -> None:
    s, style = p.shape, p.style
    tint = 0.55 * style.fills["background"].base + 0.45 * style.accent
    if s.backdrop == "disc":
        p.blend(p.cover(_ellipse(s.x + 0.12 * s.light, s.y - 0.05, 0.36, 0.36, 80)), tint)
    elif s.backdrop == "arch":
        frame = np.array([(0.88, 1.1), (0.12, 1.1)])
        arch = _ellipse(0.5, 0.45, 0.38, 0.38, 80)
        p.blend(p.cover(np.concatenate([arch[40:], arch[:1], frame])), tint)
    elif s.backdrop == "horizon":
        level = 0.55 + 0.2 * s.length
        p.blend(
            p.cover(
                _spline([(-0.1, level), (0.3, level - 0.05), (0.7, level + 0.04), (1.1, level - 0.02)], closed=False),
                np.array([(-0.1, level), (1.1, level - 0.02), (1.1, 1.1), (-0.1, 1.1)]),
            ),
            tint,
        )


def _curtain(shape: Shape, half_width: float, bottom: float) -> Array:
    """Hair that hangs beside the head down to `bottom`, symmetric with a wave in it."""
    w, k, top = half_width, shape.wave, -1.0 - shape.volume
    right = [
        (0.0, top),
        (0.65, top + 0.14),
        (w - 0.12, -0.55),
        (w + k, 0.0),
        (w - k, 0.5 * bottom),
        (w + 0.06 + k, bottom),
    ]
    low = [(0.45 * w, bottom + 0.16), (-0.45 * w, bottom + 0.16)]
    return _spline(right + low + [(-u, v) for u, v in right[:0:-1]])


def _mirrored(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-u, v) for u, v in points]


def _cap(shape: Shape) -> Array:
    """The short hair that most cuts have at the back of the head."""
    side = [(0.8, -0.85), (1.1, -0.3), (0.98, 0.3)]
    return _spline([(0, -1 - shape.volume), *side, (0, 0.5), *_mirrored(side[::-1])])


def _tails(shape: Shape) -> list[Array]:
    """One ponytail on the side of the part, or two pigtails."""
    s = shape
    if s.back_hair == "pigtails":
        tail = [(0.85, -0.2), (1.35, -0.3), (1.7, 0.3), (1.6, 0.9 + 0.5 * s.length), (1.3, 0.8), (1.2, 0.3)]
        return [_spline(tail), _spline(_mirrored(tail))]
    tail = [(0.5, -0.9), (1.25, -0.75), (1.6, 0.0), (1.45, 0.9 + 0.5 * s.length), (1.15, 1.0), (1.2, 0.2), (0.9, -0.3)]
    return [_spline(tail if s.part > 0 else _mirrored(tail))]


def _back_hair(shape: Shape, rng: Rng) -> list[Array]:
    """Hair behind the head, in the head's frame."""
    s = shape
    if s.back_hair == "none":
        return []
    if s.back_hair == "long":
        return [_curtain(s, 1.26 + s.volume * 0.5, 1.35 + 0.9 * s.length)]
    if s.back_hair == "bob":
        return [_curtain(s, 1.28 + s.volume * 0.7, 0.55 + 0.45 * s.length)]
    if s.back_hair == "afro":
        t = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        r = 1.42 + 0.28 * s.length + 0.04 * np.cos(rng.integers(11, 16) * t)
        return [np.stack([r * np.cos(t), -0.32 + 0.86 * r * np.sin(t)], axis=1)]
    if s.back_hair == "bun":
        return [_cap(s), _ellipse(0.5 * s.part, -1.28 - s.volume, 0.42 + 0.1 * s.length, 0.34 + 0.06 * s.length)]
    if s.back_hair == "spiky":
        t = np.linspace(-0.62 * np.pi, 0.62 * np.pi, 15)
        r = np.where(np.arange(15) % 2 == 0, 1.08, 1.34 + s.volume)
        return [_cap(s), np.stack([r * np.sin(t), -0.1 - r * np.cos(t)], axis=1)]
    return [_cap(s), *(_tails(s) if "tail" in s.back_hair else [])]


def _hairline(shape: Shape, u: Array) -> Array:
    """How far down the fringe reaches at u -> v."""
    s = shape
    temple = 0.62 * np.clip(np.abs(u), 0, 1.2) ** 4
    if s.fringe == "bangs":
        return -0.36 + 0.04 * np.cos(9 * u) + 0.3 * temple
    if s.fringe == "side":
        return -0.72 + 0.34 * np.abs(u - s.part) ** 0.9 + temple * 0.6
    if s.fringe == "middle":
        return -0.82 + 0.52 * np.abs(u) ** 0.7 + temple * 0.5
    if s.fringe == "swept":
        return -0.52 + 0.3 * np.sin(2.2 * u * np.sign(s.part)) + temple * 0.6
    return -0.70 + 0.08 * np.cos(6 * u) + temple


def front_hair(shape: Shape) -> Array:
    """The hair that falls over the forehead, in the head's frame: n 2."""
    u = np.linspace(1.06, -1.06, 50)
    top = _spline(
        [(-1.08, 0.02), (-1.1, -0.4), (-0.78, -0.9), (0, -1.0 - shape.volume), (0.78, -0.9), (1.1, -0.4), (1.08, 0.02)],
        closed=False,
    )
    return np.concatenate([top, np.stack([u, np.clip(_hairline(shape, u), -0.95, 0.05)], axis=1)])


def _body(p: _Painter) -> None:
    s = p.shape
    w, y, neck = s.shoulder_width, s.shoulder_y, s.neck * s.width
    left = [(s.x - w - 0.06, 1.15), (s.x - w, y + 0.1), (s.x - w + 0.1, y + 0.01), (s.x - neck * 1.5, y - 0.065)]
    p.layer("clothes", _spline(left + [(2 * s.x - x, v) for x, v in left[::-1]] + [(s.x, 1.3)]))
    chin = s.y + s.height
    bottom = {"crew": y - 0.015, "v": y + 0.10, "shirt": y + 0.07, "wide": y + 0.03}.get(s.collar, y - 0.02)
    half = neck * (1.9 if s.collar == "wide" else 1.25)
    opening = _spline(
        [(s.x - half, y - 0.06), (s.x, bottom + (0.03 if s.collar == "v" else 0)), (s.x + half, y - 0.06)], closed=False
    )
    column = np.array(
        [(s.x + neck, y - 0.05), (s.x + neck, chin - 0.12), (s.x - neck, chin - 0.12), (s.x - neck, y - 0.05)]
    )
    p.layer("face", column, opening)
    shade = p.cover(p.head(head_outline(s) + np.array([0.05 * s.light, 0.24])))
    skin = (p.labels == REGIONS.index("face"))[..., None]
    p.blend(0.28 * shade * skin, 0.35 * p.style.fills["face"].base)
    _collar(p, neck, y)


def _collar(p: _Painter, neck: float, y: float) -> None:
    s, style = p.shape, p.style
    if s.collar == "shirt":
        for side in (-1, 1):
            flap = np.array(
                [(1.3 * neck, y - 0.085), (1.9 * neck, y - 0.02), (0.95 * neck, y + 0.085), (0.0, y + 0.06)]
            )
            p.layer("clothes", flap * (side, 1) + (s.x, 0), colour=0.35 * style.accent + 0.65)
    elif s.collar == "turtleneck":
        band = [
            (-1.2 * neck, y - 0.12),
            (1.2 * neck, y - 0.12),
            (1.4 * neck, y - 0.01),
            (0, y + 0.025),
            (-1.4 * neck, y - 0.01),
        ]
        p.layer("clothes", _spline(band) + (s.x, 0))
    elif s.collar == "scarf":
        band = [
            (-1.6 * neck, y - 0.1),
            (0, y - 0.085),
            (1.6 * neck, y - 0.1),
            (1.9 * neck, y),
            (0, y + 0.055),
            (-1.9 * neck, y),
        ]
        tail = np.array([(0.4 * neck, y), (1.3 * neck, y), (1.5 * neck, y + 0.17), (0.7 * neck, y + 0.18)]) * (
            s.light,
            1,
        )
        p.layer("clothes", tail + (s.x, 0), colour=style.accent_other)
        p.layer("clothes", _spline(band) + (s.x, 0), colour=style.accent)


def _face(p: _Painter) -> None:
    s, style = p.shape, p.style
    ears = [p.head(_ellipse(side * 1.0, 0.08, 0.15, 0.19)) for side in (-1, 1)]
    p.layer("face", *ears)
    alpha = p.layer("face", p.head(head_outline(s)))
    x, y = p.grid
    side = np.clip((s.light * (x - s.x) / s.width + 0.3 * (y - s.y) / s.height) * 0.8, 0, 1)[..., None]
    p.blend(style.shading * alpha * side, 0.3 * style.fills["face"].base)
    for sign in (-1, 1):
        spot = p.glow(p.head(np.array([(sign * 0.52 + s.gaze, 0.36)]))[0], 0.26 * s.width)
        p.blend(style.blush * alpha * spot, style.lips)
    if s.earrings and s.back_hair not in ("long", "bob", "afro"):
        p.blend(p.cover(*(p.head(_ellipse(side * 1.04, 0.36, 0.085, 0.075)) for side in (-1, 1))), style.accent)


def _eye(p: _Painter, u: float, v: float, sign: float) -> None:
    s, style = p.shape, p.style
    r, t = s.eye_size, np.linspace(0, np.pi, 16)
    lid = np.stack([u - r * 1.08 * np.cos(t), v + 0.02 - (0.62 if s.eyes == "almond" else 0.8) * r * np.sin(t)], axis=1)
    if s.eyes == "closed":
        p.lines(p.head(np.stack([u - r * np.cos(t), v + 0.4 * r * np.sin(t)], axis=1)), width=1.7)
        return
    if s.eyes == "dot":
        p.blend(p.cover(p.head(_ellipse(u, v, 0.48 * r, 0.52 * r))), style.line)
    else:
        tall = 0.55 if s.eyes == "almond" else 0.78
        p.blend(p.cover(p.head(_ellipse(u, v, r, tall * r))), np.array([0.97, 0.97, 0.95]))
        look = u + 0.5 * s.gaze * r
        p.blend(p.cover(p.head(_ellipse(look, v, 0.55 * r, min(tall, 0.62) * r))), style.iris)
        p.blend(p.cover(p.head(_ellipse(look, v, 0.3 * r, 0.32 * r))), style.line)
        p.lines(p.head(lid), width=1.5)
    p.blend(p.cover(p.head(_ellipse(u + 0.12 * r * sign + 0.1 * r, v - 0.18 * r, 0.15 * r, 0.13 * r))), np.ones(3))


def _features(p: _Painter) -> None:
    s, style = p.shape, p.style
    hair = style.fills["hair"].base if s.back_hair != "none" else style.line
    for sign in (-1.0, 1.0):
        u = sign * s.eye_gap + s.gaze
        _eye(p, u, 0.04, sign)
        arc = np.linspace(-1, 1, 12)
        brow = np.stack([u + 0.24 * arc, -0.23 + 0.05 * arc**2 + s.brow * sign * arc], axis=1)
        p.lines(p.head(brow), width=1.8 + 8 * abs(s.brow), colour=0.6 * hair + 0.4 * style.line)
    shadow = 0.62 * style.fills["face"].base
    n = s.nose
    bridge = [
        (1.25 * s.gaze + 0.02, 0.14),
        (1.45 * s.gaze + 0.05 + n * 0.4, 0.33),
        (1.4 * s.gaze + n, 0.42),
        (1.3 * s.gaze - n * 0.5, 0.44),
    ]
    p.lines(p.head(_spline(bridge, closed=False)), width=1.5, colour=shadow)
    if s.beard == "none":
        _mouth(p)
    if s.glasses:
        frames = [p.head(_ellipse(sign * s.eye_gap + s.gaze, 0.05, 0.35, 0.27)) for sign in (-1, 1)]
        p.blend(p.stroke(*frames, width=1.5, closed=True), style.accent_other)
        p.lines(
            p.head(np.array([(s.gaze - s.eye_gap + 0.35, 0.02), (s.gaze + s.eye_gap - 0.35, 0.02)])),
            width=1.5,
            colour=style.accent_other,
        )


def _mouth(p: _Painter) -> None:
    s, style = p.shape, p.style
    arc, u, v = np.linspace(-1, 1, 16), 1.15 * s.gaze, 0.66
    bend = v + s.smile * (1 - arc**2) - 0.5 * s.smile
    line = np.stack([u + s.mouth_width * arc, bend], axis=1)
    if s.mouth == "open":
        lower = np.stack([u + s.mouth_width * arc[::-1], bend + (0.08 + s.smile) * (1 - arc**2)], axis=1)
        p.blend(p.cover(p.head(np.concatenate([line, lower]))), np.array([0.96, 0.94, 0.92]))
        p.lines(p.head(np.concatenate([line, lower, line[:1]])), width=1.6, colour=style.lips)
    elif s.mouth == "lips":
        upper = np.stack(
            [u + s.mouth_width * arc, bend - 0.07 * (1 - arc**2) * (1 - 0.35 * np.exp(-(arc**2) * 30))], axis=1
        )
        lower = np.stack([u + s.mouth_width * arc[::-1], bend + 0.11 * (1 - arc**2)], axis=1)
        p.blend(p.cover(p.head(np.concatenate([upper, lower]))), style.lips)
        p.lines(p.head(line), width=1.2, colour=0.6 * style.lips)
    else:
        p.lines(
            p.head(line),
            width=2.0 if s.mouth == "smile" else 1.6,
            colour=style.lips if s.mouth == "calm" else style.line,
        )


def _beard(p: _Painter) -> None:
    s = p.shape
    if s.beard in ("full", "goatee"):
        half = 0.98 if s.beard == "full" else 0.42
        t = np.linspace(-1, 1, 30)
        outline = head_outline(s, 0.05)
        lower = outline[(outline[:, 1] > (0.25 if half > 0.9 else 0.72)) & (np.abs(outline[:, 0]) < half + 0.1)]
        upper = np.stack([half * t, (0.5 if half > 0.9 else 0.7) - 0.28 * (half > 0.9) * t**4], axis=1)
        p.layer("hair", p.head(np.concatenate([lower, upper])))
    if s.beard in ("full", "moustache"):
        curl = [(0.0, 0.53), (0.22, 0.5), (0.46, 0.64), (0.22, 0.66), (0.0, 0.62)]
        moustache = _spline(curl + [(-u, v) for u, v in curl[-2:0:-1]])
        p.layer("hair", p.head(moustache + np.array([1.1 * s.gaze, 0])))
    if s.beard != "none":
        _mouth(p)


def _paint_portrait(shape: Shape, style: Style, size: int, rng: Rng) -> Portrait:
    p = _Painter(shape, style, size)
    _backdrop(p)
    hair = [p.head(polygon) for polygon in _back_hair(shape, rng)]
    if hair:
        p.layer("hair", *hair)
    _body(p)
    _face(p)
    _beard(p)
    _features(p)
    if shape.back_hair != "none":
        p.layer("hair", p.head(front_hair(shape)))
    crisp = Image.fromarray((np.clip(p.image, 0, 1) * 255 + 0.5).astype(np.uint8))
    image = np.asarray(crisp.filter(ImageFilter.GaussianBlur(SOFTNESS * size / 128)))
    return Portrait(image, {region: p.labels == i for i, region in enumerate(REGIONS)})


def portrait(
    shape_seed: int,
    style_seed: int | None = None,
    *,
    size: int = 128,
    plain: bool = False,
    pose: Callable[[Shape], Shape] | None = None,
) -> Portrait:
    """Draw the portrait of a seed; a second seed, if given, chooses the style independently of the shape.

    `plain` fills every region with one colour instead of a pattern; `pose` moves what was drawn of the shape."""
    shape_rng = np.random.default_rng([0, shape_seed])  # as shape_of begins
    style_rng = np.random.default_rng([1, shape_seed if style_seed is None else style_seed])
    shape = draw_shape(shape_rng)
    shape = shape if pose is None else pose(shape)
    style = draw_style(style_rng)
    if plain:
        style = replace(style, fills={name: replace(fill, kind="flat") for name, fill in style.fills.items()})
    return _paint_portrait(shape, style, size, shape_rng)


def contact_sheet(pictures: list[Array], columns: int) -> Image.Image:
    """Pictures h w 3, uint8 -> one picture, row by row."""
    height, width = pictures[0].shape[:2]
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (i % columns * width, i // columns * height))
    return sheet

"""Colours and fills of the procedural portraits: palettes in OKLCH, textures as smooth fields h w in 0..1.

No texture has a period below 10 pixels of a 128 pixel picture, so that a small autoencoder can keep it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Rng = np.random.Generator
Tone = tuple[float, float, float]  # OKLCH: lightness, chroma, hue in degrees

REGIONS = ("background", "clothes", "hair", "face")
FILLS = ("flat", "gradient", "stripes", "dots", "checks", "hatching", "noise", "brush")
FILL_ODDS = {
    "background": (0.20, 0.18, 0.12, 0.12, 0.06, 0.08, 0.12, 0.12),
    "clothes": (0.18, 0.08, 0.20, 0.16, 0.10, 0.10, 0.08, 0.10),
    "hair": (0.24, 0.14, 0.14, 0.04, 0.00, 0.12, 0.12, 0.20),
    "face": (0.50, 0.14, 0.06, 0.04, 0.00, 0.08, 0.10, 0.08),
}
CONTRAST = {"background": (0.08, 0.24), "clothes": (0.14, 0.34), "hair": (0.10, 0.24), "face": (0.05, 0.11)}

_LAB_TO_LMS = np.array(
    [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.291485548],
    ]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.707614701],
    ]
)


@dataclass(frozen=True)
class Fill:
    """How one region is filled: two colours and a field that mixes them."""

    kind: str
    base: Array  # (3,) sRGB in 0..1
    other: Array  # (3,)
    field_seed: int


@dataclass(frozen=True)
class Style:
    """Everything about a portrait that is not its shape."""

    fills: dict[str, Fill]
    line: Array  # (3,) colour of line art and features
    line_width: float  # pixels of a 128 pixel picture; 0 draws no outlines
    lips: Array
    iris: Array
    accent: Array
    accent_other: Array
    shading: float
    blush: float


def oklch(lightness: float, chroma: float, hue: float) -> Array:
    """OKLCH (Ottosson 2020), hue in degrees -> sRGB in 0..1."""
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    linear = np.clip(_LMS_TO_RGB @ (_LAB_TO_LMS @ np.array([lightness, a, b])) ** 3, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _natural(rng: Rng) -> dict[str, Tone]:
    skin = [(0.88, 0.04, 60), (0.82, 0.06, 60), (0.75, 0.08, 58), (0.66, 0.09, 55), (0.54, 0.08, 52), (0.44, 0.07, 50)]
    hair = [(0.22, 0.02, 60), (0.33, 0.06, 55), (0.46, 0.09, 58), (0.80, 0.10, 88), (0.55, 0.15, 42), (0.74, 0.01, 250)]
    return {
        "background": (rng.uniform(0.55, 0.93), rng.uniform(0.02, 0.10), rng.uniform(0, 360)),
        "clothes": (rng.uniform(0.32, 0.75), rng.uniform(0.05, 0.17), rng.uniform(0, 360)),
        "hair": hair[rng.integers(len(hair))],
        "face": skin[rng.integers(len(skin))],
    }


def _tones(rng: Rng, levels: Array, chroma: tuple[float, float], spread: float) -> dict[str, Tone]:
    """Give every region a lightness from `levels` and a hue within `spread` degrees of a common one."""
    hue = rng.uniform(0, 360)
    tones = {r: (levels[i], rng.uniform(*chroma), hue + rng.uniform(-spread, spread)) for i, r in enumerate(REGIONS)}
    light, strong, own = tones["face"]
    warm = rng.random() < 0.65  # most faces stay warm, whatever the picture around them does
    return {**tones, "face": (light, min(0.6 * strong, 0.1), rng.uniform(20, 85) if warm else own)}


def _palette(rng: Rng) -> dict[str, Tone]:
    """Draw one palette: lightness, chroma, hue per region."""
    kind = rng.choice(["natural", "pop", "pastel", "night", "duotone", "earth"], p=[0.38, 0.2, 0.14, 0.1, 0.09, 0.09])
    jitter = rng.uniform(-0.05, 0.05, 4)
    if kind == "natural":
        return _natural(rng)
    if kind == "pop":
        return _tones(rng, np.array([0.72, 0.58, 0.42, 0.84]) + jitter, (0.12, 0.22), 180)
    if kind == "pastel":
        return _tones(rng, np.array([0.88, 0.74, 0.62, 0.92]) + jitter * 0.8, (0.05, 0.11), 150)
    if kind == "night":
        return _tones(rng, np.array([0.24, 0.42, 0.58, 0.76]) + jitter, (0.06, 0.16), 70)
    if kind == "duotone":
        levels = np.array([0.86, 0.52, 0.30, 0.76]) if rng.random() < 0.5 else np.array([0.34, 0.62, 0.20, 0.82])
        return _tones(rng, levels + jitter, (0.03, 0.13), 25)
    tones = _tones(rng, np.array([0.76, 0.46, 0.32, 0.68]) + jitter, (0.04, 0.11), 0)
    return {region: (light, chroma, rng.uniform(25, 125)) for region, (light, chroma, _) in tones.items()}


def _fill(rng: Rng, region: str, tone: Tone) -> Fill:
    light, chroma, hue = tone
    step = rng.uniform(*CONTRAST[region]) * (1 if light < 0.45 or (light < 0.7 and rng.random() < 0.5) else -1)
    swing = rng.uniform(-15, 15) if region == "face" else rng.uniform(-70, 70)
    other = oklch(float(np.clip(light + step, 0.1, 0.97)), chroma * rng.uniform(0.7, 1.3), hue + swing)
    kind = str(rng.choice(FILLS, p=FILL_ODDS[region]))
    return Fill(kind, oklch(light, chroma, hue), other, int(rng.integers(2**31)))


def draw_style(rng: Rng) -> Style:
    """Draw one style: palette, a fill per region, line art or not."""
    tones = _palette(rng)
    skin, hue = tones["face"], rng.uniform(0, 360)
    dark = oklch(rng.uniform(0.12, 0.28), rng.uniform(0.0, 0.08), rng.uniform(0, 360))
    return Style(
        fills={region: _fill(rng, region, tones[region]) for region in REGIONS},
        line=dark,
        line_width=float(rng.choice([0.0, 1.3, 2.0, 2.6], p=[0.45, 0.2, 0.2, 0.15])),
        lips=oklch(max(skin[0] - rng.uniform(0.14, 0.26), 0.2), rng.uniform(0.1, 0.18), rng.uniform(5, 35)),
        iris=oklch(rng.uniform(0.35, 0.6), rng.uniform(0.04, 0.13), rng.uniform(0, 360)),
        accent=oklch(rng.uniform(0.6, 0.85), rng.uniform(0.08, 0.18), hue),
        accent_other=oklch(rng.uniform(0.3, 0.55), rng.uniform(0.06, 0.16), hue + rng.uniform(-40, 40)),
        shading=rng.uniform(0.0, 0.22),
        blush=rng.uniform(0.0, 0.45),
    )


def _soft(x: Array, sharpness: float) -> Array:
    """A wave in -1..1 -> a softened square wave in 0..1."""
    return 0.5 + 0.5 * np.tanh(sharpness * x) / np.tanh(sharpness)


def _turned(xy: tuple[Array, Array], angle: float) -> tuple[Array, Array]:
    x, y = xy
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _waves(rng: Rng, xy: tuple[Array, Array], *, squeeze: float, shortest: float, count: int = 9) -> Array:
    """Soft noise as a sum of waves no shorter than `shortest` pixels; `squeeze` < 1 stretches it along x."""
    total = np.zeros_like(xy[0])
    for _ in range(count):
        frequency = 2 * np.pi / rng.uniform(shortest, 3.5 * shortest)
        turn = rng.uniform(-np.pi, np.pi)
        total += np.cos(frequency * (squeeze * np.cos(turn) * xy[0] + np.sin(turn) * xy[1]) + rng.uniform(0, 2 * np.pi))
    return _soft(total / np.sqrt(count / 2), 1.0)


def _grid(size: int, angle: float) -> tuple[Array, Array]:
    """Pixel centres in pixels of a 128 pixel picture, turned by an angle -> x and y, h w each."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (128 / size)
    flat = np.zeros((size, size), np.float32)
    return _turned((flat + axis[None, :], flat + axis[:, None]), angle)


def field(kind: str, seed: int, size: int) -> Array:
    """Draw the mixing field of a fill -> h w in 0..1."""
    rng = np.random.default_rng(seed)
    xy = _grid(size, float(rng.choice([0, 0.25, 0.5, 0.75]) * np.pi + rng.uniform(-0.2, 0.2)))
    period, phase = rng.uniform(10, 20), rng.uniform(0, 2 * np.pi, 2)
    x, y = 2 * np.pi * xy[0] / period + phase[0], 2 * np.pi * xy[1] / period + phase[1]
    fields = {
        "flat": lambda: np.zeros((size, size), np.float32),
        "gradient": lambda: np.clip(0.5 + (xy[0] - xy[0].mean()) / 110, 0, 1),
        "stripes": lambda: _soft(np.sin(x), 2.2),
        "dots": lambda: _soft((np.cos(x) + np.cos(y)) * 0.8 - 0.55, 2.6),
        "checks": lambda: _soft(np.sin(x * 0.7) * np.sin(y * 0.7) * 1.5, 2.2),
        "hatching": lambda: np.maximum(_soft(np.sin(x) - 0.35, 2.2), _soft(np.sin(y) - 0.35, 2.2)),
        "noise": lambda: _waves(rng, xy, squeeze=1.0, shortest=14.0),
        "brush": lambda: _waves(rng, xy, squeeze=0.25, shortest=10.0),
    }
    return fields[kind]()


def paint(fill: Fill, size: int) -> Array:
    """Fill a whole picture -> h w 3 in 0..1."""
    mix = field(fill.kind, fill.field_seed, size)[..., None]
    return (fill.base + (fill.other - fill.base) * mix).astype(np.float32)

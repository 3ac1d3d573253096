"""Draw assets/icon.png, a flat portrait that becomes a painting, and assets/banner.jpg, a photograph painted.

    python -m tools.branding.draw

The demo model paints its own pair for the banner. The icon shows a drawn face: nobody whose photograph is shown here
stands for us.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..pictures.scenes import Look, Scene, ScenePainter, shown

ASSETS = Path(__file__).resolve().parents[2] / "assets"
ICON = 400
BANNER = (1680, 720)  # 21:9
FACE = (0.18, 0.16, 0.82, 0.8)  # of the drawn portrait: left, top, right, bottom
SCALE = 3  # drawn larger, then reduced: smooth edges
Colour = tuple[int, int, int]
Point = tuple[float, float]


class Palette(NamedTuple):
    """The colours of a portrait, from back to front."""

    background: Colour
    clothes: Colour
    skin: Colour
    shade: Colour
    hair: Colour
    light: Colour
    lips: Colour
    dark: Colour


PLAIN = Palette(
    background=(58, 64, 78),
    clothes=(92, 100, 118),
    skin=(222, 190, 168),
    shade=(196, 160, 138),
    hair=(74, 58, 52),
    light=(250, 248, 244),
    lips=(178, 96, 92),
    dark=(42, 36, 38),
)
PAINTED = Palette(
    background=(24, 52, 132),
    clothes=(196, 54, 92),
    skin=(255, 196, 96),
    shade=(238, 128, 62),
    hair=(62, 30, 118),
    light=(255, 248, 208),
    lips=(214, 34, 74),
    dark=(26, 14, 62),
)
INK = (16, 18, 26)
WHITE = (246, 246, 250)
GREY = (178, 184, 200)


def ellipse(draw: ImageDraw.ImageDraw, side: float, centre: Point, radii: Point, colour: Colour) -> None:
    """An ellipse in units of the picture's side."""
    (x, y), (rx, ry) = centre, radii
    draw.ellipse([(x - rx) * side, (y - ry) * side, (x + rx) * side, (y + ry) * side], fill=colour)


def portrait(side: int, palette: Palette) -> Image.Image:
    """Head and shoulders in flat colours."""
    picture = Image.new("RGB", (side, side), palette.background)
    draw = ImageDraw.Draw(picture)
    ellipse(draw, side, (0.50, 0.43), (0.285, 0.330), palette.hair)
    draw.rectangle([0.215 * side, 0.43 * side, 0.785 * side, 0.74 * side], fill=palette.hair)
    ellipse(draw, side, (0.50, 1.06), (0.44, 0.30), palette.clothes)
    draw.polygon(
        [(x * side, y * side) for x, y in ((0.42, 0.66), (0.58, 0.66), (0.62, 0.86), (0.38, 0.86))], palette.shade
    )
    ellipse(draw, side, (0.50, 0.86), (0.12, 0.06), palette.shade)
    ellipse(draw, side, (0.50, 0.50), (0.195, 0.255), palette.skin)
    draw.pieslice([0.29 * side, 0.20 * side, 0.71 * side, 0.58 * side], 180, 350, fill=palette.hair)
    features(draw, side, palette)
    return picture


def features(draw: ImageDraw.ImageDraw, side: int, palette: Palette) -> None:
    """Eyes, brows, nose and mouth."""
    for x in (0.42, 0.58):
        ellipse(draw, side, (x, 0.495), (0.042, 0.022), palette.light)
        ellipse(draw, side, (x, 0.495), (0.019, 0.021), palette.dark)
        brow = [(x - 0.05) * side, 0.435 * side, (x + 0.05) * side, 0.475 * side]
        draw.arc(brow, 200, 340, fill=palette.dark, width=max(1, side // 70))
    draw.line([(0.505 * side, 0.51 * side), (0.525 * side, 0.585 * side), (0.49 * side, 0.592 * side)],
              fill=palette.shade, width=max(1, side // 60), joint="curve")  # fmt: skip
    draw.chord([0.435 * side, 0.60 * side, 0.565 * side, 0.69 * side], 10, 170, fill=palette.lips)


def flow(x: float, y: float) -> float:
    """The direction of a brush stroke: swirls around two centres."""
    angle = 0.0
    for cx, cy, turn in ((0.80, 0.20, 1.0), (0.52, 0.50, 1.0), (0.15, 0.95, -1.0)):
        distance = math.hypot(x - cx, y - cy) + 0.05
        angle += turn * (math.atan2(y - cy, x - cx) + math.pi / 2) / distance
    return angle / 6.0


def varied(colour: Colour, amount: int, rng: random.Random) -> Colour:
    """A colour a little lighter, darker or shifted."""
    lift = rng.gauss(0, amount)
    red, green, blue = (max(0, min(255, round(value + lift + rng.gauss(0, amount / 2)))) for value in colour)
    return red, green, blue


def stroke(draw: ImageDraw.ImageDraw, side: int, start: Point, length: float, width: int, colour: Colour) -> None:
    """A bent brush stroke that follows the flow."""
    points, (x, y) = [start], start
    for _ in range(6):
        angle = flow(x, y)
        x, y = x + math.cos(angle) * length / 6, y + math.sin(angle) * length / 6
        points.append((x, y))
    pixels = [(px * side, py * side) for px, py in points]
    draw.line(pixels, fill=colour, width=width, joint="curve")
    for px, py in (pixels[0], pixels[-1]):
        draw.ellipse([px - width / 2, py - width / 2, px + width / 2, py + width / 2], fill=colour)


def paint(picture: Image.Image, seed: int = 4) -> Image.Image:
    """The picture in brush strokes, coarse ones first."""
    rng, side = random.Random(seed), picture.width
    painted = picture.copy()
    draw = ImageDraw.Draw(painted)
    for count, length, width in ((1500, 0.13, 0.026), (4200, 0.055, 0.012), (9000, 0.016, 0.0055)):
        for _ in range(count):
            x, y = rng.random(), rng.random()
            colour = picture.getpixel((int(x * (side - 1)), int(y * (side - 1))))
            stroke(draw, side, (x, y), length, max(1, round(width * side)), varied(colour, 15, rng))
    return painted


def halves(side: int) -> Image.Image:
    """The plain portrait at the left, its painting at the right of a slanted edge."""
    whole, painted = portrait(side, PLAIN), paint(portrait(side, PAINTED))
    features(ImageDraw.Draw(painted), side, PAINTED)  # whole, also where the icon is small
    mask = Image.new("L", (side, side), 0)
    edge = [(0.57 * side, 0), (side, 0), (side, side), (0.43 * side, side)]
    ImageDraw.Draw(mask).polygon(edge, fill=255)
    whole.paste(painted, (0, 0), mask)
    ImageDraw.Draw(whole).line([edge[0], edge[3]], fill=WHITE, width=side // 80)
    return whole


def rounded(picture: Image.Image, radius: float = 0.12) -> Image.Image:
    """The picture with round, transparent corners."""
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle(
        [0, 0, picture.width - 1, picture.height - 1], radius * picture.width, fill=255
    )
    result = picture.convert("RGBA")
    result.putalpha(mask)
    return result


def icon() -> Image.Image:
    """The face of both halves in a square with round corners."""
    side = ICON * SCALE
    face = halves(side).crop([round(edge * side) for edge in FACE])
    return rounded(face.resize((side, side), Image.Resampling.LANCZOS)).resize((ICON, ICON), Image.Resampling.LANCZOS)


def sign(draw: ImageDraw.ImageDraw, centre: Point, text: str, size: int) -> None:
    """A plus or an equals sign between two pictures."""
    draw.text(centre, text, font=ImageFont.load_default(size), fill=GREY, anchor="mm")


def banner() -> Image.Image:
    """Photograph + painting = the photograph painted, under the pack's name."""
    width, height = (edge * 2 for edge in BANNER)
    page = Image.new("RGB", (width, height), INK)
    draw = ImageDraw.Draw(page)
    side, top = 720, height - 720 - 110
    gap = (width - 3 * side) // 4
    lefts = [gap + i * (side + gap) for i in range(3)]
    looks = shown("collins"), shown("Hokusai"), ScenePainter().painted(Scene("collins", (Look("Hokusai"),)))
    pictures = [ImageOps.fit(look, (side, side), Image.Resampling.LANCZOS, centering=(0.5, 0.1)) for look in looks]
    for left, picture in zip(lefts, pictures, strict=True):
        card = rounded(picture, 0.08)
        page.paste(card, (left, top), card)
    middle = top + side / 2
    sign(draw, (lefts[1] - gap / 2, middle), "+", 240)
    sign(draw, (lefts[2] - gap / 2, middle), "=", 240)
    draw.text((width / 2, 170), "MagicStyle", font=ImageFont.load_default(250), fill=WHITE, anchor="mm")
    tagline = "your photograph, painted like any picture you choose"
    draw.text((width / 2, 390), tagline, font=ImageFont.load_default(96), fill=GREY, anchor="mm")
    return page.resize(BANNER, Image.Resampling.LANCZOS)


def main() -> None:
    """Write both files."""
    ASSETS.mkdir(exist_ok=True)
    icon().save(ASSETS / "icon.png", optimize=True)
    banner().save(ASSETS / "banner.jpg", quality=90, optimize=True)


if __name__ == "__main__":
    main()

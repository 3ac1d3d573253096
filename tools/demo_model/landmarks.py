"""Where the features of a drawn face are, as the drawing script puts them there.

face = face_of(7)                 # the portrait of seed 7 in pixels of 256, whatever its technique
face.points, face.visible         # 10 landmarks (x, y), and which of them no hair covers
face.features                     # where eyes, brows, nose and mouth are: bool h w
face.oval                         # the face itself without neck and ears: bool h w
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .fills import Array
from .portraits import Shape, front_hair, head_outline, on_picture, shape_of

SIZE = 256
LANDMARKS = (
    "left eye", "right eye", "left brow, outer", "left brow, inner", "right brow, inner", "right brow, outer",
    "nose", "left of mouth", "right of mouth", "middle of mouth",
)  # fmt: skip
# half widths and half heights, in the head's frame, of the boxes in which features lie
EYE, BROW, NOSE, MOUTH = (0.27, 0.2), (0.29, 0.12), (0.16, 0.2), (0.06, 0.18)


class Face(NamedTuple):
    """The features of one drawn face."""

    points: Array  # n 2, (x, y) in pixels
    visible: Array  # bool n
    features: Array  # bool h w
    oval: Array  # bool h w


def face_of(seed: int, size: int = SIZE) -> Face:
    """The landmarks and the features of a seed's portrait, in pixels of a picture of `size`."""
    shape = shape_of(seed)
    points = on_picture(shape, landmarks(shape)) * size
    fringe = [front_hair(shape)] if shape.back_hair != "none" else []
    hair, features, oval = (
        _cover([on_picture(shape, part) * size for part in parts], size)
        for parts in (fringe, feature_boxes(shape), [head_outline(shape)])
    )
    x, y = np.clip(points.round().astype(int), 0, size - 1).T
    return Face(points, ~hair[y, x], features & ~hair, oval & ~hair)


def landmarks(shape: Shape) -> Array:
    """The landmarks in the head's frame, in the order of LANDMARKS: n 2."""
    s = shape
    left, right = s.gaze - s.eye_gap, s.gaze + s.eye_gap
    # a brow's height at its left and right end
    low, high = ([-0.18 + s.brow * sign * arc for arc in (-1, 1)] for sign in (-1, 1))
    mouth, corner = 1.15 * s.gaze, 0.66 - 0.5 * s.smile
    return np.array(
        [
            (left, 0.04),
            (right, 0.04),
            (left - 0.24, low[0]),
            (left + 0.24, low[1]),
            (right - 0.24, high[0]),
            (right + 0.24, high[1]),
            (1.4 * s.gaze + s.nose, 0.42),
            (mouth - s.mouth_width, corner),
            (mouth + s.mouth_width, corner),
            (mouth, 0.66 + 0.5 * s.smile),
        ]
    )


def feature_boxes(shape: Shape) -> list[Array]:
    """Rectangles around eyes, brows, nose and mouth in the head's frame, 4 2 each."""
    s = shape
    sides = [s.gaze + sign * s.eye_gap for sign in (-1, 1)]
    mouth = MOUTH[0] + s.mouth_width, MOUTH[1]
    return [
        *(_box(u, 0.04, EYE) for u in sides),
        *(_box(u, -0.21, BROW) for u in sides),
        _box(1.38 * s.gaze + 0.03, 0.3, NOSE),
        _box(1.15 * s.gaze, 0.68, mouth),
    ]


def _box(u: float, v: float, half: tuple[float, float]) -> Array:
    return np.array([(u + a * half[0], v + b * half[1]) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])


def _cover(polygons: list[Array], size: int) -> Array:
    """Where any of the polygons is: bool h w."""
    mask = Image.new("1", (size, size))
    for polygon in polygons:
        ImageDraw.Draw(mask).polygon([tuple(point) for point in polygon.tolist()], fill=1)
    return np.asarray(mask).copy()

"""What painting did to photographs of people: the person kept, the style taken, the structure kept.

Identity is measured by recognisers (benchmarks.recognisers) on results and photographs of every size shown at 512
pixels. Style is what is left of the photograph's distance to the style picture: by Gram matrices of EfficientNet-Lite0
(benchmarks.imagenet), and by the sliced Wasserstein distance of 5x5 patches with their colours. Structure is that of
benchmarks.quality; that of the style picture in the result is what comes along with a style without being asked for.

Letters: b pictures, h w pixels, n samples, d their dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
from magicstyle.headless.pictures.reading import read_picture, to_tensor
from torch import Tensor

from .imagenet import EfficientNetLite0, Gram, gram_distance, grams
from .measures import edge_f1, gradient_correlation, quantiles, smaller
from .photo_ways import Album
from .recognisers import SAME_PERSON, SIDE, Face, Recognisers, distance

PATCH, STRIDE = 5, 2
STRUCTURE_CELLS = 64  # across a picture: means of 4x4 pixels of 256


@dataclass(frozen=True)
class Row:
    """One result: distances and ranks by recogniser (none where its face was lost), the rest as distances."""

    photograph: str
    style: str
    distances: dict[str, float]
    ranks: dict[str, int]
    gram: float
    patches: float
    gram_before: float
    patches_before: float
    structure: float
    leak: float  # structure of the style picture in the result

    @property
    def lost(self) -> bool:
        """Whether no face is found any more."""
        return not self.distances


class Looks(NamedTuple):
    """The statistics of one picture that its style is compared by."""

    gram: Gram
    patches: Tensor  # levels p


class Score(NamedTuple):
    """A row of the table: some results of one way together."""

    pairs: int
    identity: float  # median distance by dlib; a lost face is infinitely far
    same: float  # share below dlib's threshold, lost faces among those above
    first: float  # share whose own photograph is the nearest of all
    lost: int
    second: float  # median distance by faceres; nan where it did not run
    second_first: float
    gram: float
    patches: float
    structure: float
    leak: float


class Judge:
    """Measures results of an album; what it knows of photographs and styles is kept for all of them."""

    def __init__(self, album: Album, recognisers: Recognisers, network: EfficientNetLite0) -> None:
        self.album, self._recognisers, self._network = album, recognisers, network
        self.faces = [recognisers.face(read_square(path, SIDE)) for path in album.photographs]
        self._looks: dict[tuple[Path, int], Looks] = {}

    def looks(self, path: Path, size: int) -> Looks:
        """The statistics of a photograph or a style at a size."""
        if (path, size) not in self._looks:
            self._looks[path, size] = _looks(self._network, read_square(path, size)[None])[0]
        return self._looks[path, size]

    def measured(self, pictures: Tensor, photographs: Sequence[Path], style: Path) -> list[Row]:
        """One row for each picture, b 3 h w in 0..1, of a photograph painted like one style."""
        size = pictures.shape[-1]
        wanted = self.looks(style, size)
        contents = torch.stack([read_square(path, size) for path in photographs])
        structure = structures(pictures, contents)
        leak = structures(pictures, read_square(style, size).expand_as(pictures))
        found = []
        for row, looks in enumerate(_looks(self._network, pictures)):
            own = self.looks(photographs[row], size)
            distances, ranks = self._identity(pictures[row], self.album.photographs.index(photographs[row]))
            numbers = [gram_distance(a.gram, wanted.gram) for a in (looks, own)]
            numbers += [float((a.patches - wanted.patches).abs().mean()) for a in (looks, own)]
            gram, gram_before, patches, patches_before = numbers
            measured = (gram, patches, gram_before, patches_before, float(structure[row]), float(leak[row]))
            found.append(Row(photographs[row].name, style.name, distances, ranks, *measured))
        return found

    def _identity(self, picture: Tensor, place: int) -> tuple[dict[str, float], dict[str, int]]:
        """By recogniser how far the photograph's own face is, and how many faces are as near, itself among them."""
        face = self._recognisers.face(picture)
        if face is None or self.faces[place] is None:
            return {}, {}
        distances, ranks = {}, {}
        for name in self._recognisers.names:
            each = [_apart(name, face, other) for other in self.faces]
            distances[name], ranks[name] = each[place], rank(each, place)
        return distances, ranks


def rank(distances: Sequence[float], place: int) -> int:
    """The place of one of some distances, 1 for the least; equals do not go before it."""
    return 1 + sum(other < distances[place] for other in distances)


def structures(pictures: Tensor, contents: Tensor) -> Tensor:
    """The mean of gradient correlation and edge F1 on as many cells at every size: b 3 h w each -> b."""
    cell = pictures.shape[-1] // STRUCTURE_CELLS
    coarse, wanted = smaller(pictures, cell), smaller(contents, cell)
    return (gradient_correlation(coarse, wanted) + edge_f1(coarse, wanted)) / 2


def patch_quantiles(picture: Tensor) -> Tensor:
    """The distribution of a picture's 5x5 patches with their colours, 3 h w -> levels p."""
    return quantiles(F.unfold(picture[None], PATCH, stride=STRIDE)[0].T)


def score(rows: Sequence[Row]) -> Score:
    """What the rows say together: distances of style as shares of the photographs', sums by sums."""
    dlib, second = ([row.distances.get(name, math.inf) for row in rows] for name in ("dlib", "faceres"))
    ranks = [[row.ranks.get(name, 0) for row in rows] for name in ("dlib", "faceres")]
    measured = any("faceres" in row.distances for row in rows)
    return Score(
        len(rows),
        median(dlib),
        _share([d < SAME_PERSON for d in dlib]),
        _share([r == 1 for r in ranks[0]]),
        sum(row.lost for row in rows),
        median(second) if measured else math.nan,
        _share([r == 1 for r in ranks[1]]) if measured else math.nan,
        sum(row.gram for row in rows) / sum(row.gram_before for row in rows),
        sum(row.patches for row in rows) / sum(row.patches_before for row in rows),
        sum(row.structure for row in rows) / len(rows),
        sum(row.leak for row in rows) / len(rows),
    )


def without_identity(found: Score) -> Score:
    """A score whose pictures show no one, such as noise."""
    return found._replace(**dict.fromkeys(("identity", "same", "first", "second", "second_first"), math.nan), lost=0)


def _apart(name: str, face: Face, other: Face | None) -> float:
    return math.inf if other is None else distance(name, face.numbers[name], other.numbers[name])


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def _looks(network: EfficientNetLite0, pictures: Tensor) -> list[Looks]:
    found = zip(grams(network, pictures), pictures, strict=True)
    return [Looks(gram, patch_quantiles(picture)) for gram, picture in found]


def read_square(path: Path, size: int) -> Tensor:
    """A picture as the command crops it, 3 size size in 0..1."""
    return (to_tensor(read_picture(path, (size, size)))[0] + 1) / 2

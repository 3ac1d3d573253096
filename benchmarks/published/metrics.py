"""The metrics of StyleID's table as short functions (Chung et al., CVPR 2024; ArtFID: Wright and Ommer, GCPR 2022).

Pictures are b 3 h w in 0..1. Letters: n pictures, d their features, u v bins of a histogram.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .networks import Weights, alexnet_features, vgg19_features

LPIPS_SHIFT, LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
ROWS = 2048  # of a self-similarity matrix at a time: the whole one is 16384 x 16384 for 512 x 512 pixels
BINS, BIN_WIDTH, HISTOGRAM_SIDE, HISTOGRAM_EPS = 64, 0.02, 256, 1e-6


class PairMetric(Protocol):
    """A metric of single results: the built-in ones and a plug-in's alike.

    `name` heads its column. The call gets the results, the contents and the styles that they come from, b 3 h w in 0..1
    on the metric's device, and answers one number for each: b. Smaller must be better.
    """

    name: str

    def __call__(self, results: Tensor, contents: Tensor, styles: Tensor) -> Tensor: ...


class Lpips:
    """LPIPS v0.1 on AlexNet between result and content (Zhang et al., CVPR 2018)."""

    name = "LPIPS"

    def __init__(self, alexnet: Weights, heads: Weights) -> None:
        self._alexnet, self._heads = alexnet, heads

    def __call__(self, results: Tensor, contents: Tensor, styles: Tensor) -> Tensor:
        """Distances: b."""
        a, b = (alexnet_features(self._alexnet, self._scaled(pictures)) for pictures in (results, contents))
        return sum(self._distance(i, x, y) for i, (x, y) in enumerate(zip(a, b, strict=True)))

    def _scaled(self, pictures: Tensor) -> Tensor:
        shift, scale = (pictures.new_tensor(values).view(1, 3, 1, 1) for values in (LPIPS_SHIFT, LPIPS_SCALE))
        return (2.0 * pictures - 1.0 - shift) / scale

    def _distance(self, level: int, a: Tensor, b: Tensor) -> Tensor:
        a, b = (x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in (a, b))
        return F.conv2d((a - b).square(), self._heads[f"lin{level}.model.1.weight"]).mean(dim=(1, 2, 3))


class Cfsd:
    """Content feature structural distance: the divergence of the self-similarities of VGG19's features.

    As in StyleID's code the divergence of all rows is added up, not averaged.
    """

    name = "CFSD"

    def __init__(self, vgg19: Weights) -> None:
        self._vgg19 = vgg19

    def __call__(self, results: Tensor, contents: Tensor, styles: Tensor) -> Tensor:
        """Distances: b."""
        pairs = zip(*(vgg19_features(self._vgg19, pictures) for pictures in (results, contents)), strict=True)
        return torch.stack([self._distance(*pair) for pair in pairs])

    def _distance(self, result: Tensor, content: Tensor) -> Tensor:
        """Features c h w each -> sum over rows of KL(content's row || result's row)."""
        q, p = (features.flatten(1).T / features.shape[0] for features in (result, content))  # (h w) c
        parts = [self._rows(q[i : i + ROWS], q, p[i : i + ROWS], p) for i in range(0, len(q), ROWS)]
        return torch.stack(parts).sum().to(result)

    def _rows(self, q_rows: Tensor, q: Tensor, p_rows: Tensor, p: Tensor) -> Tensor:
        # in double precision: the rows are nearly flat, and their divergence is lost in rounding
        log_q, log_p = ((rows @ all_.T).double().log_softmax(dim=1) for rows, all_ in ((q_rows, q), (p_rows, p)))
        return (log_p.exp() * (log_p - log_q)).sum()


class ColourHistogram:
    """Hellinger distance of the log-chroma histograms of result and style (HistoGAN, Afifi et al., CVPR 2021)."""

    name = "colour histogram"

    def __call__(self, results: Tensor, contents: Tensor, styles: Tensor) -> Tensor:
        """Distances: b."""
        a, b = (torch.stack([histogram(picture) for picture in pictures]) for pictures in (results, styles))
        return (a.sqrt() - b.sqrt()).square().sum(dim=(1, 2, 3)).sqrt() / math.sqrt(2.0)


def histogram(picture: Tensor) -> Tensor:
    """A picture 3 h w -> its RGB-uv histogram 3 u v, which sums to one."""
    if max(picture.shape[1:]) > HISTOGRAM_SIDE:
        side = (HISTOGRAM_SIDE, HISTOGRAM_SIDE)
        picture = F.interpolate(picture[None], size=side, mode="bilinear", align_corners=False)[0]
    colours = picture.flatten(1)  # 3 n
    brightness = (colours.square().sum(dim=0) + HISTOGRAM_EPS).sqrt()
    log = (colours + HISTOGRAM_EPS).log()
    planes = [
        (_soft_bins(log[own] - log[first]) * brightness) @ _soft_bins(log[own] - log[second]).T
        for own, first, second in ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    ]
    total = torch.stack(planes)
    return total / (total.sum() + HISTOGRAM_EPS)


def _soft_bins(chroma: Tensor) -> Tensor:
    """How much each value counts in each bin, by the inverse quadratic kernel: n -> u n."""
    centres = torch.linspace(-3.0, 3.0, BINS, dtype=torch.float64).to(chroma).view(-1, 1)
    return 1.0 / (1.0 + ((chroma - centres) / BIN_WIDTH).square())


def fid(results: Tensor, styles: Tensor) -> float:
    """The Frechet distance of results n d and styles m d, of which each counts n / m times.

    tr sqrt(S1 S2) is the nuclear norm of A B', where A'A = S1 and B'B = S2: no square root of a singular matrix.
    """
    results, styles = results.double(), styles.double()
    a, b = (features - features.mean(dim=0) for features in (results, styles))
    a, b = (x * math.sqrt(len(results) / len(x) / (len(results) - 1)) for x in (a, b))
    moved = (results.mean(dim=0) - styles.mean(dim=0)).square().sum()
    return float(moved + a.square().sum() + b.square().sum() - 2.0 * torch.linalg.matrix_norm(a @ b.T, ord="nuc"))


def art_fid(fid_value: float, lpips: float) -> float:
    """(1 + FID) (1 + LPIPS)."""
    return (1.0 + fid_value) * (1.0 + lpips)


Statistic = Callable[[np.ndarray], dict[str, float]]


def bootstrap(statistic: Statistic, contents: int, styles: int, rounds: int, seed: int = 0) -> list[dict[str, float]]:
    """A statistic of resampled pairs: contents and styles are each drawn anew, with all their pairs.

    `statistic` gets the indices of pairs, where pair i is content i // styles with style i % styles. The same seed
    gives the same draws, so that two methods can be compared draw by draw.
    """
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(rounds):
        rows = generator.integers(contents, size=contents)
        columns = generator.integers(styles, size=styles)
        found.append(statistic((rows[:, None] * styles + columns[None, :]).ravel()))
    return found


def half_width(values: list[float]) -> float:
    """Half of a 95 % interval around an estimate, from its bootstrap's spread.

    Around the estimate, not the bootstrap's own quantiles: repeated pictures push the Frechet distance upwards.
    """
    return 1.96 * float(np.std(np.asarray(values), ddof=1)) if len(values) > 1 else math.nan


def load_plugin(name: str, **options: Any) -> PairMetric:
    """A metric of somebody else's: `module:factory`, where factory(device=..) answers a PairMetric."""
    import importlib

    from magicstyle.core.errors import MagicStyleError

    module, _, factory = name.partition(":")
    try:
        return getattr(importlib.import_module(module), factory)(**options)
    except (ImportError, AttributeError, ValueError) as error:
        raise MagicStyleError(
            f"the plug-in '{name}' cannot be loaded ({error}): write module:factory, with the module importable."
        ) from None

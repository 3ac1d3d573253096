"""What stylization did to pictures, without any pretrained network: structure kept, style distance left.

Pictures are b 3 h w in 0..1, masks bool h w. Letters: n samples, d their dimensions, p directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
EDGE_SHARE = 0.1  # of the pixels, those with the strongest gradient, count as edges
PATCH = 7
LEVELS = 200  # quantiles at which two distributions of different size are compared
DIRECTIONS = 32
FEWEST = 60  # samples below which a region is not compared


def psnr(pictures: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB -> b."""
    return -10.0 * (pictures - targets).square().flatten(1).mean(dim=1).log10()


def smaller(pictures: Tensor, cell: int) -> Tensor:
    """Means over cells of cell x cell pixels -> b 3 h/cell w/cell."""
    return F.avg_pool2d(pictures, cell)


def gradients(pictures: Tensor) -> Tensor:
    """Sobel gradient magnitude of the luma, a little blurred so that pixel noise does not count -> b h w."""
    luma = (pictures * pictures.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    blur = pictures.new_tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16
    sobel = pictures.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]]).view(1, 1, 3, 3) / 8
    smooth = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), blur)
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    return torch.hypot(F.conv2d(padded, sobel), F.conv2d(padded, sobel.mT)).squeeze(1)


def gradient_correlation(pictures: Tensor, contents: Tensor) -> Tensor:
    """Pearson correlation of the gradient magnitudes of pictures and contents -> b."""
    a, b = (g - g.mean(dim=1, keepdim=True) for g in (gradients(x).flatten(1) for x in (pictures, contents)))
    return F.cosine_similarity(a, b, dim=1)


def edge_f1(pictures: Tensor, contents: Tensor) -> Tensor:
    """F1 of the strongest edges, a pixel of displacement allowed -> b."""
    found, wanted = (_edges(gradients(x)) for x in (pictures, contents))
    precision, recall = (_covered(found, wanted), _covered(wanted, found))
    return 2.0 * precision * recall / (precision + recall).clamp(min=1e-9)


def _edges(magnitude: Tensor) -> Tensor:
    threshold = magnitude.flatten(1).quantile(1.0 - EDGE_SHARE, dim=1)
    return (magnitude > threshold.view(-1, 1, 1)).float()


def _covered(edges: Tensor, others: Tensor) -> Tensor:
    """The share of edge pixels that have one of `others` within a pixel."""
    near = F.max_pool2d(others.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    return (edges * near).sum(dim=(1, 2)) / edges.sum(dim=(1, 2)).clamp(min=1.0)


class Signature(NamedTuple):
    """The distributions of a picture's (or a region's) colours and textures: quantiles of projections, levels p."""

    colour: Tensor
    texture: Tensor

    def distance(self, other: Signature) -> tuple[float, float]:
        """Sliced Wasserstein distances of colours and of textures."""
        return tuple(float((a - b).abs().mean()) for a, b in zip(self, other, strict=True))


def signature(picture: Tensor, mask: Tensor | None = None) -> Signature | None:
    """What `Signature` holds of a picture 3 h w, or of its masked part; None where that is too small to say."""
    samples = [sample(picture, mask) for sample in (colour_samples, texture_samples)]
    if min(len(found) for found in samples) < FEWEST:
        return None
    return Signature(*(quantiles(found) for found in samples))


def colour_samples(picture: Tensor, mask: Tensor | None = None) -> Tensor:
    """Every second colour of a picture 3 h w in both directions -> n 3."""
    colours = picture.permute(1, 2, 0)[::2, ::2]
    return colours.reshape(-1, 3) if mask is None else colours[mask[::2, ::2]]


def texture_samples(picture: Tensor, mask: Tensor | None = None) -> Tensor:
    """Every second patch of a picture 3 h w without its mean colour, those with a masked centre -> n d."""
    h, w = picture.shape[1:]
    patches = F.unfold(picture.unsqueeze(0), PATCH, stride=2)[0].view(3, PATCH * PATCH, -1)
    patches = (patches - patches.mean(dim=1, keepdim=True)).flatten(0, 1).T
    if mask is None:
        return patches
    half = PATCH // 2
    return patches[mask[half : h - half : 2, half : w - half : 2].reshape(-1)]


def quantiles(samples: Tensor) -> Tensor:
    """Samples n d, projected on fixed random directions and sorted, at even levels -> levels p."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(samples.shape[1], DIRECTIONS, generator=generator), dim=0)
    ordered = (samples @ directions).sort(dim=0).values
    place = (torch.arange(LEVELS) + 0.5) / LEVELS * (len(ordered) - 1)
    low, share = place.floor().long(), place.frac().unsqueeze(1)
    return torch.lerp(ordered[low], ordered[(low + 1).clamp(max=len(ordered) - 1)], share)


def fractions(after: Sequence[tuple[float, float]], before: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Distances left as shares of those at the start, over all pairs together: colour, texture."""
    return tuple(sum(a[i] for a in after) / sum(b[i] for b in before) for i in (0, 1))

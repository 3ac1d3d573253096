"""Detail of the portrait in what a UNet's decoder adds: MAST's detail-driven injection (DDI, 2604.12281).

    h' = h + s (1 - cos(h, h_c)) HP(h_c)

h is what a decoder ResNet adds to what goes around it, h_c the same of the portrait at the same noise level, HP a high
pass, s the strength (published: 1). The cosine is that of the two whole maps, one number a picture.

Letters: b pictures or rows, n tokens, c channels, y x places of a map.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .grid import Grid
from .layers import LayerId

RADIUS = 0.3  # of the high pass, in sides of the shorter one


def begins_decoder_block(layer: LayerId) -> bool:
    """Whether a layer is the first of a UNet's decoder block, which begins with a ResNet."""
    return layer.block == "output" and layer.index == 0


def high_frequencies(tokens: Tensor, grid: Grid) -> Tensor:
    """A map b n c without its low frequencies: those at a distance D from the lowest keep 1 - exp(-D^2 / 2 r^2).

    What is taken away falls with D^2 = D_y^2 + D_x^2, hence row by row and column by column: two products of matrices,
    which every device and precision has.
    """
    y, x = grid.frame
    down, across = (_low_pass(side, RADIUS * min(y, x)).to(tokens.device) for side in (y, x))
    cells = rearrange(tokens.float(), "b (t y x) c -> b t c y x", y=y, x=x)
    high = cells - down @ cells @ across
    return rearrange(high, "b t c y x -> b (t y x) c").to(tokens)


def _low_pass(side: int, radius: float) -> Tensor:
    """A symmetric matrix that keeps exp(-D^2 / 2 r^2) of each frequency of a row of so many places: side x side."""
    kept = torch.exp(-torch.fft.fftfreq(side, 1 / side).square() / (2 * radius**2))
    places = torch.arange(side)
    return torch.fft.ifft(kept).real[(places[:, None] - places) % side]


def with_detail(added: Tensor, content: Tensor, high: Tensor, strength: float) -> Tensor:
    """What a ResNet adds, b n c, with the high frequencies of what it adds for the content, b n c both."""
    alike = torch.cosine_similarity(added.float().flatten(1), content.float().flatten(1))
    return added + (strength * (1.0 - alike)).to(added)[:, None, None] * high

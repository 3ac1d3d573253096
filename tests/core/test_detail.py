"""The portrait's detail in what a ResNet adds."""

import math

import numpy as np
import pytest
import torch
from magicstyle.core.controls import StyleControls
from magicstyle.core.detail import begins_decoder_block, high_frequencies, with_detail
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.tests.core.oracle import randn
from torch.testing import assert_close


def high_pass(cells):
    """One map y x, summed wave by wave in numpy."""
    y, x = cells.shape
    spectrum, passed = np.fft.fft2(cells), np.zeros((y, x))
    for i in range(y):
        for j in range(x):
            distance = math.hypot(min(i, y - i), min(j, x - j))
            passed[i, j] = 1 - math.exp(-(distance**2) / (2 * (0.3 * min(y, x)) ** 2))
    return np.fft.ifft2(spectrum * passed).real


@pytest.mark.parametrize("grid", [Grid((4, 6)), Grid((5, 7)), Grid((1, 8)), Grid((9, 2))])
def test_high_frequencies_are_those_of_a_full_fourier_transform(grid):
    tokens = randn(1, 2, grid.tokens, 3)
    found = high_frequencies(tokens, grid)
    for picture in range(2):
        for channel in range(3):
            cells = tokens[picture, :, channel].view(*grid).double().numpy()
            expected = torch.from_numpy(high_pass(cells)).float().flatten()
            assert_close(found[picture, :, channel], expected, atol=1e-5, rtol=1e-5)


def test_an_even_map_has_no_detail_and_each_frame_its_own():
    assert_close(high_frequencies(torch.full((1, 12, 2), 3.0), Grid((3, 4))), torch.zeros(1, 12, 2), atol=1e-6, rtol=0)
    film = randn(2, 1, 24, 2)
    frames = [high_frequencies(film[:, 12 * t : 12 * t + 12], Grid((3, 4))) for t in range(2)]
    assert_close(high_frequencies(film, Grid((2, 3, 4))), torch.cat(frames, dim=1))


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_each_picture_gets_as_much_as_it_differs(strength):
    added, content = randn(3, 2, 12, 4), randn(4, 2, 12, 4)
    high = high_frequencies(content, Grid((3, 4)))
    found = with_detail(added, content, high, strength)
    for picture in range(2):
        a, b = added[picture].flatten(), content[picture].flatten()
        apart = 1 - float(a @ b / (a.norm() * b.norm()))
        assert_close(found[picture], added[picture] + strength * apart * high[picture])
    assert_close(with_detail(content, content, high, strength), content)


def test_half_precision_stays_half_and_near():
    added, content = randn(5, 1, 48, 8), randn(6, 1, 48, 8)
    grid = Grid((6, 8))
    exact = with_detail(added, content, high_frequencies(content, grid), 1.0)
    a, c = added.half(), content.half()
    found = with_detail(a, c, high_frequencies(c, grid), 1.0)
    assert found.dtype == torch.float16 and float((found.float() - exact).abs().max()) < 5e-3


def test_it_belongs_to_the_first_layer_of_a_decoder_block():
    names = [("output", 6, 0), ("output", 6, 1), ("input", 4, 0), ("middle", 0, 0), ("double", 3, 0)]
    assert [begins_decoder_block(LayerId(*name)) for name in names] == [True, False, False, False, False]


@pytest.mark.parametrize("detail", [-0.1, 1.1, float("nan")])
def test_its_strength_is_a_share(detail):
    with pytest.raises(MagicStyleError, match="detail"):
        StyleControls(detail=detail)

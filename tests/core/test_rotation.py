"""Rotary positions: turns add up, as the formula of RoPE says."""

import math

import pytest
import torch
from magicstyle.core.rotation import Rotation, moved, untwisted

HEADS = 2
ROTATION = Rotation((4, 6, 6), 100.0)


def tokens(n=5, seed=0):
    width = HEADS * sum(ROTATION.widths)
    return torch.randn(2, n, width, generator=torch.Generator().manual_seed(seed))


def rope(x, position):
    """Every pair of channels as a complex number, turned one by one: b n (h d)."""
    out = x.clone()
    for head in range(HEADS):
        channel = head * sum(ROTATION.widths)
        for width, place in zip(ROTATION.widths, position, strict=True):
            for j in range(0, width, 2):
                turn = complex(math.cos(a := place * ROTATION.theta ** (-j / width)), math.sin(a))
                pair = torch.complex(x[..., channel + j], x[..., channel + j + 1]) * turn
                out[..., channel + j], out[..., channel + j + 1] = pair.real, pair.imag
            channel += width
    return out


@pytest.mark.parametrize("delta", [(0, 0, 7), (3, 0, 0), (2, -5, 11.5)])
def test_moving_turns_every_pair_by_its_angle(delta):
    torch.testing.assert_close(moved(tokens(), HEADS, ROTATION, delta), rope(tokens(), delta), rtol=0, atol=1e-5)


def test_moves_add_up():
    there = moved(tokens(), HEADS, ROTATION, (1, 4, -2))
    torch.testing.assert_close(moved(there, HEADS, ROTATION, (-1, -4, 2)), tokens(), rtol=0, atol=1e-5)


def test_no_move_is_the_same_tensor():
    x = tokens()
    assert moved(x, HEADS, ROTATION, (0, 0, 0)) is x


def test_half_precision_stays_half_and_near():
    x = tokens().half()
    there = moved(x, HEADS, ROTATION, (0, 3, 9))
    assert there.dtype == torch.float16
    torch.testing.assert_close(there.float(), rope(x.float(), (0, 3, 9)), rtol=0, atol=4e-3)


def test_untwisting_scales_high_frequencies_most_and_leaves_other_axes():
    scaled = untwisted(torch.ones(1, 1, HEADS * 16), HEADS, ROTATION, 0.5, 1.5)[0, 0].view(HEADS, 16)
    expected = [1.0] * 4 + 2 * [0.5, 0.5, 0.75, 0.75, 1.5, 1.5]
    torch.testing.assert_close(scaled, torch.tensor([expected, expected]))


def test_untwisting_by_one_changes_nothing():
    torch.testing.assert_close(untwisted(tokens(), HEADS, ROTATION, 1.0, 1.0), tokens())

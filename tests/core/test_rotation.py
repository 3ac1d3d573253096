"""Rotary positions: turns add up, as the formula of RoPE says."""

import math

import pytest
import torch
from magicstyle.core.rotation import Rotation, moved, places, untwisted

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


def turned_pair_by_pair(x, pairs):
    """Every pair (first channel, second channel, angle) of each head as a complex number: b n (h d)."""
    out, width = x.clone(), x.shape[-1] // HEADS
    for head in range(HEADS):
        for first, second, angle in pairs:
            one, two = head * width + first, head * width + second
            pair = torch.complex(x[..., one], x[..., two]) * complex(math.cos(angle), math.sin(angle))
            out[..., one], out[..., two] = pair.real, pair.imag
    return out


def test_halves_pair_a_channel_with_the_one_half_a_head_further_each_axis_with_its_base():
    """Cosmos-Predict2: time, rows, columns in the first half of a head, the same again in the second."""
    widths, bases, delta = (4, 6, 6), (100.0, 37.0, 11.0), (2, -5, 11.5)
    pairs, channel = [], 0
    for width, base, step in zip(widths, bases, delta, strict=True):
        for j in range(0, width, 2):
            pairs.append((channel, channel + 8, step * base ** (-j / width)))
            channel += 1
    found = moved(tokens(), HEADS, Rotation(widths, bases, halves=True), delta)
    torch.testing.assert_close(found, turned_pair_by_pair(tokens(), pairs), rtol=0, atol=1e-5)


def test_alternating_axes_share_the_frequencies_of_one_head():
    """Interleaved MRoPE: of 8 pairs 1 and 4 are of the rows, 2 and 5 of the columns, the others of the first axis."""
    delta, axis_of = (3, -2, 7.5), (0, 1, 2, 0, 1, 2, 0, 0)
    pairs = [(pair, pair + 8, delta[axis] * 50.0 ** (-2 * pair / 16)) for pair, axis in enumerate(axis_of)]
    found = moved(tokens(), HEADS, Rotation((8, 4, 4), 50.0, halves=True, alternating=True), delta)
    torch.testing.assert_close(found, turned_pair_by_pair(tokens(), pairs), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize(
    "rotation, expected",
    [
        (Rotation((4, 6, 6), (9.0, 8.0, 7.0), halves=True), 2 * ([1.0] * 2 + 2 * [0.5, 0.75, 1.5])),
        (Rotation((8, 4, 4), 9.0, halves=True, alternating=True), 2 * [1.0, 0.5, 0.5, 1.0, 1.5, 1.5, 1.0, 1.0]),
        (
            Rotation((4, 4, 4, 4), 9.0),
            [1.0] * 4 + 2 * [0.5, 0.5, 1.5, 1.5] + [1.0] * 4,
        ),  # Flux.2: the last is the text's
        (Rotation((8, 8), 9.0), 2 * [0.5, 0.5, *2 * [0.5 + 1 / 9], *2 * [0.5 + 4 / 9], 1.5, 1.5]),
    ],
)
def test_untwisting_finds_the_channels_of_the_pictures_axes_in_every_order(rotation, expected):
    scaled = untwisted(torch.ones(1, 1, HEADS * 16), HEADS, rotation, 0.5, 1.5)[0, 0].view(HEADS, 16)
    torch.testing.assert_close(scaled, torch.tensor([expected, expected]))


def test_untwisting_by_one_changes_nothing():
    torch.testing.assert_close(untwisted(tokens(), HEADS, ROTATION, 1.0, 1.0), tokens())


@pytest.mark.parametrize("others", ["stay", "low", "curve"])
@pytest.mark.parametrize("rise", [2.0, 2.5, 50.0])
def test_untwisting_scales_pair_by_pair_along_a_power(rise, others):
    """S_j = sh + (sl - sh) (j / (J - 1))^beta on rows and columns; axis 0 as said."""
    high, low, x = 1.04, 0.7, tokens()
    expected, channel = x.clone(), 0
    for axis, width in enumerate(ROTATION.widths):
        pairs = width // 2
        for j in range(pairs):
            scale = high + (low - high) * (j / (pairs - 1)) ** rise
            if axis == 0 and others != "curve":
                scale = low if others == "low" else 1.0
            for head in range(HEADS):
                place = head * sum(ROTATION.widths) + channel + 2 * j
                expected[..., place : place + 2] *= scale
        channel += width
    found = untwisted(x, HEADS, ROTATION, high, low, rise, others)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_tokens_stand_row_by_row_and_frame_by_frame_behind_the_first():
    there = places((2, 3), ROTATION, (4.0, 1.0, -1.0))
    assert there.tolist() == [[4.0, 1.0 + y, x - 1.0] for y in range(2) for x in range(3)]
    film = places((2, 2, 3), ROTATION, (4.0, 1.0, -1.0))
    assert film.tolist() == [[4.0 + t, 1.0 + y, x - 1.0] for t in range(2) for y in range(2) for x in range(3)]
    flat = places((2, 3), Rotation((4, 4), 10.0), (0.0, 2.0))
    assert flat.tolist() == [[float(y), x + 2.0] for y in range(2) for x in range(3)]

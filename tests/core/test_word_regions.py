"""Regions from words against loops written from the description."""

import math

import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.grid import Grid
from magicstyle.core.word_regions import (
    MapCollector,
    attention_map,
    find_phrases,
    gaussian3,
    is_coarse,
    phrase_masks,
    set_apart,
    split_phrases,
    spread,
)
from magicstyle.tests.core.oracle import randn
from torch.testing import assert_close

GRID, SMALL, HEADS, T = Grid((3, 5)), Grid((2, 3)), 2, 7
N = GRID[0] * GRID[1]


def softmax_rows(seed, n, m):
    return randn(seed, n, m).softmax(dim=1)


def test_attention_maps_are_averaged_over_heads():
    q, k = randn(0, 1, N, 8), randn(1, 1, T, 8)
    expected = torch.zeros(N, T)
    for head in range(HEADS):
        part = slice(4 * head, 4 * head + 4)
        expected += (q[0][:, part] @ k[0][:, part].T / math.sqrt(4)).softmax(dim=1) / HEADS
    assert_close(attention_map(q, k, HEADS)[0], expected)


def test_cross_attention_is_spread_by_four_powers_of_self_attention():
    s, c = softmax_rows(0, N, N), softmax_rows(1, N, T)
    expected = (s + s @ s + s @ s @ s + s @ s @ s @ s) / 4 @ c
    assert_close(spread(s, c), expected)


def test_the_blur_is_a_gaussian_of_half_a_cell():
    maps = torch.zeros(1, 2, 5, 5)
    maps[0, 0, 2, 2] = 1.0
    blurred = gaussian3(maps)
    assert_close(blurred.sum(), torch.tensor(1.0))
    assert_close(blurred[0, 0, 2, 3] / blurred[0, 0, 2, 2], torch.tensor(math.exp(-2.0)))
    assert (blurred[0, 1] == 0).all()
    assert_close(gaussian3(torch.ones(1, 1, 4, 3)), torch.ones(1, 1, 4, 3))


def test_token_maps_average_layers_and_grids_with_a_mean_of_one():
    collector, size = MapCollector(), (6, 10)
    tensors = {}
    for seed, (kind, grid) in enumerate(
        [("self", GRID), ("cross", GRID), ("cross", GRID), ("self", SMALL), ("cross", SMALL)]
    ):
        n = grid[0] * grid[1]
        q, k = randn(10 + seed, 1, n, 8), randn(20 + seed, 1, n if kind == "self" else T, 8)
        collector.add(kind, grid, q, k, HEADS)
        tensors.setdefault((kind, grid), []).append(attention_map(q, k, HEADS)[0])
    expected = torch.zeros(T, *size)
    for grid in (GRID, SMALL):
        s, c = (sum(tensors[kind, grid]) / len(tensors[kind, grid]) for kind in ("self", "cross"))
        for token in range(T):
            image = spread(s, c)[:, token].reshape(1, 1, *grid)
            image = gaussian3(torch.nn.functional.interpolate(image, size, mode="bilinear"))[0, 0]
            expected[token] += image / image.mean() / 2
    assert_close(collector.token_maps(size), expected, atol=1e-5, rtol=1e-5)


def test_each_place_goes_to_its_strongest_phrase_or_to_none():
    maps = torch.tensor(
        [[[1.0, 1.0, 1.0, 1.0]], [[2.0, 0.1, 0.8, 0.5]], [[0.1, 1.5, 0.7, 0.5]], [[0.1, 0.2, 0.9, 0.5]]]
    )
    assert phrase_masks(maps, [[1], [2, 3]], [0], 1.0)[:, 0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert phrase_masks(maps, [[1], [2, 3]], [0], 0.6)[:, 0].tolist() == [[1, 0, 0, 0], [0, 1, 1, 0]]
    everywhere = phrase_masks(maps, [[1], [2, 3]], [], 1.0)
    assert (everywhere.sum(dim=0) == 1).all()


def test_phrases_are_found_wherever_they_stand():
    prompt = [0, 5, 6, 7, 5, 6, 9]
    assert find_phrases(prompt, {"a b": [5, 6], "c": [9]}) == [[1, 2, 4, 5], [6]]
    with pytest.raises(MagicStyleError, match="'hat' does not stand in the prompt"):
        find_phrases(prompt, {"hat": [6, 5]})


def test_words_are_split_at_commas():
    assert split_phrases(" hair, red hat ,,") == ["hair", "red hat"]
    with pytest.raises(MagicStyleError, match="words is empty"):
        split_phrases(" , ")


@pytest.mark.parametrize("separator", [*",;\n\uff0c\u3001\uff1b\uff64\u060c\u061b", "\r\n", " , ", ",\n"])
def test_words_are_split_at_the_commas_and_line_breaks_of_every_keyboard(separator):
    assert split_phrases(f"\u8138{separator}red hat{separator}") == ["\u8138", "red hat"]


@pytest.mark.parametrize("words", ["hair, face, hair", "hair, Hair"])
def test_a_word_named_twice_is_refused(words):
    with pytest.raises(MagicStyleError, match="words names '[Hh]air' twice: name it once"):
        split_phrases(words)


@pytest.mark.parametrize(
    "prompt, phrases, apart",
    [
        (r"a face \(oval\), long hair", [r"face \(oval\)", "long hair"], r"a face \(oval\) , long hair"),
        ("hat\U0001f600, (\U0001f600:1.2)!", ["\U0001f600"], "hat\U0001f600 , ( \U0001f600 :1.2)!"),
        ("(red hat:1.3), hair", ["red hat", "hair"], "(red hat:1.3), hair"),
    ],
)
def test_signs_of_a_phrase_are_set_apart_from_those_that_touch_them(prompt, phrases, apart):
    assert set_apart(prompt, phrases) == apart


def test_a_model_that_shows_nothing_is_named():
    with pytest.raises(MagicStyleError, match="showed no attention"):
        MapCollector().token_maps((4, 4))


@pytest.mark.parametrize(
    "grid, latent, coarse",
    [
        ((16, 16), (64, 64), True),
        ((32, 32), (64, 64), False),
        ((5, 6), (17, 23), True),
        ((5, 12), (17, 23), False),  # fine in one direction
        ((9, 6), (17, 23), False),
        ((8, 8), (64, 64), True),
    ],
)
def test_regions_are_read_from_coarse_grids(grid, latent, coarse):
    assert is_coarse(grid, latent) == coarse

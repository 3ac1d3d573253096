"""The measures of the quality benchmark on pictures with known answers."""

import pytest
import torch
from magicstyle.benchmarks import quality
from magicstyle.benchmarks.measures import (
    edge_f1,
    fractions,
    gradient_correlation,
    psnr,
    quantiles,
    signature,
    texture_samples,
)
from magicstyle.tools.demo_model.portraits import portrait


@pytest.fixture(scope="module")
def pictures():
    drawn = [torch.tensor(portrait(5_000_000 + seed).image).permute(2, 0, 1) / 255 for seed in range(3)]
    return torch.stack(drawn)


def test_psnr_of_a_known_error():
    assert torch.allclose(psnr(torch.full((2, 3, 4, 5), 0.6), torch.full((2, 3, 4, 5), 0.5)), torch.tensor(20.0))


@pytest.mark.parametrize("measure", [gradient_correlation, edge_f1])
def test_structure_is_one_for_the_same_picture_and_low_for_another(pictures, measure):
    assert torch.allclose(measure(pictures, pictures), torch.ones(3), atol=1e-5)
    assert measure(pictures, pictures.roll(1, dims=0)).mean() < 0.6


@pytest.mark.parametrize("measure", [gradient_correlation, edge_f1])
def test_structure_ignores_contrast_and_brightness(pictures, measure):
    assert torch.allclose(measure(0.5 * pictures + 0.2, pictures), torch.ones(3), atol=1e-4)


def test_edges_may_move_by_a_pixel_but_not_by_more(pictures):
    assert edge_f1(pictures.roll(1, dims=3), pictures).mean() > 0.95
    assert edge_f1(pictures.roll(4, dims=3), pictures).mean() < 0.75


def test_signatures_ignore_where_things_are(pictures):
    colour, _ = signature(pictures[0]).distance(signature(pictures[0].flip(2)))
    other, _ = signature(pictures[0]).distance(signature(pictures[1]))
    assert colour < 0.02 * other + 0.002


def test_colours_and_textures_are_told_apart(pictures):
    own, brighter = signature(pictures[0]), signature(pictures[0] + 0.1)
    colour, texture = own.distance(brighter)
    assert colour > 0.03 and texture < 1e-5


def test_texture_patches_have_no_mean_and_follow_their_mask(pictures):
    mask = torch.zeros(128, 128, dtype=torch.bool)
    mask[40:60, 40:60] = True
    patches = texture_samples(pictures[0], mask)
    assert patches.shape == (100, 3 * 49)
    assert patches.view(100, 3, 49).mean(dim=2).abs().max() < 1e-6


def test_quantiles_compare_sets_of_different_size():
    few = torch.randn(500, 3, generator=torch.Generator().manual_seed(1))
    assert (quantiles(few.repeat(3, 1)) - quantiles(few)).abs().mean() < 0.01
    moved = (quantiles(few + torch.tensor([1.0, 0.0, 0.0])) - quantiles(few)).abs().mean()
    assert 0.3 < moved < 0.7  # the mean of |cos| over directions is one half


def test_a_part_that_is_too_small_has_no_signature(pictures):
    mask = torch.zeros(128, 128, dtype=torch.bool)
    mask[:10, :10] = True
    assert signature(pictures[0], mask) is None


def test_fractions_are_of_all_pairs_together():
    assert fractions([(1.0, 2.0), (1.0, 0.0)], [(2.0, 2.0), (6.0, 2.0)]) == (0.25, 0.5)


def test_every_row_of_the_table_has_its_column_on_the_sheet():
    """A sheet is as wide as its labels: a row without one would be cut off."""
    assert len(quality.SHEET_LABELS) == 2 + len(quality.ROWS)  # after content and style

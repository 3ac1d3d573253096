import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.regions import clean_mask, mask_to_tokens


@pytest.mark.parametrize("grid", [(6, 10), (1, 7), (64, 48), (5, 3)])
def test_mask_keeps_its_area_and_its_place_on_any_grid(grid):
    mask = torch.zeros(2, 120, 140)
    mask[0, :60] = 1.0
    mask[1, :, 70:] = 1.0
    tokens = mask_to_tokens(mask, grid)
    assert tokens.shape == (2, grid[0] * grid[1])
    top = tokens[0].reshape(grid)
    torch.testing.assert_close(top.mean(), torch.tensor(0.5), atol=0.05, rtol=0)
    assert top[0].min() >= top[-1].max()
    assert tokens[1].reshape(grid)[:, -1].min() == 1.0


def test_a_mask_smaller_than_the_grid_is_spread_out():
    assert mask_to_tokens(torch.tensor([[[0.0, 1.0]]]), (4, 6)).reshape(4, 6)[:, 4:].min() == 1.0


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor([[True, False]]),
        torch.tensor([[255, 0]], dtype=torch.uint8),
        torch.tensor([[1, 0]], dtype=torch.uint8),
        torch.tensor([[[1.7, -0.4]]]),
        torch.tensor([[[[1.0, 0.0]]]]),
    ],
)
def test_masks_of_every_kind_become_values_from_zero_to_one(mask):
    assert clean_mask(mask, "region").tolist() == [[[1.0, 0.0]]]


def test_masks_with_a_channel_axis_lose_it():
    assert clean_mask(torch.ones(2, 1, 3, 5), "region").shape == (2, 3, 5)
    assert clean_mask(torch.ones(2, 3, 5, 1), "region").shape == (2, 3, 5)


@pytest.mark.parametrize(
    "mask, message",
    [
        (torch.zeros(0, 4, 4), "region has the shape"),
        (torch.zeros(3), "region has the shape"),
        (torch.zeros(1, 3, 4, 4), "region has the shape"),
        (torch.full((1, 4, 4), float("nan")), "region holds NaN"),
    ],
)
def test_masks_that_mean_nothing_are_refused(mask, message):
    with pytest.raises(MagicStyleError, match=message):
        clean_mask(mask, "region")

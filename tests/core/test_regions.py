import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.regions import (
    Window,
    clean_mask,
    crop_tokens,
    mask_to_tokens,
    region_mask,
    resample_tokens,
    style_mask,
)


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


@pytest.mark.parametrize(
    "picture, window, grid, expected",
    [
        ((16, 24), (4, 6, 8, 12), (16, 24), (4, 6, 8, 12)),
        ((16, 24), (4, 6, 8, 12), (8, 12), (2, 3, 4, 6)),
        ((16, 24), (5, 7, 8, 12), (8, 12), (3, 4, 4, 6)),  # between two cells: the later
        ((16, 24), (5, 7, 8, 12), (4, 6), (1, 2, 2, 3)),
        ((17, 23), (3, 5, 9, 13), (9, 12), (2, 3, 5, 7)),  # sides round up, the picture's and the window's
        ((17, 23), (8, 10, 9, 13), (3, 3), (1, 1, 2, 2)),
        ((9, 13), (8, 12, 1, 1), (2, 2), (1, 1, 1, 1)),  # 8 / 8 and 12 / 8, both in the last cell
        ((9, 13), (1, 3, 8, 10), (5, 7), (1, 2, 4, 5)),
        ((16, 16), (1, 1, 15, 15), (8, 8), (0, 0, 8, 8)),  # rounded up it would reach past the edge
        ((64, 64), (60, 0, 4, 64), (8, 8), (7, 0, 1, 8)),
    ],
)
def test_a_window_shows_the_nearest_cells_of_each_grid(picture, window, grid, expected):
    assert Window(*window).on_grid(picture, grid) == Window(*expected)


@pytest.mark.parametrize("size", [(16, 24), (9, 13), (17, 23), (5, 1)])
def test_a_window_of_the_whole_picture_is_the_whole_of_each_grid(size):
    for k in range(4):
        grid = tuple(-(-side // 2**k) for side in size)
        assert Window(0, 0, *size).on_grid(size, grid) == Window(0, 0, *grid)


def test_a_grid_that_does_not_halve_the_latent_has_no_windows():
    assert Window(0, 0, 8, 8).on_grid((16, 24), (8, 10)) is None


def test_cropped_tokens_are_those_of_the_window():
    grid = torch.arange(2 * 3 * 5).reshape(2, 15, 1)
    assert crop_tokens(grid, (3, 5), Window(1, 2, 2, 2)).flatten(1).tolist() == [[7, 8, 12, 13], [22, 23, 27, 28]]
    assert crop_tokens(grid, (3, 5), Window(0, 0, 3, 5)) is grid


@pytest.mark.parametrize("new", [(3, 4), (12, 16), (5, 8)])
def test_resampled_tokens_keep_their_places(new):
    """A ramp over the picture is a ramp on every grid, away from its edges."""

    def ramp(grid):
        rows, columns = ((torch.arange(side) + 0.5) / side for side in grid)
        return torch.stack([rows[:, None].expand(grid), columns[None].expand(grid)], dim=-1).reshape(1, -1, 2)

    result, expected = (
        tokens.unflatten(1, new)[:, 1:-1, 1:-1] for tokens in (resample_tokens(ramp((6, 8)), (6, 8), new), ramp(new))
    )
    torch.testing.assert_close(result, expected, atol=0.02, rtol=0)  # smoothing bends the ends
    assert torch.equal(resample_tokens(ramp((6, 8)), (6, 8), (6, 8)), ramp((6, 8)))
    torch.testing.assert_close(
        resample_tokens(ramp((6, 8))[..., 0], (6, 8), new), resample_tokens(ramp((6, 8)), (6, 8), new)[..., 0]
    )


def test_a_style_mask_must_leave_something_of_every_picture():
    masks = torch.zeros(2, 4, 4)
    masks[0, 1, 2] = 0.01
    with pytest.raises(MagicStyleError, match="style_mask is black everywhere"):
        style_mask(masks, 2)
    masks[1, 3, 0] = 0.01
    assert torch.equal(style_mask(masks, 2), masks)


@pytest.mark.parametrize("check", [region_mask, style_mask])
def test_masks_are_one_for_all_pictures_or_one_for_each(check):
    for rows in (1, 2):
        assert check(torch.full((rows, 4, 4), 0.5), 2).shape == (rows, 4, 4)
    for rows, pictures in ((2, 1), (3, 2), (2, 3)):
        with pytest.raises(MagicStyleError, match=f"holds {rows} masks and the content {pictures} pictures"):
            check(torch.ones(rows, 4, 4), pictures)

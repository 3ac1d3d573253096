import pytest
import torch
from magicstyle.core.grid import Grid, Window


@pytest.mark.parametrize("grid", [(6, 10), (1, 7), (64, 48), (5, 3)])
def test_mask_keeps_its_area_and_its_place_on_any_grid(grid):
    mask = torch.zeros(2, 120, 140)
    mask[0, :60] = 1.0
    mask[1, :, 70:] = 1.0
    tokens = Grid(grid).covered(mask)
    assert tokens.shape == (2, grid[0] * grid[1])
    top = tokens[0].reshape(grid)
    torch.testing.assert_close(top.mean(), torch.tensor(0.5), atol=0.05, rtol=0)
    assert top[0].min() >= top[-1].max()
    assert tokens[1].reshape(grid)[:, -1].min() == 1.0


def test_a_mask_smaller_than_the_grid_is_spread_out():
    assert Grid((4, 6)).covered(torch.tensor([[[0.0, 1.0]]])).reshape(4, 6)[:, 4:].min() == 1.0


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
    assert Window(*window).on_grid(Grid(picture), Grid(grid)) == Window(*expected)


@pytest.mark.parametrize("size", [(16, 24), (9, 13), (17, 23), (5, 1)])
def test_a_window_of_the_whole_picture_is_the_whole_of_each_grid(size):
    for k in range(4):
        grid = tuple(-(-side // 2**k) for side in size)
        assert Window(0, 0, *size).on_grid(Grid(size), Grid(grid)) == Window(0, 0, *grid)


def test_a_grid_that_does_not_halve_the_latent_has_no_windows():
    assert Window(0, 0, 8, 8).on_grid(Grid((16, 24)), Grid((8, 10))) is None


def test_cropped_tokens_are_those_of_the_window():
    grid = torch.arange(2 * 3 * 5).reshape(2, 15, 1)
    assert Grid((3, 5)).cropped(grid, Window(1, 2, 2, 2)).flatten(1).tolist() == [[7, 8, 12, 13], [22, 23, 27, 28]]
    assert Grid((3, 5)).cropped(grid, Window(0, 0, 3, 5)) is grid


@pytest.mark.parametrize("new", [(3, 4), (12, 16), (5, 8)])
def test_resampled_tokens_keep_their_places(new):
    """A ramp over the picture is a ramp on every grid, away from its edges."""

    def ramp(grid):
        rows, columns = ((torch.arange(side) + 0.5) / side for side in grid)
        return torch.stack([rows[:, None].expand(grid), columns[None].expand(grid)], dim=-1).reshape(1, -1, 2)

    old = Grid((6, 8))
    result, expected = (
        tokens.unflatten(1, new)[:, 1:-1, 1:-1] for tokens in (old.resampled(ramp(old), Grid(new)), ramp(new))
    )
    torch.testing.assert_close(result, expected, atol=0.02, rtol=0)  # smoothing bends the ends
    assert torch.equal(old.resampled(ramp(old), old), ramp(old))
    alone = old.resampled(ramp(old)[..., 0], Grid(new))
    torch.testing.assert_close(alone, old.resampled(ramp(old), Grid(new))[..., 0])


def test_a_film_of_one_frame_is_a_picture():
    assert Grid((1, 4, 6)) == Grid((4, 6)) == (4, 6) and hash(Grid((1, 4, 6))) == hash((4, 6))
    assert Grid((1, 4, 6)).frames == 1 and Grid(torch.zeros(2, 16, 1, 4, 6).shape[2:]).tokens == 24


def test_a_film_has_its_frames_one_after_the_other():
    film = Grid((3, 4, 6))
    assert (film.frames, film.frame, film.height, film.width, film.tokens) == (3, (4, 6), 4, 6, 72)
    assert film.with_frame((2, 3)) == (3, 2, 3) and film != Grid((4, 6))


def test_each_frame_of_a_film_is_cut_resampled_and_covered_as_a_picture_is():
    film, frame = Grid((3, 4, 6)), Grid((4, 6))
    tokens = torch.randn(2, film.tokens, 5, generator=torch.Generator().manual_seed(1))
    frames, mask = tokens.split(frame.tokens, dim=1), torch.rand(1, 9, 7)
    changes = lambda x, grid: grid.cropped(x, Window(1, 2, 3, 5)), lambda x, grid: grid.resampled(x, Grid((3, 8)))
    for change in changes:
        expected = torch.cat([change(each, frame) for each in frames], dim=1)
        assert torch.equal(change(tokens, film), expected)
    assert torch.equal(film.covered(mask), torch.cat([frame.covered(mask)] * 3, dim=1))

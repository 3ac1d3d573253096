import numpy as np
import pytest
import torch
from magicstyle.benchmarks.film import SIZE, Film, drawn_film, faded, flicker, in_head, seen_before
from magicstyle.benchmarks.quality import CONTENT_SEED
from magicstyle.tools.demo_model.portraits import on_picture, shape_of


def test_a_point_of_the_head_is_found_again():
    shape, points = shape_of(CONTENT_SEED), np.array([[0.3, -0.2], [-0.7, 0.9], [0.0, 1.0]])
    np.testing.assert_allclose(in_head(shape, on_picture(shape, points)), points, atol=1e-12)


def test_the_drawn_film_agrees_with_its_own_motion():
    film = drawn_film(CONTENT_SEED, 6)
    along, in_place = flicker(film.frames, film)
    assert float(seen_before(film).float().mean()) > 0.9  # the rest is what blinks, turns or comes from behind
    assert along < 1.0 < 5.0 < in_place


def test_flicker_is_what_changes_beside_the_motion():
    """A camera that pans by two pixels over noise: what moves with it does not flicker, a flash of 0.1 does."""
    wide = torch.rand(1, 3, SIZE, SIZE + 2, generator=torch.Generator().manual_seed(1))
    frames = torch.cat([wide[..., :SIZE], wide[..., 2:]])
    x = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    before = torch.stack([(x + 4 / SIZE).expand(SIZE, SIZE), x[:, None].expand(SIZE, SIZE)], dim=-1)[None]
    film = Film(frames, before, torch.ones(2))
    assert flicker(frames, film)[0] < 0.01 and flicker(frames, film)[1] > 50
    flash = frames + torch.tensor([0.0, 0.1]).view(2, 1, 1, 1)
    torch.testing.assert_close(flicker(flash, film)[0], 25.5, atol=0.01, rtol=0)


def test_a_fade_is_kept_as_far_as_brightness_follows_the_content():
    film = drawn_film(CONTENT_SEED, 3, fade=0.5)
    assert film.light.tolist() == [1.0, 0.75, 0.5]
    assert faded(film.frames, film) == pytest.approx(1.0)
    level = film.frames / film.light.view(-1, 1, 1, 1) / 2
    own, steady = (x.mean((1, 2, 3)) for x in (film.frames, level))
    expected = np.polyfit(own.numpy(), steady.numpy(), 1)[0]
    assert faded(level, film) == pytest.approx(float(expected), abs=1e-5)
    torch.testing.assert_close(seen_before(film), seen_before(drawn_film(CONTENT_SEED, 3)))

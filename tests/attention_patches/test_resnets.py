"""The portrait's detail on the rows of a running batch."""

import pytest
import torch
from magicstyle.attention_patches.call import ResNetCall, RowPlan
from magicstyle.attention_patches.resnets import added_detail
from magicstyle.attention_patches.rows import Canvas
from magicstyle.core.detail import high_frequencies, with_detail
from magicstyle.core.features import View
from magicstyle.core.grid import Grid, Window
from magicstyle.core.layers import LayerId
from magicstyle.core.scene import Moment
from magicstyle.tests.core.oracle import randn
from torch.testing import assert_close

LAYER, OTHER = LayerId("output", 9, 0), LayerId("output", 6, 0)
GRID, C = Grid((4, 6)), 8
CANVAS = Canvas(GRID, {LAYER: GRID})
SEEN: list[LayerId] = []
LATER = Moment(progress=0.5)


def handler(content, moment=LATER, strength=1.0):
    view = View(None, added={LAYER: content}.get)
    return added_detail(view, CANVAS, moment, {LAYER}, strength, SEEN.append)


def test_every_chunks_rows_get_their_own_pictures_detail():
    content, x = randn(1, 2, GRID.tokens, C), randn(2, 4, GRID.tokens, C)
    found = handler(content, strength=0.5)(ResNetCall(LAYER, GRID, RowPlan(2, latent=GRID), x))
    for row in range(4):
        own = content[row % 2 : row % 2 + 1]
        expected = with_detail(x[row : row + 1], own, high_frequencies(own, GRID), 0.5)
        assert_close(found[row : row + 1], expected)


def test_a_part_of_the_latent_gets_that_part_of_the_whole_portraits_detail():
    """Cut after the high pass: a tile has no frequencies of its own edges."""
    content, x, window = randn(3, 1, GRID.tokens, C), randn(4, 1, 6, C), Window(1, 2, 2, 3)
    plan = RowPlan(1, windows=(window,), latent=Grid((2, 3)))
    found = handler(content)(ResNetCall(LAYER, Grid((2, 3)), plan, x))

    def cut(tokens):
        return tokens.view(1, *GRID, C)[:, 1:3, 2:5].reshape(1, 6, C)

    assert_close(found, with_detail(x, cut(content), cut(high_frequencies(content, GRID)), 1.0))


@pytest.mark.parametrize("plan", [RowPlan(lost=True), RowPlan(latent=Grid((9, 9)))])
def test_rows_whose_place_is_unknown_stay_as_they_are(plan):
    x = randn(5, 1, 6, C)
    SEEN.clear()
    assert handler(randn(3, 1, GRID.tokens, C))(ResNetCall(LAYER, Grid((2, 3)), plan, x)) is x
    assert SEEN == []


def test_other_layers_and_the_first_step_stay_as_they_are():
    content, x = randn(3, 1, GRID.tokens, C), randn(5, 1, GRID.tokens, C)
    SEEN.clear()
    assert handler(content)(ResNetCall(OTHER, GRID, RowPlan(latent=GRID), x)) is x
    assert handler(content, Moment(progress=0.0)) is None
    assert added_detail(View(None), CANVAS, LATER, {LAYER}, 1.0, SEEN.append) is None
    assert not torch.equal(handler(content)(ResNetCall(LAYER, GRID, RowPlan(latent=GRID), x)), x)
    assert SEEN == [LAYER]

"""What a replay of a stored latent shows, and how long it is held."""

import pytest
import torch
from magicstyle.attention_patches.call import Call, ResNetCall, RowPlan, TokenLayout
from magicstyle.attention_patches.replay import Catcher, Held
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.tests.core.oracle import kernel, randn

LAYER, OTHER = LayerId("output", 9, 0), LayerId("output", 4, 0)
GRID = Grid((3, 4))


def call(layer=LAYER, grid=GRID):
    live = AttentionFeatures(*(randn(seed, 1, grid[0] * grid[1], 8) for seed in (1, 2, 3)))
    return Call(layer, TokenLayout(grid), RowPlan(), live, kernel(2, True))


@pytest.mark.parametrize("roles", ["q", "kv", "qkv"])
def test_the_roles_of_the_layers_that_were_asked_for_are_caught_and_the_answer_left_to_the_host(roles):
    catcher = Catcher([LAYER], roles, {LAYER: GRID})
    handlers = catcher.handlers
    seen, passed = call(), call(OTHER)
    assert handlers.attention(seen) is None and handlers.attention(passed) is None
    caught = catcher.view.attention(LAYER, roles)
    assert [role for role, _ in caught.items()] == list(roles)
    assert all(torch.equal(tensor, getattr(seen.live, role)) for role, tensor in caught.items())
    assert "".join(role for role, _ in catcher.view.attention(LAYER, roles[-1]).items()) == roles[-1]
    with pytest.raises(MagicStyleError, match=r"features of output\.\S+, and another node answered"):
        catcher.view.attention(OTHER, roles)
    assert handlers.resnet is None and catcher.view.resnet is None


def test_a_replay_on_another_grid_is_brought_to_that_of_the_bank():
    catcher, seen = Catcher([LAYER], "k", {LAYER: GRID}), call(grid=Grid((6, 8)))
    catcher.handlers.attention(seen)
    assert torch.equal(catcher.view.attention(LAYER, "k").k, Grid((6, 8)).resampled(seen.live.k, GRID))


def test_what_enters_the_resnet_is_caught_unchanged_where_it_is_asked_for():
    catcher, x = Catcher([LAYER], "qx", {LAYER: GRID}), randn(4, 1, 12, 16)
    assert catcher.handlers.resnet(ResNetCall(OTHER, GRID, RowPlan(), x)) is x
    assert catcher.view.resnet() is x


def test_what_resnets_add_is_caught_on_the_banks_grid_where_it_is_asked_for():
    catcher, fine = Catcher([LAYER], "qh", {LAYER: GRID}), Grid((6, 8))
    seen, passed = randn(4, 1, 48, 8), randn(5, 1, 48, 8)
    assert catcher.handlers.added(ResNetCall(LAYER, fine, RowPlan(), seen)) is seen
    assert catcher.handlers.added(ResNetCall(OTHER, fine, RowPlan(), passed)) is passed
    assert torch.equal(catcher.view.added(LAYER), fine.resampled(seen, GRID))
    with pytest.raises(MagicStyleError, match=r"features of output\.\S+, and another node answered"):
        catcher.view.added(OTHER)
    plain = Catcher([LAYER], "q", {LAYER: GRID})
    assert plain.handlers.added is None and plain.view.added is None


def test_each_picture_is_made_once_for_a_group_and_let_go_before_the_next():
    held, made = Held(), []

    def make(name):
        def view(layer, roles):
            return name

        def build():
            made.append((name, dict(held._views)))
            return view

        return build

    first = held.view(0, 0, make("a"))
    assert held.view(0, 0, make("again")) is first
    other = held.view(1, 0, make("b"))
    assert other is not first and held.view(0, 0, make("again")) is first
    held.view(0, 1, make("c"))
    assert [name for name, _ in made] == ["a", "b", "c"]
    assert 0 not in made[2][1] and 1 in made[2][1]

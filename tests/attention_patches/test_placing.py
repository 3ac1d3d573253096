"""Where stored queries and keys stand beside the running picture, in models with rotary positions."""

import pytest
import torch
from magicstyle.attention_patches.call import Call, RowPlan, TokenLayout
from magicstyle.attention_patches.placing import Placer, Positions
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.core.rotation import Rotation, moved, untwisted
from magicstyle.tests.core.oracle import kernel, randn

ROTATION, HEADS, GRID = Rotation((4, 6, 6), 100.0), 2, Grid((3, 5))
FEATURES = AttentionFeatures(*(randn(seed, 1, 15, 32) for seed in (1, 2, 3)))


def call(*depth):
    return Call(LayerId("double", 0, 0), TokenLayout(GRID, depth=depth), RowPlan(), FEATURES, kernel(HEADS, True))


def placer(**positions):
    return Placer("Flux", ROTATION, Positions(**positions))


def same(found, **expected):
    for role in "qkv":
        torch.testing.assert_close(getattr(found, role), expected.get(role, getattr(FEATURES, role)), rtol=0, atol=1e-6)


def turned(role, *delta):
    return moved(getattr(FEATURES, role), HEADS, ROTATION, delta)


def test_features_that_stand_where_they_should_are_given_back_as_they_are():
    for placed in (placer().content(FEATURES, call(), ()), placer().style(FEATURES, call(7.0), (7.0,))):
        assert placed is FEATURES


def test_another_length_of_caption_moves_queries_and_keys_in_depth_alone():
    expected = {role: turned(role, 4.0, 0.0, 0.0) for role in "qk"}
    same(placer().content(FEATURES, call(10.0), (6.0,)), **expected)
    same(placer().style(FEATURES, call(10.0), (6.0,)), **expected)


def test_a_caption_may_push_the_picture_along_any_of_the_axes():
    expected = {role: turned(role, -6.0, 3.0, 7.5) for role in "qk"}
    same(placer().content(FEATURES, call(0.0, 5.0, 8.0), (6.0, 2.0, 0.5)), **expected)
    beside = {role: turned(role, -6.0, 3.0, 12.5) for role in "qk"}
    same(placer(mode="shift").style(FEATURES, call(0.0, 5.0, 8.0), (6.0, 2.0, 0.5)), **beside)


def test_a_shifted_style_stands_one_pictures_width_aside_and_the_content_does_not():
    same(placer(mode="shift").style(FEATURES, call(), ()), **{role: turned(role, 0.0, 0.0, 5.0) for role in "qk"})
    same(placer(mode="shift").content(FEATURES, call(), ()))


def test_the_columns_of_four_axes_are_the_third():
    """Flux.2: the last axis is the text's."""
    four = Rotation((4, 4, 4, 4), 100.0)
    placed = Placer("Flux2", four, Positions("shift")).style(FEATURES, call(), ())
    torch.testing.assert_close(placed.k, moved(FEATURES.k, HEADS, four, (0.0, 0.0, 5.0, 0.0)))


def test_an_untwisted_styles_keys_are_scaled_by_frequency_behind_the_move():
    chosen = placer(mode="untwist", high_frequencies=0.25, low_frequencies=1.5)
    keys = untwisted(turned("k", 2.0, 0.0, 0.0), HEADS, ROTATION, 0.25, 1.5)
    same(chosen.style(FEATURES, call(2.0), ()), q=turned("q", 2.0, 0.0, 0.0), k=keys)
    same(chosen.content(FEATURES, call(), ()))
    queries = FEATURES.select("q")
    assert chosen.style(queries, call(), (0.0, 0.0)) is queries


def test_models_without_rotary_positions_have_nothing_to_place():
    plain = Placer("SD15", None, Positions())
    assert not plain.rotary and placer().rotary
    for place in (plain.content, plain.style):
        assert place(FEATURES, call(3.0), (1.0,)) is FEATURES
    for mode in ("shift", "untwist"):
        with pytest.raises(MagicStyleError, match=f"positions '{mode}' moves rotary positions, which a SD15 does not"):
            Placer("SD15", None, Positions(mode))


@pytest.mark.parametrize("name", ["high_frequencies", "low_frequencies"])
def test_what_remains_of_a_frequency_is_a_share_of_at_most_four(name):
    for value in (0.0, 4.0):
        Positions("untwist", **{name: value})
    for value in (-0.001, 4.001, float("nan")):
        with pytest.raises(MagicStyleError, match=f"{name} is {value}: choose a value from 0 to 4"):
            Positions("untwist", **{name: value})
    with pytest.raises(MagicStyleError, match="positions is 'beside': choose one of same, shift, untwist"):
        Positions("beside")

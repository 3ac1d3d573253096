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
    placed = chosen.style(FEATURES, call(2.0), ())
    same(chosen.weighed(placed, call(2.0), 0.0), q=turned("q", 2.0, 0.0, 0.0), k=keys)
    same(chosen.content(FEATURES, call(), ()))
    queries = FEATURES.select("q")
    assert chosen.weighed(chosen.style(queries, call(), (0.0, 0.0)), call(), 0.0) is queries


@pytest.mark.parametrize("ramp", [0.0, 0.25, 1.0])
def test_what_remains_of_frequencies_moves_from_the_first_step_to_the_last(ramp):
    ends = {"high_frequencies_end": 0.0, "low_frequencies_end": 1.1, "rise": 2.5, "other_axes": "low"}
    chosen = placer(mode="untwist", high_frequencies=1.04, low_frequencies=1.0, **ends)
    high, low = 1.04 * (1 - ramp), 1.0 + 0.1 * ramp
    keys = untwisted(FEATURES.k, HEADS, ROTATION, high, low, 2.5, "low")
    same(chosen.weighed(FEATURES, call(), ramp), k=keys)


@pytest.mark.parametrize("rotation, centred", [(ROTATION, False), (ROTATION, True), (Rotation((6, 10), 50.0), False)])
@pytest.mark.parametrize("mode", ["same", "shift"])
def test_turning_back_takes_each_token_to_the_origin(rotation, centred, mode):
    """As if every token had been turned alone by where it stands, and the style by where it is put."""
    depth = (4.0, 2.0, 0.5)[: len(rotation.widths)]
    chosen, style_grid = Placer("any", rotation, Positions(mode), centred=centred), Grid((5, 3))
    rows, columns = rotation.picture
    for turn, (height, width), aside in (
        (chosen.turn(call(*depth)), GRID, 0.0),
        (chosen.turn(call(*depth), style_grid), style_grid, 5.0 if mode == "shift" else 0.0),
    ):
        for number in range(15):
            place = list(depth)
            place[rows] += number // width - (height // 2 if centred else 0)
            place[columns] += number % width - (width // 2 if centred else 0) + aside
            token = FEATURES.k[:, number : number + 1]
            there = moved(token, HEADS, rotation, place)
            standing = FEATURES.k.clone()
            standing[:, number : number + 1] = there
            torch.testing.assert_close(turn.undone(standing)[:, number : number + 1], token, rtol=0, atol=1e-5)
            torch.testing.assert_close(turn.done(FEATURES.k)[:, number : number + 1], there, rtol=0, atol=1e-5)


def test_models_without_rotary_positions_have_nothing_to_place():
    plain = Placer("SD15", None, Positions())
    assert not plain.rotary and placer().rotary
    for place in (plain.content, plain.style):
        assert place(FEATURES, call(3.0), (1.0,)) is FEATURES
    for mode in ("shift", "untwist"):
        with pytest.raises(MagicStyleError, match=f"positions '{mode}' moves rotary positions, which a SD15 does not"):
            Placer("SD15", None, Positions(mode))


@pytest.mark.parametrize("name", ["high_frequencies", "low_frequencies", "high_frequencies_end", "low_frequencies_end"])
def test_what_remains_of_a_frequency_is_a_share_of_at_most_four(name):
    for value in (0.0, 4.0):
        Positions("untwist", **{name: value})
    for value in (-0.001, 4.001, float("nan")):
        with pytest.raises(MagicStyleError, match=f"{name} is {value}: choose a value from 0 to 4"):
            Positions("untwist", **{name: value})
    for rise in (0.0, 100.5):
        with pytest.raises(MagicStyleError, match=f"rise is {rise}: choose a value above 0, up to 100"):
            Positions("untwist", rise=rise)
    with pytest.raises(MagicStyleError, match="other_axes is 'all': choose one of stay, low, curve"):
        Positions("untwist", other_axes="all")
    with pytest.raises(MagicStyleError, match="positions is 'beside': choose one of same, shift, untwist"):
        Positions("beside")

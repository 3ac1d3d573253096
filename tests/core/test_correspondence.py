"""Correspondences and what is made of them, against plain torch written from the formula."""

import pytest
import torch
from magicstyle.core.controls import StyleControls
from magicstyle.core.correspondence import QUERIES_AT_ONCE, Match, match, reinforced
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.fusion import FusionSettings, fuse
from magicstyle.core.rotation import Rotation, Turn, places
from magicstyle.core.scene import Scene, StyleFeatures
from magicstyle.tests.core import oracle
from magicstyle.tests.core.oracle import best_matches, kernel, randn
from magicstyle.tests.core.test_fusion import CLOSE, CONTENT, HEADS, LIVE, PLAIN, C, N, features
from torch.testing import assert_close

STYLE, OTHER = features(50), features(60)  # as many tokens as the content
AS_PLAIN = *PLAIN[:2], tuple(STYLE)
MATCH, OTHERS = match(CONTENT.k, STYLE.k), match(CONTENT.k, OTHER.k)


def run(*styles, **controls):
    settings = FusionSettings("cocodiff", query_preservation=0.75, controls=StyleControls(**controls))
    return fuse(kernel(HEADS, True), Scene(LIVE, CONTENT, styles), settings)


@pytest.mark.parametrize("n, m", [(14, 9), (QUERIES_AT_ONCE + 3, 5), (1, 1)])
def test_a_match_is_the_most_similar_token_and_its_cosine(n, m):
    content, style = randn(1, 2, n, 6), randn(2, 2, m, 6) + 0.5
    found, (where, cosines) = match(content, style), best_matches(content, style)
    assert torch.equal(found.places, where)
    assert_close(found.score, cosines, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("rows", [(1, 3), (3, 1)], ids=["one content", "one style"])
def test_one_picture_is_matched_with_each_of_several(rows):
    content, style = (randn(seed, count, 9, 6) for seed, count in zip((1, 2), rows, strict=True))
    found = match(content, style)
    for row in range(3):
        alone = match(
            content[row : row + 1] if rows[0] > 1 else content, style[row : row + 1] if rows[1] > 1 else style
        )
        assert torch.equal(found.places[row], alone.places[0])


def test_a_style_mask_leaves_tokens_out_and_masks_of_several_pictures_are_each_ones_own():
    mask = torch.stack([torch.arange(N) < 5, torch.arange(N) % 2 == 1]).float()
    found = match(CONTENT.k[:1], STYLE.k[:1], mask)
    assert bool((found.places[0] < 5).all()) and bool((found.places[1] % 2 == 1).all())
    shown = match(CONTENT.k[:1], STYLE.k[:1, 1::2])
    assert torch.equal(found.places[1], 1 + 2 * shown.places[0])
    assert_close(found.score[1], shown.score[0])


@pytest.mark.parametrize("w", [0.6, 1.7])
def test_the_method_equals_its_formula(w):
    result = run(StyleFeatures(STYLE, match=MATCH), match_weight=w)
    expected = oracle.cocodiff(*AS_PLAIN, HEADS, w=w, matches=best_matches(CONTENT.k, STYLE.k))
    assert_close(result, expected, **CLOSE)
    assert (result - oracle.styleid(*AS_PLAIN, HEADS)).abs().max() > 1e-2


def test_at_weight_0_it_is_styleid_to_the_bit():
    styleid = FusionSettings("styleid", query_preservation=0.75, temperature=1.5)
    expected = fuse(kernel(HEADS, True), Scene(LIVE, CONTENT, (StyleFeatures(STYLE),)), styleid)
    assert torch.equal(run(StyleFeatures(STYLE, match=MATCH), match_weight=0.0), expected)


def test_a_place_that_matches_itself_gets_itself_and_one_that_is_unlike_nothing():
    """As published for a style that is the content: 1.6 K and 1.6 V. A cosine below 0 adds nothing."""
    itself = Match(torch.arange(N).expand(2, N), torch.ones(2, N))
    scaled = STYLE.replace(k=1.6 * STYLE.k, v=1.6 * STYLE.v)
    assert_close(reinforced(STYLE, itself, 0.6).k, scaled.k)
    assert_close(run(StyleFeatures(STYLE, match=itself)), run(StyleFeatures(scaled)), **CLOSE)
    unlike = reinforced(STYLE, Match(itself.places, -torch.ones(2, N)), 0.6)
    assert torch.equal(unlike.k, STYLE.k) and torch.equal(unlike.v, STYLE.v)


def test_several_styles_in_regions_are_each_matched_by_themselves():
    left = (torch.arange(N) < 6).float().unsqueeze(0)
    both = run(StyleFeatures(STYLE, 1.0, left, match=MATCH), StyleFeatures(OTHER, 2.0, 1 - left, match=OTHERS))
    one, two = run(StyleFeatures(STYLE, match=MATCH)), run(StyleFeatures(OTHER, match=OTHERS))
    assert_close(both, torch.where(left[..., None] > 0, one, two), **CLOSE)


def test_what_is_added_has_the_turn_of_the_place_that_gets_it():
    """Keys are turned by their places: upright ones are added, and the sum is turned as the place turns it."""
    rotation, grid = Rotation((4, 4), 100.0), (2, N // 2)
    turn = Turn(HEADS, rotation, places(grid, rotation, (3.0, 1.0)))
    upright = AttentionFeatures(STYLE.q, STYLE.k, STYLE.v)
    found = reinforced(upright.replace(k=turn.done(upright.k)), MATCH, 0.6, turn)
    assert C == HEADS * 8
    assert_close(found.k, turn.done(reinforced(upright, MATCH, 0.6).k), **CLOSE)
    assert_close(found.v, reinforced(upright, MATCH, 0.6).v)


def test_half_precision_is_followed():
    half = reinforced(STYLE.map(lambda tokens: tokens.bfloat16()), MATCH, 0.6)
    assert half.k.dtype == half.v.dtype == torch.bfloat16


@pytest.mark.parametrize("weight", [-0.1, 10.5, float("nan")])
def test_a_weight_that_cannot_be_meant_is_refused(weight):
    with pytest.raises(MagicStyleError, match=f"match_weight is {weight}: choose a value from 0 to 10"):
        StyleControls(match_weight=weight)

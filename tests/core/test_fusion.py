"""Each method against plain torch written from its published formula."""

import math

import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.fusion import METHODS, FusionSettings, Scene, StyleFeatures, fuse
from magicstyle.tests.core.oracle import dense_attention, kernel, randn
from torch.testing import assert_close

HEADS, N, C = 3, 14, 24
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def features(seed, n=N, b=2):
    return AttentionFeatures(*(randn(seed + i, b, n, C) for i in range(3)))


LIVE, CONTENT, STYLE, OTHER = features(0), features(10), features(20, 22), features(30, 9)


def run(*styles, takes_key_mask=True, **knobs):
    scene = Scene(LIVE, CONTENT, tuple(styles) or (StyleFeatures(STYLE),))
    return fuse(kernel(HEADS, takes_key_mask), scene, FusionSettings(**knobs))


def cat(*parts):
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("w_s, w_c, g, tau", [(1.0, 0.3, 0.75, 1.5), (2.0, 2.0, 0.0, 1.0), (0.4, 1.0, 1.0, 0.7)])
def test_ffa_is_one_softmax_over_style_and_content(w_s, w_c, g, tau, takes_key_mask):
    q = g * CONTENT.q + (1 - g) * LIVE.q
    bias = cat(torch.full((1, 22), math.log(w_s)), torch.full((1, N), math.log(w_c))).unsqueeze(1)
    expected = dense_attention(q, cat(STYLE.k, CONTENT.k), cat(STYLE.v, CONTENT.v), HEADS, bias, tau)
    knobs = {"style_weight": w_s, "content_weight": w_c, "query_preservation": g, "temperature": tau}
    assert_close(run(takes_key_mask=takes_key_mask, **knobs), expected, **CLOSE)


@pytest.mark.parametrize("g, tau", [(0.75, 1.5), (0.0, 1.0)])
def test_styleid_replaces_keys_and_values_by_the_style(g, tau):
    expected = dense_attention(g * CONTENT.q + (1 - g) * LIVE.q, STYLE.k, STYLE.v, HEADS, tau=tau)
    result = run(method="styleid", query_preservation=g, temperature=tau, content_weight=5.0, style_weight=3.0)
    assert_close(result, expected, **CLOSE)


def test_masactrl_asks_the_content_alone_and_reads_no_knob():
    expected = dense_attention(LIVE.q, CONTENT.k, CONTENT.v, HEADS)
    assert_close(run(method="masactrl"), expected, **CLOSE)
    assert torch.equal(run(method="masactrl", query_preservation=1.0, temperature=3.0), run(method="masactrl"))


def test_neutral_setting_is_the_models_own_attention_bit_for_bit():
    own = kernel(HEADS, True).call(LIVE.q, LIVE.k, LIVE.v, None)
    assert torch.equal(run(style_weight=0.0, content_weight=0.0, query_preservation=0.0, temperature=1.0), own)


def test_without_style_weight_the_content_answers():
    expected = dense_attention(CONTENT.q, CONTENT.k, CONTENT.v, HEADS)
    assert_close(run(style_weight=0.0, content_weight=0.2, query_preservation=1.0, temperature=1.0), expected, **CLOSE)


@pytest.mark.parametrize("method", METHODS)
def test_several_styles_in_any_order_and_copies_at_shared_weight(method):
    a, b = StyleFeatures(STYLE, 0.5), StyleFeatures(OTHER, 2.0)
    assert_close(run(a, b, method=method), run(b, a, method=method), **CLOSE)
    copies = [StyleFeatures(STYLE, 1 / 3)] * 3
    assert_close(run(*copies, method=method), run(StyleFeatures(STYLE, 1.0), method=method), **CLOSE)


@pytest.mark.parametrize("method", ["ffa", "styleid"])
def test_a_region_of_ones_is_no_region_and_a_region_of_zeros_is_the_content(method):
    knobs = {"method": method, "content_weight": 0.4}
    everywhere = run(StyleFeatures(STYLE, 1.0, torch.ones(1, N)), **knobs)
    assert_close(everywhere, run(**knobs), atol=2e-5, rtol=1e-5)
    nowhere = run(StyleFeatures(STYLE, 1.0, torch.zeros(1, N)), **knobs)
    assert_close(nowhere, run(method="ffa", style_weight=0.0, content_weight=1.0), **CLOSE)


def test_outside_hard_regions_tokens_are_the_contents_own():
    region = torch.zeros(1, N)
    region[:, :5] = 1.0
    result = run(StyleFeatures(STYLE, 1.0, region), method="styleid")
    content = run(method="ffa", style_weight=0.0, content_weight=1.0)
    assert_close(result[:, 5:], content[:, 5:], **CLOSE)
    assert_close(result[:, :5], run(method="styleid")[:, :5], **CLOSE)


def test_a_style_mask_hides_tokens_of_the_style():
    mask = torch.ones(1, 22)
    mask[:, 8:] = 0.0
    shown = AttentionFeatures(None, STYLE.k[:, :8], STYLE.v[:, :8])
    for takes_key_mask in (True, False):
        masked = run(StyleFeatures(STYLE, 1.0, None, mask), takes_key_mask=takes_key_mask)
        assert_close(masked, run(StyleFeatures(shown)), **CLOSE)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"method": "magic"}, "method is 'magic': choose one of ffa, styleid, masactrl"),
        ({"query_preservation": 1.2}, "query_preservation is 1.2: choose a value from 0 to 1"),
        ({"temperature": 0.0}, "temperature is 0.0: choose a value above 0"),
        ({"style_weight": -1.0}, "style_weight is -1.0: choose 0 or a positive"),
        ({"content_weight": math.nan}, "content_weight is nan"),
    ],
)
def test_bad_knobs_are_refused_in_one_sentence(knobs, message):
    with pytest.raises(MagicStyleError, match=message):
        FusionSettings(**knobs)

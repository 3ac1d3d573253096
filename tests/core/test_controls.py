"""The knobs of other packs on every method, against plain torch written from their formulas."""

from dataclasses import replace

import pytest
import torch
from magicstyle.core.attention import Source
from magicstyle.core.controls import AT_REST, StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.fusion import FUSIONS, FusionSettings, answer_text, fuse
from magicstyle.core.rotation import Rotation, Turn, places
from magicstyle.core.scene import Moment, Scene, StyleFeatures
from magicstyle.tests.core import oracle
from magicstyle.tests.core.oracle import RULES, adain, cat, controlled, dense_attention, kernel, randn
from torch.testing import assert_close

HEADS, N, M, TEXT, C = 3, 15, 20, 4, 24
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
WITH_STYLES = ["ffa", "styleid", "sac", "seac", "zstar", "style_aligned", "rsa", "mast"]
KNOBS = {
    "ffa": {"content_weight": 0.05, "query_preservation": 0.75, "temperature": 1.5},
    "styleid": {"query_preservation": 0.75, "temperature": 1.5},
    "mast": {"content_weight": 0.1, "query_preservation": 0.0, "temperature": 1.0},
}


def features(seed, n, b=2):
    return AttentionFeatures(*(randn(seed + i, b, n, C) for i in range(3)))


LIVE, CONTENT, STYLE, WORDS = features(0, N), features(10, N), features(20, M), features(30, TEXT)
PLAIN = tuple(LIVE), tuple(CONTENT), tuple(STYLE)


def settings(method, **controls):
    knobs = KNOBS.get(method, {"query_preservation": 0.0})
    return FusionSettings(method, controls=StyleControls(**controls), **knobs)


def scene_of(style=None, ramp=0.0, **more):
    style = StyleFeatures(STYLE) if style is None else style
    return Scene(LIVE, CONTENT, (style,), Moment(0.0, 1.0, ramp), **more)


def run(method, scene=None, **controls):
    return fuse(kernel(HEADS, True), scene or scene_of(), settings(method, **controls))


@pytest.mark.parametrize(
    "controls",
    [
        {"key_scale": 1.06},
        {"align": 0.85},
        {"align": 1.0},
        {"align": 0.0},
        {"mix": 0.3},
        {"mix": 0.0},
        {"align": 0.5, "key_scale": 1.3, "mix": 0.6},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", WITH_STYLES)
def test_every_method_takes_every_knob(method, controls):
    assert_close(run(method, **controls), controlled(RULES[method], *PLAIN, HEADS, **controls), **CLOSE)


@pytest.mark.parametrize("method", WITH_STYLES)
def test_at_rest_a_method_is_itself_to_the_last_bit(method):
    at_rest = StyleControls(key_scale=1.0, align=None, mix=1.0, style_weight_end=None)
    assert at_rest == AT_REST and at_rest.at_rest
    plain = FUSIONS[method].fuse(kernel(HEADS, True), scene_of(), settings(method))
    assert torch.equal(run(method), plain)
    # a ramp between equal ends, and a strength that is the method's own
    assert torch.equal(run(method, style_weight_end=1.0), plain)
    if method == "style_aligned":
        assert torch.equal(run(method, align=1.0), plain)
    else:
        assert torch.equal(run(method, align=0.0), plain)


def test_a_whole_mix_of_nothing_is_the_models_own_attention_to_the_last_bit():
    own = kernel(HEADS, True).call(LIVE.q, LIVE.k, LIVE.v, None)
    for method in WITH_STYLES:
        assert torch.equal(run(method, mix=0.0), own)


@pytest.mark.parametrize("ramp", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("start, end", [(1.0, 3.0), (2.0, 0.0), (0.0, 1.0)])
def test_the_styles_weight_moves_in_even_steps(start, end, ramp):
    weight = start + (end - start) * ramp
    moving = FusionSettings(style_weight=start, content_weight=0.3, controls=StyleControls(style_weight_end=end))
    still = FusionSettings(style_weight=weight, content_weight=0.3)
    found = fuse(kernel(HEADS, True), scene_of(ramp=ramp), moving)
    assert_close(found, fuse(kernel(HEADS, True), scene_of(), still), **CLOSE)


# --- before the rotation -------------------------------------------------------------------------------------------

ROTATION = Rotation((2, 2, 4), 30.0)
GRID, STYLE_GRID = (3, 5), (4, 5)


def turn(grid):
    return Turn(HEADS, ROTATION, places(grid, ROTATION, (3.0, 0.0, -1.0)))


def rope(x, grid, sign=1.0):
    """Every pair of channels as a complex number, turned by its token's place, one by one."""
    out = x.clone()
    for token in range(x.shape[1]):
        place = 3.0, float(token // grid[1]), token % grid[1] - 1.0
        for head in range(HEADS):
            channel = head * C // HEADS
            for width, where in zip(ROTATION.widths, place, strict=True):
                for j in range(0, width, 2):
                    angle = torch.tensor(sign * where * ROTATION.theta ** (-j / width))
                    pair = torch.complex(x[:, token, channel + j], x[:, token, channel + j + 1])
                    pair = pair * torch.polar(torch.tensor(1.0), angle)
                    out[:, token, channel + j], out[:, token, channel + j + 1] = pair.real, pair.imag
                channel += width
    return out


@pytest.mark.parametrize("a", [0.5, 1.0])
def test_before_the_rotation_statistics_are_those_of_features_without_places(a):
    live, style = (
        AttentionFeatures(rope(x.q, grid), rope(x.k, grid), x.v) for x, grid in ((LIVE, GRID), (STYLE, STYLE_GRID))
    )
    q, k = (rope((1 - a) * x + a * adain(x, y), GRID) for x, y in ((LIVE.q, STYLE.q), (LIVE.k, STYLE.k)))
    expected = dense_attention(q, cat(style.k, k), cat(style.v, live.v), HEADS)
    placed = Scene(live, CONTENT, (StyleFeatures(style, turn=turn(STYLE_GRID)),), turn=turn(GRID))
    found = run("style_aligned", placed, align=a, align_before_rotation=True)
    assert_close(found, expected, **CLOSE)
    after = run("style_aligned", placed, align=a)
    assert not torch.allclose(after, expected, atol=1e-3)
    # without rotary positions there is no before
    flat = run("style_aligned", align=a, align_before_rotation=True)
    assert torch.equal(flat, run("style_aligned", align=a))


# --- masks -----------------------------------------------------------------------------------------------------------


def test_alignment_follows_regions_and_masks():
    left, drawn = (torch.arange(N) < 6).float().unsqueeze(0), (torch.arange(M) < 9).float().unsqueeze(0)
    style = StyleFeatures(STYLE, 1.0, left, drawn)
    found = run("zstar", scene_of(style), align=0.7)
    mix = 0.7 * left[..., None]
    q, k = ((1 - mix) * x + mix * adain(x, y[:, :9]) for x, y in zip((LIVE.q, LIVE.k), STYLE, strict=False))
    inside = dense_attention(q, cat(1.2 * STYLE.k[:, :9], k), cat(STYLE.v[:, :9], LIVE.v), HEADS)
    outside = dense_attention(q, k, LIVE.v, HEADS)
    assert_close(found, torch.where(left[..., None] > 0, inside, outside), **CLOSE)


@pytest.mark.parametrize("method", WITH_STYLES)
def test_a_mix_leaves_what_is_kept_to_the_method(method):
    keep = (torch.arange(N) < 6).float().unsqueeze(0)
    kept = scene_of(keep=keep)
    half, whole, own = run(method, kept, mix=0.5), run(method, kept), dense_attention(*LIVE, HEADS)
    share = 0.5 + 0.5 * keep[..., None]
    assert_close(half, (1 - share) * own + share * whole, **CLOSE)


# --- the text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", WITH_STYLES)
def test_a_text_that_sees_the_style_sees_it_beside_itself_and_the_running_picture(method):
    controls = StyleControls(align=0.85, key_scale=1.06, mix=0.4, text_sees_style=True)
    with_text = replace(kernel(HEADS, True), text_source=Source(WORDS.k, WORDS.v))
    found = answer_text(with_text, WORDS.q, scene_of(), replace(settings(method), controls=controls))
    k = 0.15 * LIVE.k + 0.85 * adain(LIVE.k, STYLE.k)
    own = dense_attention(WORDS.q, cat(WORDS.k, k), cat(WORDS.v, LIVE.v), HEADS)
    seeing = dense_attention(WORDS.q, cat(WORDS.k, k, 1.06 * STYLE.k), cat(WORDS.v, LIVE.v, STYLE.v), HEADS)
    assert_close(found, 0.6 * own + 0.4 * seeing, **CLOSE)


def test_to_the_text_a_style_weighs_as_much_as_its_region_covers():
    region = (torch.arange(N) < 6).float().unsqueeze(0)
    with_text = replace(kernel(HEADS, True), text_source=Source(WORDS.k, WORDS.v))
    found = answer_text(with_text, WORDS.q, scene_of(StyleFeatures(STYLE, 2.0, region)), settings("zstar"))
    mass = oracle.masses((1.0, WORDS.k), (1.0, LIVE.k), (2.0 * 6 / N, STYLE.k))
    values = cat(WORDS.v, LIVE.v, STYLE.v)
    expected = dense_attention(WORDS.q, cat(WORDS.k, LIVE.k, STYLE.k), values, HEADS, mass=mass)
    assert_close(found, expected, **CLOSE)


# --- numbers that make no sense -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, least, most", [("key_scale", 0.0, 4.0), ("align", 0.0, 1.0), ("mix", 0.0, 1.0)])
def test_a_knob_stays_in_its_range(name, least, most):
    for value in (least, most):
        StyleControls(**{name: value})
    for value in (least - 0.01, most + 0.01, float("nan")):
        with pytest.raises(MagicStyleError, match=f"{name} is {value}"):
            StyleControls(**{name: value})


def test_a_weight_at_the_end_is_a_weight():
    with pytest.raises(MagicStyleError, match="style_weight_end is -1"):
        StyleControls(style_weight_end=-1.0)


@pytest.mark.parametrize("method", [name for name in FUSIONS if not FUSIONS[name].style])
def test_a_method_without_a_style_refuses_controls_that_it_could_not_follow(method):
    with pytest.raises(MagicStyleError, match=f"method {method} attends to no style, so that style controls"):
        FusionSettings(method, controls=StyleControls(mix=0.5))
    FusionSettings(method, controls=StyleControls())


def test_alignment_reads_the_styles_queries_too():
    for method in WITH_STYLES:
        assert settings(method, align=0.5).style_roles == "qkv"
        assert settings(method, align=0.0).style_roles == settings(method).style_roles == FUSIONS[method].style


def test_the_style_queries_can_be_mixed_and_what_reads_a_key_is_refused():
    """Of nvqg's answer and the model's own, as the port's strength has it."""
    queries = oracle.laid(STYLE.q, N)
    scene = scene_of(StyleFeatures(STYLE, queries=queries))
    half = 0.5 * dense_attention(queries, LIVE.k, LIVE.v, HEADS) + 0.5 * dense_attention(*LIVE, HEADS)
    assert_close(run("nvqg", scene, mix=0.5), half, **CLOSE)
    for knob in ({"key_scale": 1.1}, {"text_sees_style": True}):
        with pytest.raises(MagicStyleError, match="method nvqg attends to no key of the style: leave key_scale"):
            settings("nvqg", **knob)

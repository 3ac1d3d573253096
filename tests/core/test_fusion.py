"""Each method against plain torch written from its published formula."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from magicstyle.banks.bank import content_roles, style_roles
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.fusion import FUSIONS, FusionSettings, fuse
from magicstyle.core.scene import Moment, Scene, StyleFeatures, shares
from magicstyle.core.sources import source
from magicstyle.tests.core import oracle
from magicstyle.tests.core.oracle import adain, cat, dense_attention, kernel, randn
from torch.testing import assert_close

HEADS, N, C = 3, 14, 24
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def features(seed, n=N, b=2):
    return AttentionFeatures(*(randn(seed + i, b, n, C) for i in range(3)))


LIVE, CONTENT, STYLE, OTHER = features(0), features(10), features(20, 22), features(30, 9)
PLAIN = tuple(LIVE), tuple(CONTENT), tuple(STYLE)  # as the oracles take them


def style_of(features, *more, **named):
    """A style whose queries are laid where the running ones are, as methods need them that attend by them."""
    queries = oracle.laid(features.q, N) if "q" in features else None
    return StyleFeatures(features, *more, **{"queries": queries, **named})


def run(*styles, takes_key_mask=True, progress=0.0, noise=1.0, **knobs):
    scene = Scene(LIVE, CONTENT, tuple(styles) or (style_of(STYLE),), Moment(progress, noise))
    return fuse(kernel(HEADS, takes_key_mask), scene, FusionSettings(**knobs))


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("w_s, w_c, g, tau", [(1.0, 0.3, 0.75, 1.5), (2.0, 2.0, 0.0, 1.0), (0.4, 1.0, 1.0, 0.7)])
def test_ffa_is_one_softmax_over_style_and_content(w_s, w_c, g, tau, takes_key_mask):
    expected = oracle.ffa(*PLAIN, HEADS, gamma=g, tau=tau, w_s=w_s, w_c=w_c)
    knobs = {"style_weight": w_s, "content_weight": w_c, "query_preservation": g, "temperature": tau}
    assert_close(run(takes_key_mask=takes_key_mask, **knobs), expected, **CLOSE)


@pytest.mark.parametrize("g, tau", [(0.75, 1.5), (0.0, 1.0)])
def test_styleid_replaces_keys_and_values_by_the_style(g, tau):
    expected = oracle.styleid(*PLAIN, HEADS, gamma=g, tau=tau)
    result = run(method="styleid", query_preservation=g, temperature=tau, content_weight=5.0, style_weight=3.0)
    assert_close(result, expected, **CLOSE)


def test_masactrl_asks_the_content_alone_and_reads_no_knob():
    assert_close(run(method="masactrl"), oracle.masactrl(*PLAIN, HEADS), **CLOSE)
    assert torch.equal(run(method="masactrl", query_preservation=1.0, temperature=3.0), run(method="masactrl"))


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("progress", [0.0, 34 / 50, 35 / 50, 49 / 50])
def test_sac_asks_with_the_contents_queries_and_later_leans_to_the_running_ones(progress, takes_key_mask):
    result = run(method="sac", progress=progress, takes_key_mask=takes_key_mask, temperature=3.0)
    assert_close(result, oracle.sac(*PLAIN, HEADS, progress), **CLOSE)


@pytest.mark.parametrize("g, w_s", [(0.0, 1.0), (0.5, 2.0)])
def test_seac_multiplies_the_styles_logits(g, w_s):
    expected = oracle.seac(*PLAIN, HEADS, gamma=g, w_s=w_s)
    assert_close(run(method="seac", query_preservation=g, style_weight=w_s, temperature=3.0), expected, **CLOSE)


def test_zstar_asks_the_emphasised_style_and_the_running_picture():
    assert_close(run(method="zstar"), oracle.zstar(*PLAIN, HEADS), **CLOSE)


def test_style_aligned_brings_queries_and_keys_to_the_styles_statistics():
    assert_close(run(method="style_aligned"), oracle.style_aligned(*PLAIN, HEADS), **CLOSE)


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_rsa_adds_three_to_the_references_logits_inside_its_mask(masked, takes_key_mask):
    mask = (torch.arange(22) % 3 > 0).float().unsqueeze(0) if masked else None
    expected = oracle.rsa(*PLAIN, HEADS, mask=mask)
    style = style_of(STYLE, style_mask=mask)
    assert_close(run(style, method="rsa", takes_key_mask=takes_key_mask), expected, **CLOSE)


@pytest.mark.parametrize("noise", [1.0, 0.5, 0.4, 0.1, 0.0])
def test_diffstyler_blends_queries_and_keys_by_twice_the_timestep(noise):
    expected = oracle.diffstyler(*PLAIN, HEADS, t=noise)
    assert_close(run(method="diffstyler", noise=noise), expected, **CLOSE)


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("w_s, w_c, g, tau", [(1.0, 1 / 9, 0.2, 1.0), (2.0, 0.5, 1.0, 1.0), (0.3, 3.0, 0.0, 2.0)])
def test_mast_gives_each_picture_its_mass(w_s, w_c, g, tau, takes_key_mask):
    expected = oracle.mast(*PLAIN, HEADS, gamma=g, tau=tau, w_s=w_s, w_c=w_c)
    knobs = {"style_weight": w_s, "content_weight": w_c, "query_preservation": g, "temperature": tau}
    assert_close(run(method="mast", takes_key_mask=takes_key_mask, **knobs), expected, **CLOSE)


@pytest.mark.parametrize("w_s", [1.0, 2.0])
def test_mast_shares_the_mass_of_regions_among_styles_and_leaves_the_rest_to_the_content(w_s):
    """Two soft regions that overlap: what all cover is their sum up to 1, and each has its part of it."""
    first, second, w_c = torch.linspace(0.05, 0.9, N), torch.linspace(0.8, 0.1, N), 0.2
    covered, weighed = (first + second).clamp(max=1.0), first + 3.0 * second
    whole = w_s * covered + w_c + 1.0 - covered
    shares = [w_s * covered * first / weighed, w_s * covered * 3.0 * second / weighed, w_c + 1.0 - covered]
    drawn = [oracle.logits(LIVE.q, style.k, HEADS) for style in (STYLE, OTHER)]
    drawn.append(oracle.logits(CONTENT.q, CONTENT.k, HEADS))
    values = [features.v for features in (STYLE, OTHER, CONTENT)]
    parts = [(share / whole, found, v) for share, found, v in zip(shares, drawn, values, strict=True)]
    styles = style_of(STYLE, 1.0, first.unsqueeze(0)), style_of(OTHER, 3.0, second.unsqueeze(0))
    knobs = {"style_weight": w_s, "content_weight": w_c, "query_preservation": 0.0, "temperature": 1.0}
    assert_close(run(*styles, method="mast", **knobs), oracle.shifted_softmax(parts, HEADS), **CLOSE)


@pytest.mark.parametrize("tau", [1.0, 1.5])
def test_mast_alone_is_styleid_to_the_bit_and_without_style_the_contents_own_answer(tau):
    knobs = {"query_preservation": 0.4, "temperature": tau}
    assert torch.equal(run(method="mast", **knobs), run(method="styleid", **knobs))
    own = dense_attention(CONTENT.q, CONTENT.k, CONTENT.v, HEADS)
    assert_close(run(method="mast", style_weight=0.0, **knobs), own, **CLOSE)
    assert_close(run(method="mast", style_weight=1e-5, content_weight=1e5, **knobs), own, **CLOSE)
    black = style_of(STYLE, 1.0, torch.zeros(1, N))
    assert_close(run(black, method="mast", **knobs), own, **CLOSE)


def test_mast_attends_to_a_style_only_where_it_has_a_mass_and_text_beside_every_part():
    left, calls, text = (torch.arange(N) < 6).float().unsqueeze(0), [], features(40, 5)
    with_text = replace(kernel(HEADS, True, calls), text_source=source(text))
    styles = style_of(STYLE, 1.0, left), style_of(OTHER, 1.0, 0.5 * left)
    settings = FusionSettings("mast", query_preservation=0.0, temperature=1.0)
    out = fuse(with_text, Scene(LIVE, CONTENT, styles), settings)
    assert [(q[1], k[1]) for q, k, _ in calls] == [(6, 22 + 5), (6, 9 + 5), (N - 6, N + 5)]
    parts = [dense_attention(LIVE.q, cat(s.k, text.k), cat(s.v, text.v), HEADS) for s in (STYLE, OTHER)]
    own = dense_attention(CONTENT.q, cat(CONTENT.k, text.k), cat(CONTENT.v, text.v), HEADS)
    assert_close(out, torch.where(left[..., None] > 0, 2 / 3 * parts[0] + 1 / 3 * parts[1], own), **CLOSE)


@pytest.mark.parametrize("g", [0.25, 1.0])
def test_gar_blends_the_content_with_the_styles_statistics_into_queries_keys_and_values(g):
    assert_close(run(method="gar", query_preservation=g), oracle.gar(*PLAIN, HEADS, gamma=g), **CLOSE)


def test_gar_without_a_share_is_the_models_own_attention_and_with_the_content_as_its_style_the_contents():
    own = kernel(HEADS, True).call(LIVE.q, LIVE.k, LIVE.v, None)
    assert torch.equal(run(method="gar", query_preservation=0.0), own)
    result = run(style_of(CONTENT), method="gar", query_preservation=1.0)
    assert_close(result, dense_attention(*CONTENT, HEADS), **CLOSE)


def test_nvqg_attends_to_the_running_picture_by_the_styles_queries_where_a_style_acts():
    assert_close(run(method="nvqg"), oracle.nvqg(*PLAIN, HEADS), **CLOSE)
    left, soft = (torch.arange(N) < 6).float().unsqueeze(0), torch.linspace(0.0, 0.5, N).unsqueeze(0)
    queries = [oracle.laid(style.q, N) for style in (STYLE, OTHER)]
    first, second, own = (dense_attention(q, LIVE.k, LIVE.v, HEADS) for q in (*queries, LIVE.q))
    covered = (left + soft).clamp(max=1.0)
    parts = [covered * weight / (left + 3.0 * soft).clamp(min=1e-9) for weight in (left, 3.0 * soft)]
    expected = parts[0][..., None] * first + parts[1][..., None] * second + (1 - covered)[..., None] * own
    result = run(style_of(STYLE, 1.0, left), style_of(OTHER, 3.0, soft), method="nvqg")
    assert_close(result, expected, **CLOSE)


def test_nvqg_under_the_pictures_own_queries_or_with_no_style_that_acts_is_the_models_own_attention():
    own = kernel(HEADS, True).call(LIVE.q, LIVE.k, LIVE.v, None)
    assert torch.equal(run(StyleFeatures(STYLE, queries=LIVE.q), method="nvqg"), own)
    assert torch.equal(run(style_of(STYLE, 0.0), method="nvqg"), own)
    with pytest.raises(ValueError, match="not on the running picture's grid"):
        run(StyleFeatures(STYLE), method="nvqg")


READ = {
    "style_weight": {"style_weight": 2.5},
    "content_weight": {"content_weight": 1.7},
    "query_preservation": {"query_preservation": 0.1},
    "temperature": {"temperature": 0.6},
}


@pytest.mark.parametrize("knob", READ)
@pytest.mark.parametrize("method", FUSIONS)
def test_a_method_reads_the_knobs_that_its_table_names_and_no_other(method, knob):
    """The weight of a single style cancels where nothing else is attended to: half a region leaves the content in."""
    style = style_of(STYLE, 1.0, torch.full((1, N), 0.5))
    changed = (run(style, method=method, **READ[knob]) - run(style, method=method)).abs().max() > 1e-4
    assert bool(changed) == (knob in FUSIONS[method].knobs)


def test_neutral_setting_is_the_models_own_attention_bit_for_bit():
    own = kernel(HEADS, True).call(LIVE.q, LIVE.k, LIVE.v, None)
    assert torch.equal(run(style_weight=0.0, content_weight=0.0, query_preservation=0.0, temperature=1.0), own)


def test_without_style_weight_the_content_answers():
    expected = dense_attention(CONTENT.q, CONTENT.k, CONTENT.v, HEADS)
    assert_close(run(style_weight=0.0, content_weight=0.2, query_preservation=1.0, temperature=1.0), expected, **CLOSE)


SOFT = torch.linspace(0, 1, N).unsqueeze(0)
WITH_STYLES = [name for name, method in FUSIONS.items() if method.style]


@pytest.mark.parametrize("region", [None, SOFT, SOFT.round()], ids=["everywhere", "soft", "hard"])
@pytest.mark.parametrize("method", FUSIONS)
@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_several_styles_in_any_order_and_copies_at_shared_weight(method, region, progress):
    knobs = {"method": method, "progress": progress}
    a, b = style_of(STYLE, 0.5, region), style_of(OTHER, 2.0)
    assert_close(run(a, b, **knobs), run(b, a, **knobs), **CLOSE)
    copies = [style_of(STYLE, 1 / 3, region, picture=1)] * 3
    assert_close(run(*copies, **knobs), run(style_of(STYLE, 1.0, region), **knobs), **CLOSE)


@pytest.mark.parametrize("weight", [1.0, 0.4])
@pytest.mark.parametrize("method", WITH_STYLES)
@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_a_region_of_ones_is_no_region_and_a_region_of_zeros_is_no_style(method, weight, progress):
    knobs = {"method": method, "content_weight": 0.4, "progress": progress}
    ones, zeros = torch.ones(1, N), torch.zeros(1, N)
    assert_close(run(style_of(STYLE, weight, ones), **knobs), run(style_of(STYLE, weight), **knobs), **CLOSE)
    assert_close(run(style_of(STYLE, weight, zeros), **knobs), run(style_of(STYLE, 0.0), **knobs), **CLOSE)
    other = style_of(OTHER, 0.7)
    assert_close(run(style_of(STYLE, weight, zeros), other, **knobs), run(other, **knobs), **CLOSE)


# these align the keys of each side to that side's style: their own tests follow
@pytest.mark.parametrize("method", [method for method in WITH_STYLES if method not in ("style_aligned", "gar")])
def test_inside_hard_regions_tokens_see_their_own_style_alone(method):
    left = (torch.arange(N) < 6).float().unsqueeze(0)
    both = run(style_of(STYLE, 1.0, left), style_of(OTHER, 1.0, 1 - left), method=method)
    one, two = run(style_of(STYLE), method=method), run(style_of(OTHER), method=method)
    assert_close(both, torch.where(left[..., None] > 0, one, two), **CLOSE)


def test_style_aligned_aligns_each_token_to_the_style_of_its_region():
    left = (torch.arange(N) < 6).float().unsqueeze(0)
    result = run(style_of(STYLE, 1.0, left), style_of(OTHER, 1.0, 1 - left), method="style_aligned")
    mix = left[..., None]
    q, k = (
        mix * adain(t, a) + (1 - mix) * adain(t, b) for t, a, b in zip((LIVE.q, LIVE.k), STYLE, OTHER, strict=False)
    )
    sides = [dense_attention(q, cat(s.k, k), cat(s.v, LIVE.v), HEADS) for s in (STYLE, OTHER)]
    assert_close(result, torch.where(mix > 0, *sides), **CLOSE)


def test_gar_aligns_each_token_to_the_style_of_its_region_and_is_the_contents_where_there_is_none():
    left, middle = ((torch.arange(N) < at).float().reshape(1, N, 1) for at in (4, 9))
    one, two, none = left, middle - left, 1 - middle
    parts = zip(LIVE, CONTENT, STYLE, OTHER, strict=True)
    q, k, v = (0.4 * (one * adain(c, a) + two * adain(c, b) + none * c) + 0.6 * x for x, c, a, b in parts)
    styles = style_of(STYLE, 1.0, one[..., 0]), style_of(OTHER, 3.0, two[..., 0])
    result = run(*styles, method="gar", query_preservation=0.4)
    assert_close(result, dense_attention(q, k, v, HEADS), **CLOSE)


def test_outside_hard_regions_tokens_are_the_contents_own():
    region = torch.zeros(1, N)
    region[:, :5] = 1.0
    result = run(style_of(STYLE, 1.0, region), method="styleid")
    content = run(method="ffa", style_weight=0.0, content_weight=1.0)
    assert_close(result[:, 5:], content[:, 5:], **CLOSE)
    assert_close(result[:, :5], run(method="styleid")[:, :5], **CLOSE)


def test_a_style_mask_hides_tokens_of_the_style():
    mask = torch.ones(1, 22)
    mask[:, 8:] = 0.0
    shown = AttentionFeatures(None, STYLE.k[:, :8], STYLE.v[:, :8])
    for takes_key_mask in (True, False):
        masked = run(style_of(STYLE, 1.0, None, mask), takes_key_mask=takes_key_mask)
        assert_close(masked, run(style_of(shown)), **CLOSE)


LEFT = (torch.arange(N) < 9).float().unsqueeze(0)
MIDDLE = torch.linspace(0.0, 0.9, N).unsqueeze(0)


@pytest.mark.parametrize("copies", [False, True], ids=["two pictures", "copies of one"])
@pytest.mark.parametrize("w_c", [0.0, 0.3])
def test_overlapping_regions_cover_together_and_the_content_fills_the_rest(copies, w_c):
    """Each style with w_s w_i R_i; the content with w_c + 1 - the coverage, which is a sum up to 1, or of copies the
    largest."""
    other = STYLE if copies else OTHER
    covered = torch.maximum(LEFT, MIDDLE) if copies else (LEFT + MIDDLE).clamp(max=1.0)
    rows = [(2.0 * LEFT, STYLE), (2.0 * 0.5 * MIDDLE, other), (w_c + 1.0 - covered, CONTENT)]
    mass = torch.cat([weight.unsqueeze(2).expand(1, N, tokens.k.shape[1]) for weight, tokens in rows], dim=2)
    k, v = (cat(*(getattr(tokens, role) for _, tokens in rows)) for role in "kv")
    expected = dense_attention(LIVE.q, k, v, HEADS, mass=mass)
    knobs = {"style_weight": 2.0, "content_weight": w_c, "query_preservation": 0.0, "temperature": 1.0}
    assert_close(run(style_of(STYLE, 1.0, LEFT), style_of(other, 0.5, MIDDLE), **knobs), expected, **CLOSE)


def test_without_content_weight_the_style_alone_answers_where_it_acts_everywhere():
    expected = oracle.styleid(*PLAIN, HEADS, gamma=0.5, tau=1.5)
    assert_close(run(content_weight=0.0, query_preservation=0.5, temperature=1.5), expected, **CLOSE)


@pytest.mark.parametrize("method", ["styleid", "sac"])
@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_without_style_weight_a_method_of_styles_alone_asks_the_content(method, progress):
    rule = {"styleid": oracle.styleid, "sac": oracle.sac}[method]
    expected = rule(PLAIN[0], PLAIN[1], PLAIN[1], HEADS, progress)
    knobs = {"query_preservation": 0.75, "temperature": 1.5, "progress": progress}
    assert_close(run(method=method, style_weight=0.0, **knobs), expected, **CLOSE)


def test_style_aligned_takes_its_statistics_from_what_the_style_mask_shows():
    shown = STYLE.map(lambda t: t[:, :11])
    mask = (torch.arange(22) < 11).float().unsqueeze(0)
    result = run(style_of(STYLE, style_mask=mask), method="style_aligned")
    assert_close(result, oracle.style_aligned(*PLAIN[:2], tuple(shown), HEADS), **CLOSE)


def test_style_aligned_shares_statistics_and_keys_out_by_weight():
    """Weights 1 and 3: a quarter of the first style's mean and deviation, three quarters of the second's."""

    def aligned(role):
        x, a, b = (getattr(features, role) for features in (LIVE, STYLE, OTHER))
        mean, std = (
            0.25 * of(a) + 0.75 * of(b)
            for of in (lambda t: t.mean(1, keepdim=True), lambda t: t.std(1, keepdim=True, correction=0))
        )
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=0) * std + mean

    k = aligned("k")
    mass = oracle.masses((1.0, STYLE.k), (3.0, OTHER.k), (1.0, k))
    expected = dense_attention(aligned("q"), cat(STYLE.k, OTHER.k, k), cat(STYLE.v, OTHER.v, LIVE.v), HEADS, mass=mass)
    result = run(style_of(STYLE, 1.0), style_of(OTHER, 3.0), method="style_aligned")
    assert_close(result, expected, **CLOSE)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"method": "magic"}, "method is 'magic': choose one of ffa, styleid, masactrl"),
        ({"query_preservation": 1.2}, "query_preservation is 1.2: choose a value from 0 to 1"),
        ({"query_preservation": math.nan}, "query_preservation is nan"),
        ({"temperature": 0.0}, "temperature is 0.0: choose a value above 0, up to 100"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"style_weight": -1.0}, "style_weight is -1.0: choose a value from 0 to 1e"),
        ({"style_weight": 1e300}, "style_weight is 1e.300"),
        ({"content_weight": math.nan}, "content_weight is nan"),
        ({"content_weight": math.inf}, "content_weight is inf"),
    ],
)
def test_bad_knobs_are_refused_in_one_sentence(knobs, message):
    with pytest.raises(MagicStyleError, match=message):
        FusionSettings(**knobs)


def test_a_scene_that_says_nothing_more_is_the_first_moment_of_a_run_and_a_style_of_weight_one_everywhere():
    scene, style = Scene(LIVE, CONTENT, ()), StyleFeatures(STYLE)
    assert scene.moment == (0.0, 1.0, 0.0) and scene.keep is None and scene.with_styles_outside_keep is scene
    assert style == (STYLE, 1.0, None, None, None, None, None, 1, None, None) and scene.turn is None


def test_shares_of_styles_that_act_everywhere_are_one_row_for_every_batch_and_sum_to_one():
    styles = [style_of(STYLE, 1.0), style_of(OTHER, 3.0)]
    first, second = shares(styles, randn(5, 3, N, C))
    assert first.shape == second.shape == (1, N, 1)
    assert_close(first, torch.full((1, N, 1), 0.25))
    assert_close(second, torch.full((1, N, 1), 0.75))
    region = torch.rand(3, N, generator=torch.Generator().manual_seed(0))
    (alone,) = shares([style_of(STYLE, 2.0, region)], randn(5, 3, N, C))
    assert_close(alone, region.unsqueeze(2))


REGION = (torch.arange(N) % 3 > 0).float().expand(2, N)
PLACES = {"everywhere": None, "region": REGION, "empty region": torch.zeros(2, N)}


@pytest.mark.parametrize("keep", [None, REGION], ids=["", "keep"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("style_weight", [1.0, 0.0])
@pytest.mark.parametrize("progress", [0.0, 0.9])
@pytest.mark.parametrize("method", FUSIONS)
def test_a_method_reads_no_role_that_its_row_does_not_declare(method, progress, style_weight, place, keep):
    settings = FusionSettings(method, style_weight=style_weight, content_weight=0.2)
    bank = SimpleNamespace(content=CONTENT, styles=(style_of(STYLE, region=PLACES[place]),))
    content = CONTENT.select(content_roles(settings, bank, keeps=keep is not None))
    style = style_of(STYLE.select(style_roles(settings)), region=PLACES[place])
    scene = Scene(LIVE, content, (style,), Moment(progress, 0.4), keep)
    whole = scene._replace(content=CONTENT, styles=(style._replace(features=STYLE),))
    assert torch.equal(fuse(kernel(HEADS, True), scene, settings), fuse(kernel(HEADS, True), whole, settings))


WITHOUT_PORTRAIT = [name for name, method in FUSIONS.items() if not method.needs_portrait]


@pytest.mark.parametrize("keep", [None, REGION], ids=["", "keep"])
@pytest.mark.parametrize("place", ["empty region", "no weight", "kept"])
@pytest.mark.parametrize("method", WITHOUT_PORTRAIT)
def test_without_a_portrait_and_a_style_that_acts_a_method_is_the_models_own_attention(method, place, keep):
    region = torch.zeros(2, N) if place == "empty region" else None
    keep = torch.ones(2, N) if place == "kept" else keep
    weight = 0.0 if place == "no weight" else 1.0
    scene = Scene(LIVE, LIVE, (style_of(STYLE, weight, region),), Moment(0.9, 0.4), keep)
    found = fuse(kernel(HEADS, True), scene, FusionSettings(method, content_weight=0.2))
    assert_close(found, dense_attention(*PLAIN[0], HEADS), **CLOSE)


@pytest.mark.parametrize("method", WITHOUT_PORTRAIT)
def test_without_a_portrait_keep_is_the_region_that_is_left_over(method):
    style = style_of(STYLE)
    settings = FusionSettings(method, content_weight=0.2)
    kept = fuse(kernel(HEADS, True), Scene(LIVE, LIVE, (style,), keep=REGION), settings)
    left = fuse(kernel(HEADS, True), Scene(LIVE, LIVE, (style._replace(region=1.0 - REGION),)), settings)
    assert_close(kept, left)


def test_a_role_that_was_forgotten_in_a_row_is_noticed():
    scene = Scene(LIVE, CONTENT.select("q"), (style_of(STYLE, region=REGION),))
    with pytest.raises(KeyError, match="k"):
        fuse(kernel(HEADS, True), scene, FusionSettings("styleid"))


CONTROLS = StyleControls(key_scale=1.3, align=0.6, mix=0.7)


@pytest.mark.parametrize("method", [name for name in WITHOUT_PORTRAIT if "k" in FUSIONS[name].style])
def test_without_a_portrait_controls_leave_the_models_own_attention_where_no_style_acts(method):
    scene = Scene(LIVE, LIVE, (style_of(STYLE, region=torch.zeros(2, N)),))
    found = fuse(kernel(HEADS, True), scene, FusionSettings(method, content_weight=0.2, controls=CONTROLS))
    assert_close(found, dense_attention(*PLAIN[0], HEADS), **CLOSE)


def test_without_a_portrait_controls_move_the_running_picture_that_stands_in_its_place():
    """seac reads the content, zstar the running picture: here they are one."""
    scene = Scene(LIVE, LIVE, (style_of(STYLE),))
    seac, zstar = (
        fuse(kernel(HEADS, True), scene, FusionSettings(name, controls=CONTROLS)) for name in ("seac", "zstar")
    )
    assert_close(seac, zstar, **CLOSE)

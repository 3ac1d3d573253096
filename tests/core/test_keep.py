"""A mask that keeps the content, in every method, against plain torch written from the formulas."""

import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS, FusionSettings, fuse
from magicstyle.core.regions import keep_mask
from magicstyle.core.scene import Moment, Scene, StyleFeatures
from magicstyle.core.sources import KEPT_WEIGHT
from magicstyle.tests.core.oracle import cat, dense_attention, kernel, laid, randn
from magicstyle.tests.core.test_fusion import CLOSE, CONTENT, HEADS, LIVE, OTHER, PLAIN, STYLE, N, style_of
from torch.testing import assert_close

SOFT = torch.linspace(0.0, 1.0, N).unsqueeze(0)
HARD = (torch.arange(N) % 3 == 0).float().unsqueeze(0)
ROWS = torch.cat([SOFT, HARD])  # another mask for each picture of the batch
MASKS = {"soft": SOFT, "hard": HARD, "one for each picture": ROWS, "everything": torch.ones(1, N)}
TAU = 1.5
KNOBS = {"content_weight": 0.1, "query_preservation": 0.5, "temperature": TAU}


def run(keep, *styles, progress=0.0, noise=1.0, takes_key_mask=True, **knobs):
    scene = Scene(LIVE, CONTENT, tuple(styles) or (style_of(STYLE),), Moment(progress, noise), keep)
    return fuse(kernel(HEADS, takes_key_mask), scene, FusionSettings(**(KNOBS | knobs)))


def mixed(share, kept, role=0):
    """The content's part of queries (or keys) that rises to 1 where it is kept."""
    share = (share + (1 - share) * kept).unsqueeze(2)
    return share * PLAIN[1][role] + (1 - share) * PLAIN[0][role]


def mass(*parts):
    """(weight: number or b n, tokens), .. -> b n m."""
    columns = [torch.as_tensor(weight, dtype=torch.float32).expand(2, N)[..., None] for weight, _ in parts]
    return torch.cat([column.expand(2, N, t.shape[1]) for column, (_, t) in zip(columns, parts, strict=True)], 2)


def ffa(kept, g=0.5, w_c=0.001):
    weight = w_c + (max(KEPT_WEIGHT, w_c) - w_c) * kept
    shares = mass((1.0, STYLE.k), (weight, CONTENT.k))
    return dense_attention(
        mixed(g, kept), cat(STYLE.k, CONTENT.k), cat(STYLE.v, CONTENT.v), HEADS, tau=TAU, mass=shares
    )


def styleid(kept, g=0.5):
    return dense_attention(mixed(g, kept), STYLE.k, STYLE.v, HEADS, tau=TAU)


def masactrl(kept):
    return dense_attention(mixed(0.0, kept), CONTENT.k, CONTENT.v, HEADS)


def sac(kept):
    """The late steps: guidance away from the content's queries, and none where they are kept."""
    anchored, free = (dense_attention(q, STYLE.k, STYLE.v, HEADS) for q in (CONTENT.q, LIVE.q))
    return anchored + 1.2 * (1 - kept).unsqueeze(2) * (free - anchored)


def seac(kept, g=0.5):
    keys, values = cat(CONTENT.k, 1.2 * STYLE.k), cat(CONTENT.v, STYLE.v)
    return dense_attention(mixed(g, kept), keys, values, HEADS)


def zstar(kept):
    shares = mass((1 - kept, STYLE.k), (1.0, LIVE.k))
    return dense_attention(LIVE.q, cat(1.2 * STYLE.k, LIVE.k), cat(STYLE.v, LIVE.v), HEADS, mass=shares)


def style_aligned(kept):
    part = (1 - kept).unsqueeze(2)

    def aligned(x, y):
        """The statistics go over from the style's to the picture's own."""
        mean, std = (part * of(y) + (1 - part) * of(x) for of in MOMENTS)
        return (x - MOMENTS[0](x)) / MOMENTS[1](x) * std + mean

    q, k = aligned(LIVE.q, STYLE.q), aligned(LIVE.k, STYLE.k)
    shares = mass((1 - kept, STYLE.k), (1.0, k))
    return dense_attention(q, cat(STYLE.k, k), cat(STYLE.v, LIVE.v), HEADS, mass=shares)


MOMENTS = (lambda x: x.mean(1, keepdim=True), lambda x: x.std(1, keepdim=True, correction=0))


def rsa(kept):
    shares = mass((1.0, LIVE.k), ((1 - kept) * torch.e**3, STYLE.k))
    return dense_attention(LIVE.q, cat(LIVE.k, STYLE.k), cat(LIVE.v, STYLE.v), HEADS, mass=shares)


def diffstyler(kept):
    r = 2 * 0.2
    return dense_attention(mixed(r, kept), mixed(r, kept, 1), LIVE.v, HEADS)


def mast(kept):
    styled = dense_attention(mixed(0.5, kept), STYLE.k, STYLE.v, HEADS, tau=TAU)
    own = dense_attention(CONTENT.q, CONTENT.k, CONTENT.v, HEADS)
    return (styled + 0.001 * own) / 1.001


def gar(kept, g=0.5):
    """The statistics go over from the style's to the content's own, and the content's share rises to 1."""
    part, share = (1 - kept).unsqueeze(2), (g + (1 - g) * kept).unsqueeze(2)

    def blended(live, content, style):
        mean, std = (part * of(style) + (1 - part) * of(content) for of in MOMENTS)
        aligned = (content - MOMENTS[0](content)) / MOMENTS[1](content) * std + mean
        return share * aligned + (1 - share) * live

    return dense_attention(*map(blended, *PLAIN), HEADS)


def cocodiff(kept):
    """What is matched changes the style's keys, whatever is kept."""
    return styleid(kept)


def nvqg(kept):
    styled, own = (dense_attention(q, LIVE.k, LIVE.v, HEADS) for q in (laid(STYLE.q, N), LIVE.q))
    part = kept.unsqueeze(2)
    return (1 - part) * styled + part * own


FORMULAS = ffa, styleid, masactrl, sac, seac, zstar, style_aligned, rsa, diffstyler, mast, gar, cocodiff, nvqg
RULES = {rule.__name__: rule for rule in FORMULAS}


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("method", FUSIONS)
def test_a_kept_place_equals_the_formula(method, mask, takes_key_mask):
    kept = MASKS[mask]
    knobs = {"method": method, "progress": 0.9, "noise": 0.2, "content_weight": 0.001}
    result = run(kept, takes_key_mask=takes_key_mask, **knobs)
    assert_close(result, RULES[method](kept), **CLOSE)


@pytest.mark.parametrize("method", FUSIONS)
def test_a_black_place_is_as_without_a_mask(method):
    black = HARD == 0
    result, plain = (run(keep, method=method, progress=0.9, noise=0.2) for keep in (HARD, None))
    if method in ("style_aligned", "diffstyler", "gar"):  # there the keys of kept places are others for every query
        assert not torch.allclose(result[:, black[0]], plain[:, black[0]], atol=1e-4)
    else:
        assert_close(result[:, black[0]], plain[:, black[0]], **CLOSE)


@pytest.mark.parametrize("w_c", [0.0, 0.001, KEPT_WEIGHT, 2.0])
@pytest.mark.parametrize("g", [0.0, 0.5, 1.0])
def test_ffa_keeps_by_query_and_by_weight_from_any_setting(g, w_c):
    result = run(SOFT, query_preservation=g, content_weight=w_c)
    assert_close(result, ffa(SOFT, g, w_c), **CLOSE)


def test_sac_asks_with_the_contents_queries_early_with_or_without_a_mask():
    assert torch.equal(run(SOFT, method="sac", progress=0.2), run(None, method="sac", progress=0.2))


LEFT = (torch.arange(N) < 6).float().unsqueeze(0)


def test_regions_and_several_styles_are_kept_alike():
    """Two styles side by side, the content where neither is, and where it is kept its weight beside them."""
    middle = torch.linspace(0.0, 0.9, N).unsqueeze(0)
    covered = (LEFT + middle).clamp(max=1.0)
    weight = 0.001 + (KEPT_WEIGHT - 0.001) * HARD + 1 - covered
    shares = mass((LEFT, STYLE.k), (0.5 * middle, OTHER.k), (weight, CONTENT.k))
    k, v = (cat(*(getattr(features, role) for features in (STYLE, OTHER, CONTENT))) for role in "kv")
    expected = dense_attention(mixed(0.5, HARD), k, v, HEADS, tau=TAU, mass=shares)
    result = run(HARD, StyleFeatures(STYLE, 1.0, LEFT), StyleFeatures(OTHER, 0.5, middle), content_weight=0.001)
    assert_close(result, expected, **CLOSE)


@pytest.mark.parametrize("method", ["zstar", "style_aligned", "rsa"])
def test_methods_without_content_keep_by_taking_the_styles_away(method):
    left = StyleFeatures(STYLE, 1.0, LEFT * (1 - SOFT)), StyleFeatures(OTHER, 0.5, 1 - SOFT)
    kept = run(SOFT, StyleFeatures(STYLE, 1.0, LEFT), StyleFeatures(OTHER, 0.5), method=method)
    assert_close(kept, run(None, *left, method=method), **CLOSE)
    ones = run(torch.ones(1, N), method=method)
    assert_close(ones, dense_attention(LIVE.q, LIVE.k, LIVE.v, HEADS), **CLOSE)


def test_without_a_style_a_mask_keeps_the_queries_alone():
    result = run(SOFT, StyleFeatures(STYLE, 0.0), content_weight=0.2)
    assert_close(result, dense_attention(mixed(0.5, SOFT), CONTENT.k, CONTENT.v, HEADS, tau=TAU), **CLOSE)
    alone = run(SOFT, StyleFeatures(STYLE, 0.0), content_weight=0.0)
    assert_close(alone, dense_attention(mixed(0.5, SOFT), LIVE.k, LIVE.v, HEADS, tau=TAU), **CLOSE)


def test_half_precision_and_its_devices_are_followed():
    half = [features.map(lambda t: t.bfloat16()) for features in (LIVE, CONTENT, STYLE)]
    for method in FUSIONS:
        scene = Scene(half[0], half[1], (style_of(half[2]),), Moment(0.9, 0.2), SOFT)
        assert fuse(kernel(HEADS, True), scene, FusionSettings(method)).dtype == torch.bfloat16


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_a_mask_of_any_kind_is_brought_to_numbers_times_the_strength(strength):
    mask = randn(1, 2, 5, 7)
    for given, clean in ((mask > 0, (mask > 0).float()), (mask, mask.clamp(0, 1)), (mask[0], mask[:1].clamp(0, 1))):
        found = keep_mask(given, strength, 2)
        assert found is None if strength == 0.0 else torch.equal(found, strength * clean)


def test_nothing_to_keep_is_no_mask():
    assert keep_mask(torch.zeros(1, 4, 4), 1.0, 1) is None
    assert keep_mask(torch.ones(4, 4), 0.0, 1) is None


@pytest.mark.parametrize(
    "mask, strength, message",
    [
        (torch.ones(3, 4, 4), 1.0, "keep holds 3 masks and the content 2 pictures: give one mask"),
        (torch.ones(4, 4), 1.5, "keep_strength is 1.5: choose a value from 0 to 1"),
        (torch.full((4, 4), float("nan")), 1.0, "keep holds NaN"),
        (torch.ones(1, 2, 4, 4), 1.0, "keep has the shape"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused_in_one_sentence(mask, strength, message):
    with pytest.raises(MagicStyleError, match=message):
        keep_mask(mask, strength, 2)

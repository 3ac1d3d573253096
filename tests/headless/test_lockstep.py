"""Contents times styles in lockstep: the pictures of pair by pair, from a fraction of the model's rows."""

import gc
from dataclasses import replace

import pytest
import torch
from magicstyle.core.controls import StyleControls
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.guidance import StyleGuidance
from magicstyle.core.inversion_methods import INVERSIONS, InversionSettings
from magicstyle.headless.engine.lockstep import ReplayedColumn, joined, paint_block
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import invert, stylize
from magicstyle.tests.cases import some
from torch.testing import assert_close

STEPS = 3


def inverted(model, recipe, sizes, seed):
    """Trajectories in single precision of noisy pictures, one for each (h, w)."""
    generator = torch.Generator().manual_seed(seed)
    pictures = [torch.rand(1, 3, *size, generator=generator) * 2 - 1 for size in sizes]
    return [
        invert(model, model.encode(picture), recipe, storage="latents", dtype=torch.float32) for picture in pictures
    ]


def both_ways(model, recipe, contents, styles, rows):
    """Pair by pair, and in lockstep: latents by (content, style)."""
    one_by_one = {
        (c, s): stylize(model, content, style, recipe)
        for c, content in enumerate(contents)
        for s, style in enumerate(styles)
    }
    block = paint_block(model, [c.features for c in contents], [s.features for s in styles], recipe, rows)
    return one_by_one, block


def assert_equal_pairs(one_by_one, block):
    assert one_by_one.keys() == block.keys()
    for pair, latent in one_by_one.items():
        assert_close(block[pair], latent, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", some(FUSIONS, "ffa", "sac", "style_aligned", "rsa", "diffstyler", "cocodiff"))
def test_lockstep_equals_pair_by_pair(model, method):
    recipe = Recipe(FusionSettings(method), steps=STEPS)
    contents, styles = inverted(model, recipe, [(64, 64)] * 2, 0), inverted(model, recipe, [(64, 64)] * 3, 1)
    one_by_one, block = both_ways(model, recipe, contents, styles, rows=2)
    assert_equal_pairs(one_by_one, block)
    assert method in ("masactrl", "diffstyler") or not torch.allclose(block[0, 0], block[0, 1], atol=1e-2)


@pytest.mark.parametrize("kind", ["nvqg", "spg"])
def test_guidance_goes_in_lockstep(model, kind):
    recipe = Recipe(steps=STEPS, guidance=StyleGuidance(kind, 1.5))
    contents, styles = inverted(model, recipe, [(64, 64)] * 2, 0), inverted(model, recipe, [(64, 64)] * 2, 1)
    one_by_one, block = both_ways(model, recipe, contents, styles, rows=2)
    assert_equal_pairs(one_by_one, block)
    plain = stylize(model, contents[0], styles[0], replace(recipe, guidance=StyleGuidance(scale=0.0)))
    assert not torch.allclose(block[0, 0], plain, atol=1e-2)


@pytest.mark.parametrize("contents, styles", [(3, 2), (1, 3)])
def test_the_portraits_detail_goes_in_lockstep(model, contents, styles):
    """Also where several contents are one column, of which each row has its own."""
    recipe = Recipe(FusionSettings("mast", controls=StyleControls(detail=1.0)), steps=STEPS)
    pairs = inverted(model, recipe, [(64, 64)] * contents, 0), inverted(model, recipe, [(64, 64)] * styles, 1)
    one_by_one, block = both_ways(model, recipe, *pairs, rows=2)
    assert_equal_pairs(one_by_one, block)
    plain = stylize(model, pairs[0][0], pairs[1][0], Recipe(FusionSettings("mast"), steps=STEPS))
    assert not torch.allclose(block[0, 0], plain, atol=1e-2)


@pytest.mark.parametrize("inversion", some(INVERSIONS, "midpoint", "exact"))
def test_every_way_to_the_noise_goes_in_lockstep(model, inversion):
    recipe = Recipe(steps=STEPS, adain=0.5, inversion=InversionSettings(inversion))
    contents, styles = inverted(model, recipe, [(64, 64)] * 3, 2), inverted(model, recipe, [(64, 64)] * 2, 3)
    assert_equal_pairs(*both_ways(model, recipe, contents, styles, rows=2))  # the contents are joined


def test_pictures_of_several_sizes_share_a_block(model):
    recipe = Recipe(steps=STEPS)
    contents = inverted(model, recipe, [(64, 64), (72, 104)], 4)
    styles = inverted(model, recipe, [(64, 64), (80, 64), (64, 64)], 5)
    assert_equal_pairs(*both_ways(model, recipe, contents, styles, rows=8))


def test_a_block_with_features_that_are_kept_replays_nothing(model):
    recipe = Recipe(steps=STEPS)
    latents = model.encode(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(6)) * 2 - 1)
    content, style = (invert(model, latent, recipe, dtype=torch.float32) for latent in latents.split(1))
    before = model.rows
    block = paint_block(model, [content.features], [style.features], recipe, 4)
    assert model.rows - before == STEPS
    assert_close(block[0, 0], stylize(model, content, style, recipe), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("contents, styles, rows", [(2, 5, 2), (5, 2, 3), (1, 1, 8), (3, 3, 8)])
def test_each_stored_latent_is_run_once_a_step(model, contents, styles, rows):
    recipe = Recipe(steps=2)
    (content,), (style,) = inverted(model, recipe, [(64, 64)], 7), inverted(model, recipe, [(64, 64)], 8)
    before = model.rows
    paint_block(model, [content.features] * contents, [style.features] * styles, recipe, rows)
    assert model.rows - before == 2 * (contents * styles + contents + styles)


def test_what_is_held_of_the_longer_side_is_one_column(model, monkeypatch):
    recipe, columns, held = Recipe(steps=2), [], []
    contents, styles = inverted(model, recipe, [(64, 64)] * 2, 9), inverted(model, recipe, [(64, 64)] * 6, 10)
    denoised = model.denoised

    def counting(x, sigma):
        if not columns:  # all of them are there before the first model call
            columns.extend(each for each in gc.get_objects() if type(each) is ReplayedColumn)
        held.append(sum(len(column.places) for column in columns if column.is_held))
        return denoised(x, sigma)

    monkeypatch.setattr(model, "denoised", counting)
    paint_block(model, [c.features for c in contents], [s.features for s in styles], recipe, 2)
    assert len(columns) == 2 + 3 and max(held) == 2 + 2


def test_only_trajectories_of_one_kind_are_joined(model):
    (first,), (second,) = (inverted(model, Recipe(steps=steps), [(64, 64)], 11) for steps in (2, 3))
    one, other = first.features, second.features
    narrow = type(one)(one.header, one.latents.half(), one.inputs, one.noise_pair)
    renamed = type(one)(replace(one.header, method="exact"), one.latents, one.inputs, one.noise_pair)
    assert [column.places for column in joined([one, other, narrow, renamed, one, one], 2)] == [
        (0, 4), (1,), (2,), (3,), (5,)
    ]  # fmt: skip


def test_a_group_of_levels_is_replayed_once_and_held(model):
    recipe = Recipe(steps=4, every=2)
    contents, styles = inverted(model, recipe, [(64, 64)] * 2, 12), inverted(model, recipe, [(64, 64)] * 4, 13)
    before = model.rows
    block = paint_block(model, [c.features for c in contents], [s.features for s in styles], recipe, 2)
    assert model.rows - before == 4 * 8 + 2 * (2 + 4)
    assert_close(block[1, 3], stylize(model, contents[1], styles[3], recipe), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [(3, 2), (2, 3)], ids=["contents joined", "styles joined"])
def test_each_content_is_kept_by_its_own_mask_or_by_none(model, count):
    recipe = Recipe(FusionSettings(content_weight=0.0), steps=STEPS)
    contents, styles = (inverted(model, recipe, [(64, 64)] * n, seed) for seed, n in zip((11, 12), count, strict=True))
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    keep = [left, None, 1.0 - left][: len(contents)]
    block = paint_block(model, [c.features for c in contents], [s.features for s in styles], recipe, 2, keep=keep)
    for (c, s), latent in block.items():
        expected = stylize(model, contents[c], styles[s], recipe, keep=keep[c])
        assert_close(latent, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(block[0, 0], stylize(model, contents[0], styles[0], recipe), atol=1e-3)

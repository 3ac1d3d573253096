"""Features of every n-th noise level: what is kept, what serves which step, and how often a replay runs."""

from dataclasses import replace

import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.level_groups import LevelGroups
from magicstyle.banks.stored_features import StoredFeatures
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion import sampling_grid
from magicstyle.core.inversion_methods import INVERSIONS, InversionSettings
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import fused, invert, paint, stylize

STEPS, EVERY = 4, 3  # groups of the steps 0 to 2 and 3 (4 where the schedule has one more)
RECIPE = Recipe(steps=STEPS, layers="output.9-11")


def latents(model):
    pictures = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return [model.encode(picture) for picture in pictures]


def inverted(model, recipe, **more):
    return [invert(model, latent, recipe, dtype=torch.float32, **more) for latent in latents(model)]


def spread(features):
    """The same features as of a bank that keeps every level: those of a group's middle at each of its steps."""
    steps = [features.header.groups.of(step) for step in range(len(features.header.sigmas))]
    stacks = {
        (layer, role): features.tensors[f"{layer}.{role}"][steps] for layer in features.header.layers for role in "qkv"
    }
    return StoredFeatures(replace(features.header, every=1), stacks, features.noise_pair)


@pytest.mark.parametrize("method", INVERSIONS)
def test_what_is_kept_is_the_middle_of_each_group_of_an_inversion_of_every_level(model, method):
    recipe = replace(RECIPE, inversion=InversionSettings(method))
    whole, grouped = (invert(model, latents(model)[0], replace(recipe, every=every)) for every in (1, EVERY))
    steps = len(whole.features.header.sigmas)
    kept = list(LevelGroups(steps, EVERY).kept)
    assert grouped.features.header == replace(whole.features.header, every=EVERY)
    assert torch.equal(grouped.noise, whole.noise)
    for layer in whole.features.header.layers:
        for role in "qkv":
            name = f"{layer}.{role}"
            assert torch.equal(grouped.features.tensors[name], whole.features.tensors[name][kept])


@pytest.mark.parametrize("method", INVERSIONS)
def test_every_level_of_a_group_is_painted_with_its_middle(model, method):
    recipe = replace(RECIPE, inversion=InversionSettings(method), every=EVERY)
    content, style = inverted(model, recipe)
    same = [found._replace(features=spread(found.features)) for found in (content, style)]
    ours, theirs = stylize(model, content, style, recipe), stylize(model, *same, recipe)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, stylize(model, *inverted(model, replace(recipe, every=1)), recipe))


def test_latents_give_the_picture_that_features_give_and_are_replayed_once_a_group(model, monkeypatch):
    recipe = replace(RECIPE, every=EVERY)
    pictures, calls = [], []
    plain = model.denoised
    monkeypatch.setattr(model, "denoised", lambda x, sigma: calls.append(float(sigma[0])) or plain(x, sigma))
    for storage in ("features", "latents"):
        content, style = inverted(model, recipe, storage=storage)
        calls.clear()
        pictures.append(stylize(model, content, style, recipe))
    torch.testing.assert_close(pictures[1], pictures[0], atol=1e-4, rtol=1e-4)
    header, steps = content.features.header, len(sampling_grid(recipe.sigmas))
    assert len(calls) == steps + 2 * header.groups.count
    assert [calls.count(sigma) for sigma in header.kept_sigmas] == [3] * header.groups.count


def test_content_and_style_may_keep_other_levels(model):
    content, _ = inverted(model, replace(RECIPE, every=2), storage="latents")
    _, style = inverted(model, replace(RECIPE, every=3))
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    same = FeatureBank(
        spread(inverted(model, replace(RECIPE, every=2))[0].features), (StyleEntry(spread(style.features)),)
    )
    ours, theirs = (paint(model, found, content.noise_pair, RECIPE) for found in (bank, same))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_sampler_that_comes_by_a_level_twice_has_its_group_replayed_once(model, monkeypatch):
    """Heun: each level at the end of a step and at the beginning of the next one."""
    recipe = replace(RECIPE, every=EVERY, settings=FusionSettings("styleid"))
    content, style = inverted(model, recipe, storage="latents")
    denoised = fused(model, FeatureBank(content.features, (StyleEntry(style.features),)), recipe)
    plain, replayed = model.denoised, []
    monkeypatch.setattr(model, "denoised", lambda x, sigma: replayed.append(x) or plain(x, sigma))
    levels = sampling_grid(recipe.sigmas).repeat_interleave(2)[1:]
    for sigma in levels:
        denoised(content.noise, sigma[None])
    assert len(replayed) == len(levels) + 2 * content.features.header.groups.count

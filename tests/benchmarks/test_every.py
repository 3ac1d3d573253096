"""The benchmark of fewer noise levels compares with what an inversion of fewer levels keeps."""

import torch
from magicstyle.benchmarks import every
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import invert


def test_levels_taken_from_all_are_those_that_an_inversion_keeps():
    model, recipe = load_demo_model(), Recipe(steps=4, layers="output.9")
    latent = model.encode(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    found = every.grouped(invert(model, latent, recipe, roles="qkvx"), 3).features
    kept = invert(model, latent, Recipe(steps=4, layers="output.9", every=3), roles="qkvx").features
    assert found.header == kept.header and found.roles == kept.roles == "qkvx"
    assert found.tensors.keys() == kept.tensors.keys()
    assert all(torch.equal(found.tensors[name], kept.tensors[name]) for name in kept.tensors)

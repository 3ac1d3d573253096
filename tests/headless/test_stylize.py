"""Where sampling starts from: both latents of the content's inversion, with the style's moments."""

import pytest
import torch
from magicstyle.core.adain import adain_map
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.headless.engine import stylize as module
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import invert, stylize
from torch.testing import assert_close


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_sampling_starts_from_both_ends_with_the_styles_moments(model, monkeypatch, strength):
    recipe = Recipe(steps=2, adain=strength, inversion=InversionSettings("exact"))
    pictures = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    content, style = (invert(model, model.encode(picture), recipe) for picture in pictures)
    starts = []
    monkeypatch.setattr(module, "paint", lambda model, bank, start, *args, **more: starts.append(start))
    stylize(model, content, style, recipe)
    ((noise, step_from),) = starts
    moved = adain_map(content.noise, style.noise, strength)
    assert_close(noise, moved(content.noise))
    assert_close(step_from, moved(content.noise_pair.step_from))
    assert strength == 0.0 or not torch.equal(noise, content.noise)

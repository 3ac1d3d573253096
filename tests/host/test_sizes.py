"""A style of any size and aspect beside a content of any size and aspect, in a real ComfyUI."""

import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.tests.core.oracle import RULES
from magicstyle.tests.host.fusion_oracle import stylize
from magicstyle.tests.host.scene import SCALE, difference, inversion, patch, picture, sample, scene
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_sigmas

STEPS = 3
PAIRS = [
    pytest.param(
        (9, 13), (14, 6), id="landscape beside portrait"
    ),  # 9x13 has 5x7 tokens at half size, 3x4 at a quarter
    pytest.param((13, 9), (5, 31), id="portrait beside a wide strip"),
    pytest.param((7, 7), (16, 20), id="a small square beside a large picture"),
]


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("method", ["styleid", "seac"])
@pytest.mark.parametrize("content_size, style_size", PAIRS)
def test_any_two_sizes_follow_the_formula(tiny_model, content_size, style_size, method):
    content = inversion(tiny_model, picture(*content_size), STEPS)
    style = inversion(tiny_model, picture(*style_size, seed=9), STEPS)
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    knobs = {"query_preservation": 0.75, "temperature": 1.5} if method == "styleid" else {"query_preservation": 0.0}
    ours = sample(patch(tiny_model, bank, method=method, **knobs), content) * SCALE
    latents = picture(*content_size) * SCALE, picture(*style_size, seed=9) * SCALE
    sigmas, context = tiny_sigmas(tiny_model, STEPS), tiny_conditioning()[0][0]
    assert ours.shape[2:] == content_size
    assert difference(ours, stylize(tiny_model.model, *latents, sigmas, context, RULES[method])) <= 1e-4
    assert difference(ours, sample(tiny_model, content) * SCALE) > 1e-3


@pytest.mark.parametrize("content_size, style_size", PAIRS[:2])
def test_any_two_sizes_are_replayed_from_latents_in_all_layers(tiny_model, content_size, style_size):
    results = []
    for storage in ("features", "latents"):
        kept = {"steps": STEPS, "layers": "all", "storage": storage}
        content = inversion(tiny_model, picture(*content_size), **kept)
        style = inversion(tiny_model, picture(*style_size, seed=9), **kept)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        results.append(sample(patch(tiny_model, bank, "all"), content))
    assert difference(*results) <= 1e-4
    assert difference(results[0], sample(tiny_model, content)) > 1e-3


@pytest.mark.parametrize("content_size, style_size", PAIRS)
def test_the_initial_latent_has_the_contents_size(tiny_model, content_size, style_size):
    noises = [{"samples": picture(*size)} for size in (content_size, style_size)]
    assert InitialLatent.execute(*noises, "adain", 1.0).result[0]["samples"].shape[2:] == content_size


@pytest.mark.parametrize(
    "sampled, message",
    [
        ((14, 6), r"latent_image is 6x14 latent pixels, the size of style 1, but the content was inverted at 13x9 "),
        ((18, 26), r"latent_image is 26x18 latent pixels but the content was inverted at 13x9 latent pixels"),
        ((13, 9), r"latent_image is 9x13 latent pixels but the content was inverted at 13x9 latent pixels"),
    ],
    ids=["the style's", "upscaled", "turned"],
)
def test_another_size_than_the_contents_is_refused_and_named(tiny_model, sampled, message):
    content, bank = scene(tiny_model, 9, 13, style=(14, 6), steps=STEPS)
    patched, called = patch(tiny_model, bank), []
    patched.add_wrapper_with_key("apply_model", "spy", lambda executor, *a, **k: called.append(1) or executor(*a, **k))
    with pytest.raises(MagicStyleError, match=message + ".*sample the noise of DDIM Inversion") as error:
        run_sampler(patched, picture(*sampled), content.sigmas)
    assert not called and "\n" not in str(error.value)

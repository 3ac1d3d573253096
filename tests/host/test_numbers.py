"""Numbers that are none: the host's own check of a range lets NaN through, which is neither below nor above."""

import math

import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.attention_look import regions_from_words
from magicstyle.nodes.bank import AddStyle
from magicstyle.nodes.exact_sampler import ExactSampler
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.nodes.patcher import PatchFFA
from magicstyle.tests.host.scene import inversion, picture, scene
from magicstyle.tests.host.tiny import run_sampler

KNOBS = FusionSettings().knobs


@pytest.fixture
def wired(tiny_model):
    """Each node's call with sound inputs: node(name of an input, its value)."""
    content, bank = scene(tiny_model, steps=2)
    style = bank.styles[0].features
    words = {"model": tiny_model, "clip": None, "words": "hair", "prompt": "", "seed": 0}

    def patch(**given):
        return PatchFFA.execute(
            **{"model": tiny_model, "bank": bank, "layers": "output.6-11", "start_percent": 0.0, "end_percent": 1.0}
            | KNOBS
            | given
        )

    def look(**given):
        return regions_from_words(
            **{"latent": {"samples": picture()}, "background": 0.6, "noise_level": 0.4, **words, **given}
        )

    return {
        "patch": patch,
        "add": lambda weight: AddStyle.execute(bank, style, weight),
        "start": lambda strength: InitialLatent.execute(content.noise, content.noise, "adain", strength),
        "look": look,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1.0])
@pytest.mark.parametrize("node, name", [
    ("patch", "style_weight"), ("patch", "content_weight"), ("patch", "query_preservation"), ("patch", "temperature"),
    ("patch", "start_percent"), ("patch", "end_percent"), ("add", "weight"), ("start", "strength"),
    ("look", "background"), ("look", "noise_level"),
])  # fmt: skip
def test_numbers_that_are_none_are_refused_by_every_node(wired, node, name, value):
    with pytest.raises(MagicStyleError, match=rf"{name}.* is {value}: choose a value".replace("+", r"\+")):
        wired[node](**{name: value})


def test_an_initial_latent_of_nan_is_told(tiny_model):
    content, style = ({"samples": picture()} for _ in range(2))
    style["samples"][0, 0, 0, 0] = math.nan
    with pytest.raises(MagicStyleError, match="the initial latent holds NaN or infinite values: connect"):
        InitialLatent.execute(content, style, "adain", 1.0)


def test_an_exact_sampler_that_overflows_is_told(tiny_model):
    found = inversion(tiny_model, picture(), steps=3, method="exact")
    (sampler,) = ExactSampler.execute(found.noise).args

    def overflowing(apply, arguments):
        return torch.full_like(apply(arguments["input"], arguments["timestep"], **arguments["c"]), math.inf)

    broken = tiny_model.clone()
    broken.set_model_unet_function_wrapper(overflowing)
    with pytest.raises(MagicStyleError, match="the sampled latent holds NaN or infinite values: the model overflows"):
        run_sampler(broken, found.noise["samples"], found.sigmas, sampler=sampler)

"""Pictures inverted and sampled on the miniature transformers, in the few words that tests use."""

from __future__ import annotations

import functools

import pytest
from magicstyle.attention_patches.comfy import install_fusion, install_start
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.inversion.run import invert
from magicstyle.tests.cases import some
from magicstyle.tests.host.families import FAMILIES, family_latent, family_model, family_prompt, family_sigmas
from magicstyle.tests.host.flow_oracle import Beside, FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import RULES, Style
from magicstyle.tests.host.tiny import run_sampler

DIVERSE = ("flux", "sd3", "wan", "z-image", "hidream")  # of each kind of attention and of latent
SMALL, STYLE = (8, 12), (8, 16)  # the picture is not square, and the style has another size


def every(*names, alike=False):
    """A test of these families, or of all; `alike` says that most of them wait for --full."""
    found = names or FAMILIES
    return pytest.mark.parametrize("name", some(found, *{*DIVERSE} & {*found}) if alike else found)


def inverted(name, latent, prompt=None, model=None, **more):
    """An inversion in float32, in two steps unless said otherwise."""
    model, prompt = model or family_model(name), prompt or family_prompt(name)
    given = {"sigmas": family_sigmas(name, 2), "storage": "features", "precision": "fp32", **more}
    return invert("content", model, {"samples": latent}, prompt, **given)


def content_latent(name, **more):
    return family_latent(name, SMALL, **more)


def style_latent(name):
    return family_latent(name, STYLE, seed=4)


@functools.cache
def scene(name, batch=1, storage="features"):
    """(content inversion, bank) with every layer kept."""
    content = inverted(name, content_latent(name, batch=batch), layers="all", storage=storage)
    style = inverted(name, style_latent(name), layers="all", storage=storage)
    return content, FeatureBank(content.features, (StyleEntry(style.features),))


def patched(name, bank, layers="all", model=None, positions=None, **knobs):
    place = {} if positions is None else {"positions": positions}
    return install_fusion(model or family_model(name), bank, FusionSettings(**knobs), layers, 0.0, 1.0, **place)


def sample(model, content, cfg=1.0, positive=None, negative=None, sampler="euler"):
    return run_sampler(model, content.noise["samples"], content.sigmas, cfg, positive, negative or positive, sampler)


def starting(name):
    """The model alone, that begins with inverted noise."""
    return install_start(family_model(name))


def difference(a, b):
    return float((a - b).norm() / b.norm())


def prompts(name):
    return family_prompt(name, seed=6), family_prompt(name, seed=8)


def painted_by_hand(
    name, rule, content, cfg=1.0, batch=1, empty=None, positive=None, negative=None, layers=(), **beside
):
    """What the oracle makes of the scene's two pictures with one patcher."""
    usual = prompts(name)
    patcher = Patcher(RULES[rule], (Style(style_latent(name)),), layers)
    return FlowOracle(name, Beside(**beside)).stylize(
        content_latent(name, batch=batch), (patcher,), content.sigmas, empty or family_prompt(name),
        positive or usual[0], usual[1], cfg,
    )  # fmt: skip

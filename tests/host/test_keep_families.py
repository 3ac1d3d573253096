"""A mask that keeps a part of the portrait, on flow-matching transformers."""

import pytest
import torch
import torch.nn.functional as F
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.regions import keep_mask
from magicstyle.core.sources import KEPT_WEIGHT
from magicstyle.nodes.inversion.run import invert
from magicstyle.tests.host.families import FAMILIES, family_latent, family_model, family_prompt, family_sigmas
from magicstyle.tests.host.flow_oracle import FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import Style
from magicstyle.tests.host.scene import difference
from magicstyle.tests.host.tiny import run_sampler

SIZE, STYLE_SIZE = (8, 12), (8, 16)
MASK = ((torch.arange(64)[:, None] - 20) ** 2 + (torch.arange(96) - 40) ** 2 < 500).float()
STRENGTH = 0.8


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def inverted(name, latent):
    given = {"sigmas": family_sigmas(name, 2), "storage": "features", "precision": "fp32", "layers": "all"}
    return invert("content", family_model(name), {"samples": latent}, family_prompt(name), **given)


def ffa_keeping(name):
    """The rule of ffa with a mask that is averaged over the picture's tokens by hand."""
    patch = FAMILIES[name].patch
    grid = tuple(-(-side // patch) for side in SIZE)
    k = STRENGTH * F.adaptive_avg_pool2d(MASK[None, None], grid).reshape(1, 1, -1, 1)

    def rule(call):
        g = k
        weight = (0.001 + (KEPT_WEIGHT - 0.001) * k)[0, 0]  # n 1: of the portrait's keys for each query
        q = 1.5 * (g * call.content[0] + (1 - g) * call.live[0])
        return call.answer(q, *call.of_styles(), (*call.content[1:], weight))

    return rule


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_equals_the_formula(name, cfg):
    latents = family_latent(name, SIZE), family_latent(name, STYLE_SIZE, seed=4)
    content, style = (inverted(name, latent) for latent in latents)
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    prompts = family_prompt(name, seed=6), family_prompt(name, 9, seed=7)

    def run(keep):
        settings = FusionSettings("ffa", 1.0, 0.001, 0.0, 1.5)
        model = install_fusion(family_model(name), bank, settings, "all", 0.0, 1.0, keep=keep)
        return run_sampler(model, content.noise["samples"], content.sigmas, cfg, *prompts, "euler")

    patchers = (Patcher(ffa_keeping(name), (Style(latents[1]),)),)
    expected = FlowOracle(name).stylize(latents[0], patchers, content.sigmas, family_prompt(name), *prompts, cfg)
    error = difference(run(keep_mask(MASK, STRENGTH, 1)), expected)
    assert error <= 1e-4
    assert difference(run(None), expected) > max(5 * error, 1e-5)  # and the mask is seen

"""Banks that earlier versions saved, kept in tests/fixtures: they load, and give the picture that they gave then.

`demo_bank_1` and `tiny_bank_1` were saved at commit 987c4c1, the first on the demo model of then, the second on the
tests' miniature model; beside each lie the noise, the sigmas and the latent that sampling with it gave.
"""

import hashlib
from pathlib import Path

import pytest
import torch
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank_file import load_bank
from magicstyle.core.fusion import FusionSettings
from magicstyle.model_files.demo import DEMO_MODEL
from magicstyle.nodes.demo_model import host_model, read_demo_file
from magicstyle.nodes.report import bank_summary
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_model
from safetensors.torch import load_file

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
DEMO_MODEL_OF_THEN = "dd045d744851ac84f0215e186f1b53da1880299703d42fdbec18b2e72ee75271"


def tiny():
    return tiny_model(), tiny_conditioning()


def demo():
    if hashlib.sha256(DEMO_MODEL.read_bytes()).hexdigest() != DEMO_MODEL_OF_THEN:
        pytest.skip("the pack ships another demo model by now: tiny_bank_1 tells the same")
    file = read_demo_file()
    return host_model(file), [[file.prompt, {}]]


THEN = FusionSettings(content_weight=0.1, query_preservation=0.5, temperature=1.5)  # the defaults of then


def difference(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name, models, layers", [("tiny", tiny, "output.6-8"), ("demo", demo, "output.6")])
def test_a_bank_of_version_1_gives_the_picture_that_it_gave_then(name, models, layers):
    model, prompt = models()
    kept = load_file(FIXTURES / f"{name}_bank_1_picture.safetensors")
    with torch.inference_mode():
        bank = load_bank(FIXTURES / f"{name}_bank_1.safetensors")
        patched = install_fusion(model, bank, THEN, layers, 0.0, 1.0)
        result = run_sampler(patched, kept["noise"], kept["sigmas"], 1.0, prompt, prompt)
        plain = run_sampler(model, kept["noise"], kept["sigmas"], 1.0, prompt, prompt)
    assert difference(result, kept["picture"]) < 1e-4
    assert difference(result, plain) > 5e-3


def test_a_bank_of_version_1_says_what_it_holds():
    summary = bank_summary(load_bank(FIXTURES / "demo_bank_1.safetensors"))
    assert "4 steps of q, k, v in float8_e4m3fn" in summary and "4 steps of latents" in summary
    assert "(weight 1.5, in a region)" in summary and "(weight 0.5, drawn from a masked part)" in summary

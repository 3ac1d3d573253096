"""A bank of version 1 of the file format, kept in tests/fixtures: later packs load it, and paint the same picture.

`tiny_bank_1` holds features, a reversible picture as latents, and features in eight bits, made on the tests' miniature
model; beside it lie the noise, the sigmas and the latent that sampling with it gave.
"""

from pathlib import Path

import torch
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank_file import load_bank, save_bank
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.report import bank_summary
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_model
from safetensors.torch import load_file

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
BANK = FIXTURES / "tiny_bank_1.safetensors"
THEN = FusionSettings(content_weight=0.1, query_preservation=0.5, temperature=1.5)  # the picture's settings


def difference(a, b):
    return float((a - b).norm() / b.norm())


def test_a_bank_of_version_1_gives_the_picture_that_it_gave_then():
    model, prompt = tiny_model(), tiny_conditioning()
    kept = load_file(FIXTURES / "tiny_bank_1_picture.safetensors")
    with torch.inference_mode():
        patched = install_fusion(model, load_bank(BANK), THEN, "output.6-8", 0.0, 1.0)
        result = run_sampler(patched, kept["noise"], kept["sigmas"], 1.0, prompt, prompt)
        plain = run_sampler(model, kept["noise"], kept["sigmas"], 1.0, prompt, prompt)
    assert difference(result, kept["picture"]) < 1e-4
    assert difference(result, plain) > 5e-3


def test_a_bank_of_version_1_is_saved_again_as_the_same_file(tmp_path):
    save_bank(load_bank(BANK), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == BANK.read_bytes()


def test_a_bank_of_version_1_says_what_it_holds():
    summary = bank_summary(load_bank(BANK))
    assert "5 steps of q, k, v in float16" in summary and "5 steps of latents" in summary
    assert "5 steps of k, v in float8_e4m3fn" in summary
    assert "(weight 0.7, in a region)" in summary
    assert "(weight 1.5, in a region, drawn from a masked part)" in summary

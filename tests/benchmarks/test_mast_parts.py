"""MAST's other parts as they are tried: at rest they are `mast`, and the numbers are the published ones."""

import pytest
import torch
from magicstyle.benchmarks.mast_parts import MAST, masses_by_head, temperatures
from magicstyle.core.attention import Kernel
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.fusion import given_masses
from magicstyle.core.scene import Scene, StyleFeatures
from magicstyle.tests.core.oracle import dense_attention

HEADS, TOKENS, CHANNELS = 2, 24, 16


def features(seed, rows=2, tokens=TOKENS):
    generator = torch.Generator().manual_seed(seed)
    return AttentionFeatures(*torch.randn(3, rows, tokens, CHANNELS, generator=generator))


def test_at_temperature_1_of_every_head_it_is_mast():
    scene = Scene(features(0), features(1), (StyleFeatures(features(2, rows=1, tokens=30)),))
    kernel = Kernel(lambda q, k, v, mask=None: dense_attention(q, k, v, HEADS, mask), HEADS, False)
    ours, whole = masses_by_head(kernel, scene, MAST, tau=1.0), given_masses(kernel, scene, MAST)
    assert torch.allclose(ours, whole, atol=1e-5)
    assert not torch.allclose(masses_by_head(kernel, scene, MAST, tau=2.0), whole, atol=1e-2)


@pytest.mark.parametrize("fall, tau", [(0.0, 1.01), (1.0, 1.53), (2.0, 2.22), (3.0, 3.08), (9.0, 5.0)])
def test_a_heads_temperature_follows_how_far_its_largest_share_falls(fall, tau):
    """Logits of one sure token, and of as many of them as share what it had."""
    content = torch.full((1, 1, 4, 1), 0.0)
    joined = torch.tensor([0.0, torch.expm1(torch.tensor(fall)).clamp(min=1e-30).log()]).expand(1, 1, 4, 2)
    if fall > 0.7:  # the rest spread over many tokens, each less than the sure one
        rest = int(torch.expm1(torch.tensor(fall)).ceil())
        each = torch.full((rest,), float(torch.expm1(torch.tensor(fall)) / rest)).log()
        joined = torch.cat([torch.zeros(1), each]).expand(1, 1, 4, rest + 1)
    assert temperatures(content, joined).flatten().tolist() == pytest.approx([tau], abs=0.01)

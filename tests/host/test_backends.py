"""Regions and weights beside an int8 kernel that a flag or a node has chosen (its losses: tests/attention_patches)."""

import comfy.ldm.modules.attention as attention
import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.tests import int8_attention as simulated
from magicstyle.tests.host.families import FAMILIES
from magicstyle.tests.host.family_scene import patched as family_patched
from magicstyle.tests.host.family_scene import prompts
from magicstyle.tests.host.family_scene import sample as family_sample
from magicstyle.tests.host.family_scene import scene as family_scene
from magicstyle.tests.host.scene import difference, patch, sample, scene

KNOBS = {"content_weight": 0.02, "query_preservation": 0.5, "temperature": 1.5}
SOFT = torch.linspace(0.0, 1.0, 96).expand(1, 64, 96)
SITES = {
    "comfy.ldm.modules.attention.optimized_attention",
    *(site for family in FAMILIES.values() for site in family.sites),
}


@pytest.fixture(autouse=True)
def inference():
    widths.clear()
    with torch.inference_mode():
        yield


widths: set[int] = set()  # of the heads that the kernel was given


@attention.wrap_attn
def attention_sage(
    q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kwargs
):
    """Where the real function stands, with its own way out of masks."""
    if mask is not None:
        return attention.attention_pytorch(
            q, k, v, heads, mask=mask, skip_reshape=skip_reshape, skip_output_reshape=skip_output_reshape
        )
    widths.add(q.shape[-1] if skip_reshape else q.shape[-1] // heads)
    return simulated.int8_attention(q, k, v, heads, None, skip_reshape, skip_output_reshape)


def by_flag(model, monkeypatch):
    """--use-sage-attention: every block of the host calls it."""
    for site in SITES:
        monkeypatch.setattr(site, attention_sage)
    return model


def by_node(model, monkeypatch):
    """What ModelAttentionBackend does with the function that it was told."""
    model = model.clone()
    if hasattr(model, "set_model_optimized_attention"):
        model.set_model_optimized_attention(attention_sage)
    else:
        options = model.model_options["transformer_options"]
        options["optimized_attention_override"] = lambda _, *args, **kwargs: attention_sage(*args, **kwargs)
    return model


CHOSEN = pytest.mark.parametrize("chosen", [by_flag, by_node])


def banks(bank):
    """Without a region, and with a soft one."""
    return bank, FeatureBank(bank.content, (StyleEntry(bank.styles[0].features, 1.0, SOFT),))


@CHOSEN
def test_the_kernel_gets_heads_of_the_models_own_widths_alone(tiny_model, monkeypatch, chosen):
    content, bank = scene(tiny_model)
    sample(patch(chosen(tiny_model, monkeypatch), banks(bank)[1], **KNOBS), content)
    assert widths == {16, 32}


@CHOSEN
@pytest.mark.parametrize("name", ["flux", "sd3.5", *(["z-image"] if "z-image" in FAMILIES else [])])
def test_and_so_it_does_beside_a_transformers_text(name, monkeypatch, chosen):
    content, bank = family_scene(name)
    found = family_sample(chosen(family_patched(name, bank, **KNOBS), monkeypatch), content, 1.0, *prompts(name))
    assert torch.isfinite(found).all() and widths == {{"flux": 16}.get(name, 64)}


@pytest.mark.parametrize("chosen", ["pytorch", "sub_quad", "split"])
def test_an_exact_backend_chosen_by_a_node_gives_the_picture_of_the_flag(tiny_model, monkeypatch, chosen):
    function, (content, bank) = attention.get_attention_function(chosen), scene(tiny_model)
    model = tiny_model.clone()
    options = model.model_options["transformer_options"]
    options["optimized_attention_override"] = lambda _, *args, **kwargs: function(*args, **kwargs)
    by_the_node = sample(patch(model, banks(bank)[1], **KNOBS), content)
    for site in SITES:
        monkeypatch.setattr(site, function)
    assert difference(by_the_node, sample(patch(tiny_model, banks(bank)[1], **KNOBS), content)) < 1e-5

"""What would spoil the picture without a word is said in one sentence, and what is as it should be is silent."""

import logging
import sys
import types

import comfy.samplers
import pytest
import torch
from comfy_execution.utils import CurrentNodeContext
from magicstyle.attention_patches.comfy.run_checks import draws_noise
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.nodes import notices
from magicstyle.nodes.bank import AddStyle, FeatureBankNode
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.nodes.inversion.nodes import InvertContent, InvertStyle
from magicstyle.nodes.patcher import PatchFFA
from magicstyle.nodes.preview import FeaturePreview, preview
from magicstyle.nodes.report import bank_summary
from magicstyle.tests.host import family_scene as family
from magicstyle.tests.host.families import FAMILIES, family_latent, family_prompt
from magicstyle.tests.host.neighbours import stock
from magicstyle.tests.host.scene import own_lines, patch, picture
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning

INVERSION = {
    "steps": 4,
    "scheduler": "ddim_uniform",
    "layers": "output.6-11",
    "storage": "features",
    "precision": "fp32",
}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def said(caplog):
    """The pack's warnings, as they come."""
    with caplog.at_level(logging.WARNING, "magicstyle"):
        yield lambda: own_lines(caplog)


class FakeServer:
    client_id = "tab"

    def __init__(self):
        self.sent, self.texts = [], []

    def send_sync(self, event, data, sid):
        self.sent.append((event, data, sid))

    def send_progress_text(self, text, node, sid):
        self.texts.append((text, node, sid))


@pytest.fixture
def page(monkeypatch):
    """A server with one page, and the pack's own handler on its log."""
    fake = FakeServer()
    monkeypatch.setitem(sys.modules, "server", types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=fake)))
    before = list(notices.LOGGER.handlers)
    notices.show_warnings()
    notices.show_warnings()
    yield fake
    notices.LOGGER.handlers[:] = before


def inverted(node, model, seed):
    more = {"conditioning": tiny_conditioning(), **INVERSION}
    return node.execute(model=model, latent={"samples": picture(seed=seed)}, **more).args


@pytest.fixture
def content(tiny_model):
    return inverted(InvertContent, tiny_model, 1)


@pytest.fixture
def style(tiny_model):
    return inverted(InvertStyle, tiny_model, 9)


def features(outputs):
    return outputs[1]


def test_content_and_style_in_their_places_are_silent(content, style, said):
    bank, summary = FeatureBankNode.execute(features(content), features(style)).args
    AddStyle.execute(bank, features(style), 1.0)
    assert said() == []
    assert "connect" not in summary


def test_exchanged_content_and_style_are_named(content, style, said):
    _, summary = FeatureBankNode.execute(features(style), features(content)).args
    (sentence,) = said()
    assert sentence.startswith("Feature Bank: content and style are exchanged: connect ")
    assert sentence.removeprefix("Feature Bank: ") in summary


def test_the_portrait_as_its_own_style_is_named(content, tiny_model, said):
    for again in (features(content), features(inverted(InvertStyle, tiny_model, 1))):
        FeatureBankNode.execute(features(content), again)
    assert len(said()) == 2 and all("style 1 is the portrait itself" in sentence for sentence in said())


def test_another_portraits_features_as_a_style_are_named(content, style, tiny_model, said):
    bank, _ = FeatureBankNode.execute(features(content), features(style)).args
    AddStyle.execute(bank, features(inverted(InvertContent, tiny_model, 5)), 1.0)
    assert said() == [
        "Feature Bank: Add Style: style 2 holds features of DDIM Inversion (Content): connect those of DDIM Inversion "
        "(Style)."
    ]


def test_a_style_as_content_is_named(style, tiny_model, said):
    FeatureBankNode.execute(features(style), features(inverted(InvertStyle, tiny_model, 5)))
    (sentence,) = said()
    assert "content holds features of DDIM Inversion (Style)" in sentence


def test_inversions_on_other_noise_levels_are_named(content, tiny_model):
    more = {"conditioning": tiny_conditioning(), **INVERSION, "steps": 7}
    other = InvertStyle.execute(model=tiny_model, latent={"samples": picture(seed=9)}, **more).args
    assert "other noise levels" in bank_summary(FeatureBank(features(content), (StyleEntry(features(other)),)))


@pytest.fixture
def patched(content, style, tiny_model):
    return patch(tiny_model, FeatureBank(features(content), (StyleEntry(features(style)),)))


def run(model, content, latent=None, name="ddim", noise=None):
    latent = content[0]["samples"] if latent is None else latent
    return run_sampler(model, latent, content[2], sampler=name, noise=noise)


def test_the_inversions_noise_and_a_deterministic_sampler_are_silent(patched, content, style, said):
    run(patched, content)
    run(patched, content, name="euler")
    run(patched, content, noise=content[0]["samples"], latent=torch.zeros_like(content[0]["samples"]))
    run(patched, content, latent=0.5 * content[0]["samples"] + 0.5 * style[0]["samples"])
    assert said() == []


def test_noise_on_inverted_noise_is_named(patched, content, said):
    run(patched, content, noise=torch.randn_like(content[0]["samples"]))
    (sentence,) = said()
    assert "turn add_noise off" in sentence


def test_noise_on_a_picture_is_silent(patched, content, said):
    clean = picture(seed=1) / 14.0  # of the size that pictures have
    run(patched, content, latent=clean, noise=torch.randn_like(clean))
    assert said() == []


def test_starting_from_the_styles_noise_is_named(patched, content, style, said):
    run(patched, content, latent=style[0]["samples"])
    (sentence,) = said()
    assert "starts from the noise of style 1" in sentence


def test_an_initial_latent_whose_inputs_are_exchanged_is_named(patched, content, style, said):
    latents = content[0], style[0]
    for way, count in ((latents, 0), (latents[::-1], 1)):
        (latent,) = InitialLatent.execute(*way, mode="adain", strength=1.0).args
        run(patched, content, latent=latent["samples"])
        assert len(said()) == count
    assert "starts from the noise of style 1" in said()[0]


def test_a_sampler_that_draws_noise_is_named(patched, content, said):
    run(patched, content, name="euler_ancestral")
    (sentence,) = said()
    assert "sampler euler_ancestral draws fresh noise" in sentence and "ddim" in sentence


def half_black(value=0.0):
    mask = torch.ones(1, 64, 96)
    mask[..., 48:] = value
    return mask


def test_a_noise_mask_beside_inverted_noise_is_named(patched, content, said):
    run_sampler(patched, content[0]["samples"], content[2], noise_mask=half_black())
    (sentence,) = said()
    assert "outside of which its inverted noise stays noise: take Set Latent Noise Mask out" in sentence


def test_a_noise_mask_that_is_white_or_lies_on_a_picture_is_silent(patched, content, said):
    run_sampler(patched, content[0]["samples"], content[2], noise_mask=half_black(1.0))
    clean = picture(seed=1) / 14.0
    run_sampler(patched, clean, content[2], noise=torch.randn_like(clean), noise_mask=half_black())
    assert said() == []


@pytest.mark.parametrize("size, named", [((8, 12), True), ((64, 64), False)], ids=["painted", "of no mask"])
def test_a_mask_that_keeps_nothing_is_named_and_the_run_goes_on(tiny_model, content, style, said, size, named):
    """Load Image's mask of a picture that has none is silent: the block's face mask is that until one is painted."""
    bank = FeatureBank(features(content), (StyleEntry(features(style)),))
    arguments = {"layers": "output.9", "start_percent": 0.0, "end_percent": 1.0, "method": "ffa"}
    PatchFFA.execute(tiny_model, bank, keep=torch.ones(1, *size), **arguments)
    assert said() == []
    PatchFFA.execute(tiny_model, bank, keep=torch.zeros(1, *size), **arguments)
    sentences = said()
    assert len(sentences) == named
    assert all("keep is black everywhere and keeps nothing: paint" in sentence for sentence in sentences)


def test_keys_that_another_node_adds_are_not_called_merged_or_tiled(said):
    """FluxKVCache appends those of the reference from the second step on."""
    name = "flux2"
    if name not in FAMILIES:
        pytest.skip("this ComfyUI has no Flux.2")
    content, bank = family.scene(name)
    model = stock("comfy_extras.nodes_flux.FluxKVCache", model=family.patched(name, bank))[0]
    reference = family_prompt(name, seed=6, reference_latents=[family_latent(name, (6, 4), seed=12)])
    family.sample(model, content, 1.0, reference)
    (sentence,) = said()
    assert "another node merges, tiles or adds tokens in the self-attention of double.0.0, " in sentence


def test_a_seed_changes_nothing_where_no_noise_is_drawn(patched, content):
    first, second = (run_sampler(patched, content[0]["samples"], content[2], seed=seed) for seed in (1, 2))
    assert torch.equal(first, second)


def test_models_of_few_steps_may_draw_noise(tiny_model, said):
    more = {"conditioning": tiny_conditioning(), **INVERSION, "method": "noising"}
    outputs = [
        node.execute(model=tiny_model, latent={"samples": picture(seed=seed)}, **more).args
        for node, seed in ((InvertContent, 1), (InvertStyle, 9))
    ]
    bank = FeatureBank(features(outputs[0]), (StyleEntry(features(outputs[1])),))
    run(patch(tiny_model, bank), outputs[0], name="lcm", noise=torch.randn_like(outputs[0][0]["samples"]))
    assert said() == []


@pytest.mark.long
def test_of_the_hosts_samplers_those_that_follow_the_seed_are_known_to_draw(tiny_model, content):
    """Each runs twice, with two seeds."""
    arguments = (content[0]["samples"], content[2], 1.0, tiny_conditioning())
    for name in comfy.samplers.KSAMPLER_NAMES:
        if name.endswith("_gpu"):
            continue
        first, second = (run_sampler(tiny_model, *arguments, sampler=name, seed=seed) for seed in (1, 2))
        assert draws_noise(comfy.samplers.sampler_object(name)) == (not torch.equal(first, second)), name


def test_an_ancestral_sampler_without_ancestral_noise_is_silent():
    quiet = comfy.samplers.ksampler("euler_ancestral", {"eta": 0.0})
    assert draws_noise(comfy.samplers.ksampler("euler_ancestral", {"eta": 0.5})) and not draws_noise(quiet)


def test_warnings_and_summaries_reach_the_page_that_runs_the_graph(page, content, style):
    with CurrentNodeContext("prompt", "12:7"):
        _, summary = FeatureBankNode.execute(features(style), features(content)).args
    ((event, data, tab),) = page.sent
    assert (event, data["node"], tab) == ("magicstyle.warning", "12:7", "tab")
    assert data["text"].startswith("Feature Bank: content and style are exchanged")
    assert page.texts == [(summary, "12:7", "tab")]


def test_a_page_that_cannot_be_reached_ends_no_run(page, patched, content, style, capsys, monkeypatch):
    def lost(*_):
        raise ConnectionResetError("the tab was closed")

    monkeypatch.setattr(page, "send_sync", lost)
    result = run(patched, content, latent=style[0]["samples"])
    assert torch.isfinite(result).all()
    assert "ConnectionResetError: the tab was closed" in capsys.readouterr().err


def test_reports_lie_on_their_nodes(page, tiny_model):
    with CurrentNodeContext("prompt", "3"):
        outputs = inverted(InvertStyle, tiny_model, 9)
    assert page.texts == [(outputs[3], "3", "tab")] and page.sent == []


def test_what_is_no_warning_stays_in_the_log(page):
    notices.LOGGER.info("features lie on the gpu")
    assert page.sent == []


@pytest.mark.parametrize("node", [PatchFFA, InvertContent, InvertStyle])
def test_what_names_no_layer_is_refused_before_anything_runs(node):
    assert node.validate_inputs(layers="output.6-11, outputs.3") == (
        "layers: 'outputs.3' is not a layer; write auto, all, or a block and its numbers, such as output.6-11, middle, "
        "double.0-18, single."
    )
    assert all(node.validate_inputs(layers=text) is True for text in ("auto", "all", "output.6-11, middle", None))


def test_the_preview_checks_its_layer_too(content, style):
    assert "layer: 'nose' is not a layer" in FeaturePreview.validate_inputs(layer="nose")
    bank, _ = FeatureBankNode.execute(features(content), features(style)).args
    assert torch.equal(preview(bank, "auto", 0.5), preview(bank, "output.10", 0.5))

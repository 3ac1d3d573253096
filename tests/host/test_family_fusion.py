"""Fusion in flow-matching transformers, run to the end, against plain torch: alone and beside other nodes."""

import comfy.model_management
import comfy.sd
import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.fusion import FUSIONS
from magicstyle.tests.host.families import FAMILIES, family_latent, family_model, family_prompt
from magicstyle.tests.host.family_neighbours import Residuals, around_block, lora_weights, residuals
from magicstyle.tests.host.family_scene import (
    SMALL,
    STYLE,
    content_latent,
    difference,
    every,
    inverted,
    painted_by_hand,
    patched,
    prompts,
    sample,
    scene,
    starting,
    style_latent,
)
from magicstyle.tests.host.flow_oracle import FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import KNOBS, METHODS, RULES, Style
from magicstyle.tests.host.neighbours import stock
from magicstyle.tests.host.tiny import run_sampler

CLOSE = 1e-4
DIT = [name for name in FAMILIES if FAMILIES[name].dit]
GUIDED = [name for name in FAMILIES if FAMILIES[name].guided]
REFERENCES = [name for name in FAMILIES if FAMILIES[name].references]


@pytest.fixture(scope="module", autouse=True)
def forget_scenes():
    """Models that outlive the host's modules complain."""
    yield
    scene.cache_clear()


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def plain_weights():
    """Called before the oracle runs: the host leaves the weights of its last run in place, those of a LoRA too."""
    return comfy.model_management.unload_all_models


# --- one style -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg, batch, storage", [(1.0, 1, "features"), (3.0, 2, "latents")])
@pytest.mark.parametrize("rule", RULES)
@every()
def test_a_run_equals_the_oracle(name, rule, cfg, batch, storage):
    content, bank = scene(name, batch, storage)
    ours = sample(patched(name, bank, **KNOBS[rule]), content, cfg, *prompts(name))
    assert difference(ours, painted_by_hand(name, rule, content, cfg, batch)) <= CLOSE


@every()
def test_latents_give_what_features_give(name):
    runs = []
    for storage in ("features", "latents"):
        content, bank = scene(name, 2, storage)
        runs.append(sample(patched(name, bank, **KNOBS["ffa"]), content, 3.0, *prompts(name)))
    assert difference(*runs) <= CLOSE


@every()
def test_only_chosen_layers_are_fused(name):
    chosen = FAMILIES[name].layers[1::2]
    content, bank = scene(name)
    ours = sample(patched(name, bank, ", ".join(chosen), **KNOBS["ffa"]), content, 1.0, *prompts(name))
    assert difference(ours, painted_by_hand(name, "ffa", content, layers=chosen)) <= CLOSE


@every(*REFERENCES)
def test_reference_latents_keep_their_own_attention(name):
    references = {"reference_latents": [family_latent(name, (6, 4), seed=12)]}
    empty, prompt = family_prompt(name, **references), family_prompt(name, seed=6, **references)
    for storage in ("features", "latents"):
        content = inverted(name, content_latent(name), empty, layers="all", storage=storage)
        style = inverted(name, style_latent(name), empty, layers="all", storage=storage)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, prompt)
        assert difference(ours, painted_by_hand(name, "ffa", content, empty=empty, positive=prompt)) <= CLOSE


@pytest.mark.parametrize("storage", ["features", "latents"])
@every(*[name for name in FAMILIES if FAMILIES[name].last])
def test_a_reference_that_the_inversion_had_not_pushes_the_picture_further(name, storage):
    content, bank = scene(name, 1, storage)
    prompt = family_prompt(name, seed=6, reference_latents=[family_latent(name, (6, 4), seed=12)])
    ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, prompt)
    assert difference(ours, painted_by_hand(name, "ffa", content, positive=prompt)) <= CLOSE


@pytest.mark.parametrize("storage", ["features", "latents"])
@every()
def test_a_caption_of_another_length_changes_nothing_of_what_is_stored(name, storage):
    content, bank = scene(name, 1, storage)
    longer = family_prompt(name, 40, seed=6)
    ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, longer)
    assert difference(ours, painted_by_hand(name, "ffa", content, positive=longer)) <= 1e-5


@pytest.mark.parametrize("storage", ["features", "latents"])
@every(alike=True)
def test_every_second_level_serves_its_neighbour(name, storage):
    pictures = content_latent(name), style_latent(name)
    content, style = (
        inverted(name, latent, layers="all", sigmas=DESCENT, storage=storage, level_stride=2) for latent in pictures
    )
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, *prompts(name))
    patcher = Patcher(RULES["ffa"], (Style(style_latent(name)),))
    arguments = content_latent(name), (patcher,), DESCENT, family_prompt(name), *prompts(name)
    assert difference(ours, FlowOracle(name, serving=(0, 0, 3, 3)).stylize(*arguments)) <= CLOSE
    assert difference(ours, FlowOracle(name).stylize(*arguments)) > 10 * CLOSE


# early steps full of noise and late ones that are not: several methods do one thing here, another there
DESCENT = torch.tensor([0.9, 0.6, 0.4, 0.2, 0.0])
METHOD_KNOBS = {name: KNOBS.get(name, {"method": name, "query_preservation": 0.0}) for name in FUSIONS}


@pytest.mark.parametrize("method", FUSIONS)
@every("flux", "sd3.5", "wan", *(["z-image"] if "z-image" in FAMILIES else []))
def test_every_method_equals_its_formula(name, method):
    content, style = (
        inverted(name, latent, layers="all", sigmas=DESCENT) for latent in (content_latent(name), style_latent(name))
    )
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    ours = sample(patched(name, bank, **METHOD_KNOBS[method]), content, 3.0, *prompts(name))
    patcher = Patcher(METHODS[method], (Style(style_latent(name)),))
    expected = FlowOracle(name).stylize(
        content_latent(name), (patcher,), DESCENT, family_prompt(name), *prompts(name), 3.0
    )
    assert difference(ours, expected) <= CLOSE


# --- regions, masks, several styles, several patchers ----------------------------------------------------------------


def slope(height, width):
    """A mask that rises from left to right, white in its last third: h w."""
    return (torch.linspace(0.0, 1.5, width)).clamp(max=1.0).expand(height, width).contiguous()


def two_styles(name):
    """Styles of different size: one in a soft region, one that lends its upper half in what is left of it."""
    (h, w), (top, right) = SMALL, STYLE
    upper = torch.ones(2 * top, 2 * right)
    upper[top:] = 0.0
    region = slope(2 * h, 2 * w)
    return (
        Style(family_latent(name, STYLE, seed=4), 0.7, region, upper),
        Style(family_latent(name, (12, 8), seed=9), 1.3, 0.6 * (1.0 - region)),
    )


def bank_of(name, content, styles, storage="features"):
    """The bank that these styles are."""

    def entry(style):
        features = inverted(name, style.latent, layers="all", storage=storage).features
        masks = (None if mask is None else mask.unsqueeze(0) for mask in (style.region, style.mask))
        return StyleEntry(features, style.weight, *masks)

    return FeatureBank(content.features, tuple(map(entry, styles)))


@pytest.mark.parametrize("rule, cfg, storage", [("ffa", 1.0, "features"), ("styleid", 3.0, "latents")])
@every(alike=True)
def test_two_styles_act_in_their_regions_and_lend_what_their_masks_show(name, rule, cfg, storage):
    content, _ = scene(name, 1, storage)
    styles = two_styles(name)
    ours = sample(patched(name, bank_of(name, content, styles, storage), **KNOBS[rule]), content, cfg, *prompts(name))

    def by_hand(styles):
        patcher = Patcher(RULES[rule], styles)
        arguments = content_latent(name), (patcher,), content.sigmas, family_prompt(name), *prompts(name), cfg
        return FlowOracle(name).stylize(*arguments)

    assert difference(ours, by_hand(styles)) <= CLOSE
    # each part of the scene shows
    without = (
        (styles[0], styles[1]._replace(region=None)),
        (styles[0]._replace(mask=None), styles[1]),
        (styles[0], styles[1]._replace(weight=0.3)),
        styles[:1],
    )
    assert min(difference(ours, by_hand(fewer)) for fewer in without) > 10 * CLOSE


@pytest.mark.parametrize("storage", ["features", "latents"])
@every(alike=True)
def test_two_patchers_in_a_row_each_fuse_their_layers(name, storage):
    content, bank = scene(name, 1, storage)
    other = Style(family_latent(name, (12, 8), seed=9))
    first, second = FAMILIES[name].layers[::2], FAMILIES[name].layers[1::2]
    model = patched(name, bank, ", ".join(first), **KNOBS["ffa"])
    model = patched(name, bank_of(name, content, (other,), storage), ", ".join(second), model=model, **KNOBS["styleid"])
    ours = sample(model, content, 1.0, *prompts(name))
    patchers = Patcher(RULES["ffa"], (Style(style_latent(name)),), first), Patcher(RULES["styleid"], (other,), second)
    expected = FlowOracle(name).stylize(
        content_latent(name), patchers, content.sigmas, family_prompt(name), *prompts(name)
    )
    assert difference(ours, expected) <= CLOSE


@every(alike=True)
def test_of_two_patchers_in_one_layer_the_last_counts(name):
    content, bank = scene(name)
    other = bank_of(name, content, (Style(family_latent(name, (12, 8), seed=9)),))
    model = patched(name, bank, model=patched(name, other, **KNOBS["styleid"]), **KNOBS["ffa"])
    alone = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, *prompts(name))
    assert difference(sample(model, content, 1.0, *prompts(name)), alone) <= 1e-5


# --- samplers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("halves", [False, True], ids=["in one go", "in two halves"])
@every()
def test_ksampler_advanced_gives_the_same_picture(name, halves):
    content, bank = scene(name)
    positive, negative = prompts(name)
    model, latent = patched(name, bank, **KNOBS["ffa"]), content.noise
    for start, end in ((0, 1), (1, 2)) if halves else ((0, 2),):
        latent = stock(
            "nodes.KSamplerAdvanced", model=model, add_noise="disable", noise_seed=0, steps=2, cfg=3.0,
            sampler_name="euler", scheduler="simple", positive=positive, negative=negative, latent_image=latent,
            start_at_step=start, end_at_step=end, return_with_leftover_noise="enable" if end < 2 else "disable",
        )[0]  # fmt: skip
    whole = sample(model, content, 3.0, positive, negative)
    assert difference(latent["samples"], whole) <= 1e-5
    assert difference(whole, sample(starting(name), content, 3.0, positive, negative)) > 1e-3


@every(alike=True)
def test_a_denoise_below_one_starts_from_the_latent_and_noise_as_ever(name):
    latent = content_latent(name)
    # what KSampler makes of four steps at a denoise of one half
    content, style = (
        inverted(name, picture, layers="all", sigmas=DESCENT[1:]) for picture in (latent, style_latent(name))
    )
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
    model = patched(name, bank, **KNOBS["ffa"])
    ours = run_sampler(model, latent, DESCENT[1:], 1.0, *prompts(name), "euler", noise=noise)
    patcher = Patcher(RULES["ffa"], (Style(style_latent(name)),))
    arguments = latent, (patcher,), DESCENT[1:], family_prompt(name), *prompts(name)
    assert difference(ours, FlowOracle(name).stylize(*arguments, noise=noise)) <= CLOSE


@every(*GUIDED)
def test_a_guidance_while_sampling_counts_there_alone(name):
    content, bank = scene(name)
    strong = family_prompt(name, seed=6, guidance=3.5)
    ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, strong)
    assert difference(ours, painted_by_hand(name, "ffa", content, positive=strong)) <= CLOSE
    assert difference(ours, painted_by_hand(name, "ffa", content)) > 10 * CLOSE


# --- beside other nodes --------------------------------------------------------------------------------------------


@every(*DIT)
def test_another_nodes_block_patch_stays_in_force(name):
    key = ("double_block", 0)
    model = family_model(name)
    model.set_model_patch_replace(around_block, "dit", *key)
    content, bank = scene(name)
    ours = sample(patched(name, bank, model=model, **KNOBS["ffa"]), content, 1.0, *prompts(name))
    assert difference(ours, painted_by_hand(name, "ffa", content, blocks={key: around_block})) <= CLOSE
    assert difference(ours, painted_by_hand(name, "ffa", content)) > 10 * CLOSE


@pytest.mark.parametrize("order", ["before", "after"])
@every()
def test_another_nodes_override_acts_in_either_order(name, order):
    def raised(func, *args, **kwargs):
        # no factor: the norm behind the attention of some families takes it away again
        return func(*args, **kwargs) + 0.3

    content, bank = scene(name)
    model = family_model(name)
    if order == "before":
        model.model_options["transformer_options"]["optimized_attention_override"] = raised
    model = patched(name, bank, model=model, **KNOBS["ffa"])
    if order == "after":
        model.model_options["transformer_options"]["optimized_attention_override"] = raised
    ours = sample(model, content, 1.0, *prompts(name))
    assert difference(ours, painted_by_hand(name, "ffa", content, raised=0.3)) <= CLOSE
    assert difference(ours, painted_by_hand(name, "ffa", content)) > 10 * CLOSE


CONTROLLED = [("flux", "input"), ("flux", "output"), ("chroma", "input"), ("chroma", "output"), ("qwen", "input"),
              ("sd3", "output"), ("sd3.5", "output")]  # fmt: skip


@pytest.mark.parametrize("name, side", CONTROLLED)
def test_a_controlnet_acts_beside_the_fusion(name, side):
    given = residuals(name, SMALL[0] * SMALL[1] // 4, side)
    content, bank = scene(name)
    positive, negative = prompts(name)
    positive[0][1].update(control=Residuals(given), control_apply_to_uncond=False)
    ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 3.0, positive, negative)
    assert difference(ours, painted_by_hand(name, "ffa", content, 3.0, control=given)) <= CLOSE
    assert difference(ours, painted_by_hand(name, "ffa", content, 3.0)) > 10 * CLOSE


@pytest.mark.parametrize("storage", ["features", "latents"])
@every()
def test_a_lora_on_the_sampling_model_equals_the_oracle(name, storage, plain_weights):
    """The pictures are inverted without it; a trajectory's features are those of the model that made it."""
    file, added = lora_weights(name)
    model, _ = comfy.sd.load_lora_for_models(family_model(name), None, file, 1.0, 0.0)
    content, bank = scene(name, 1, storage)
    ours = sample(patched(name, bank, model=model, **KNOBS["ffa"]), content, 1.0, *prompts(name))
    plain_weights()
    assert difference(ours, painted_by_hand(name, "ffa", content, weights=added)) <= CLOSE
    assert difference(ours, painted_by_hand(name, "ffa", content)) > 10 * CLOSE

"""Style Guidance in a real ComfyUI: against passes run by hand, and the host's own guider where nothing guides."""

import functools

import comfy.samplers
import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.guidance import GUIDANCES
from magicstyle.nodes.style_guidance import StyleGuidanceNode
from magicstyle.tests.core.oracle import nvqg, styleid
from magicstyle.tests.host import family_scene as family
from magicstyle.tests.host.families import FAMILIES, family_prompt, family_sigmas
from magicstyle.tests.host.flow_oracle import FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import KNOBS, Style
from magicstyle.tests.host.flow_rules import nvqg as flow_nvqg
from magicstyle.tests.host.flow_rules import styleid as flow_styleid
from magicstyle.tests.host.fusion_oracle import eps, invert
from magicstyle.tests.host.neighbours import controlnet, hint, lora_name, stock
from magicstyle.tests.host.scene import SCALE, difference, inversion, own_lines, patch, picture
from magicstyle.tests.host.scene import scene as inverted
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas
from magicstyle.tests.host.tiny import tiny_model as base_model

from nodes import ControlNetApplyAdvanced

STEPS = 3
STYLED = {"method": "styleid", "query_preservation": 0.0, "temperature": 1.0}
POSITIVE, NEGATIVE = tiny_conditioning(seed=5), tiny_conditioning(seed=4)


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def counted(tiny_model, monkeypatch):
    """The rows of every call of the network."""
    rows, answer = [], tiny_model.model.apply_model

    def counting(x, *args, **kwargs):
        rows.append(len(x))
        return answer(x, *args, **kwargs)

    monkeypatch.setattr(tiny_model.model, "apply_model", counting)
    return rows


@functools.cache
def plain_scene(storage="features", batch=1):
    """(content inversion, bank) of the plain model."""
    return inverted(base_model(), steps=STEPS, storage=storage, batch=batch)


def scene(model, storage="features", batch=1):
    """The same, or that of another model."""
    return inverted(model, steps=STEPS, storage=storage, batch=batch)


@pytest.fixture(scope="module", autouse=True)
def forget_banks():
    """Models that outlive the host's modules complain."""
    yield
    plain_scene.cache_clear()
    family.scene.cache_clear()


def start(content):
    return content.noise["samples"], content.sigmas


def guider(model, guiding, guidance, scale, cfg=1.0, positive=POSITIVE, negative=NEGATIVE, **more):
    return StyleGuidanceNode.execute(model, guiding, positive, guidance, scale, cfg, negative=negative, **more).args[0]


def host_guider(model, cfg, positive=POSITIVE, negative=NEGATIVE):
    found = comfy.samplers.CFGGuider(model)
    found.set_conds(positive, negative)
    found.set_cfg(cfg)
    return found


def sampled(by, latent, sigmas, sampler="ddim", noise=None):
    noise = torch.zeros_like(latent) if noise is None else noise
    sampler = comfy.samplers.sampler_object(sampler)
    return by.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=0).cpu()


def by_hand(model, content, style, guidance, scale, cfg, positive=POSITIVE, negative=NEGATIVE):
    """DDIM over passes of the bare UNet, each with its own attention in the decoder."""
    sigmas, context = tiny_sigmas(model, STEPS), tiny_conditioning()[0][0]
    grid, model = sigmas[:-1], model.model
    x, kept_content = invert(model, content, grid, context)
    _, kept = invert(model, style, grid, context)
    positive, negative = (None if prompt is None else prompt[0][0] for prompt in (positive, negative))
    for step in range(len(grid)):

        def attention(rule, step=step):
            def replace(q, k, v, options):
                key = step, options["block"]
                live, features = ([t.expand(len(q), -1, -1) for t in kept_[key]] for kept_ in (kept_content, kept))
                return rule((q, k, v), live, features, options["n_heads"])

            return replace

        def styled(live, content, style, heads):
            return styleid(live, content, style, heads, gamma=0.0, tau=1.0)

        def passed(prompt, rule=None, x=x, sigma=grid[step], attention=attention):
            return eps(model, x, sigma, prompt, attention(rule) if rule else None)

        painting = styled if guidance == "nvqg" else None
        given = negative if negative is not None else positive
        c, u = passed(positive, painting), passed(given, painting)
        e = u + cfg * (c - u)
        e = e + scale * (c - passed(given, nvqg) if guidance == "nvqg" else passed(given, styled) - u)
        x = x + (sigmas[step + 1] - sigmas[step]) * e
    return x


def models(tiny_model, bank, guidance):
    """(model, guiding_model) as the help says."""
    styled = patch(tiny_model, bank, **STYLED)
    return (styled, patch(tiny_model, bank, method="nvqg")) if guidance == "nvqg" else (tiny_model, styled)


@pytest.mark.parametrize(
    "cfg, negative, storage",
    [(1.0, NEGATIVE, "features"), (1.0, None, "features"), (3.0, NEGATIVE, "features"), (3.0, NEGATIVE, "latents")],
    ids=["1", "open", "3", "3-latents"],
)
@pytest.mark.parametrize("guidance, scale", [("nvqg", 2.0), ("spg", 3.0)])
def test_a_run_equals_passes_by_hand(tiny_model, guidance, scale, cfg, negative, storage):
    content, bank = plain_scene(storage)
    found = guider(*models(tiny_model, bank, guidance), guidance, scale, cfg, negative=negative)
    ours = sampled(found, content.noise["samples"], content.sigmas) * SCALE
    pictures = picture() * SCALE, picture(seed=9) * SCALE
    theirs = by_hand(tiny_model, *pictures, guidance, scale, cfg, negative=negative)
    assert difference(ours, theirs) <= 1e-4
    plain = by_hand(tiny_model, *pictures, guidance, 0.0, cfg, negative=negative)
    assert difference(plain, theirs) > 1e-2


def flow_by_hand(name, guidance, scale, cfg):
    """Euler steps over passes of a transformer's bare network."""
    oracle, content, style = FlowOracle(name), family.content_latent(name), Style(family.style_latent(name))
    sigmas, (positive, negative), empty = family_sigmas(name, 2), family.prompts(name), family_prompt(name)
    x, of_content = oracle.invert(content, sigmas, empty)
    of_style = oracle.invert(style.latent, sigmas, empty)[1]
    for step in range(len(sigmas) - 1):
        stored, when = (of_content[step], {id(style): of_style[step]}), (step / 2, float(sigmas[step]))

        def passed(words, rule, x=x, step=step, stored=stored, when=when):
            fused = rule and oracle._fusion(
                (Patcher(rule, (style,)),), content, *stored, *when, positive=True, compared=None
            )
            return oracle.velocity(x, sigmas[step], words, fused)[0]

        painting, other = (flow_styleid, flow_nvqg) if guidance == "nvqg" else (None, flow_styleid)
        c, u, guiding = passed(positive, painting), passed(negative, painting), passed(negative, other)
        v = u + cfg * (c - u) + scale * (c - guiding if guidance == "nvqg" else guiding - u)
        x = x + (sigmas[step + 1] - sigmas[step]) * v
    return oracle.model.process_latent_out(x)


@pytest.mark.parametrize("guidance, scale", [("nvqg", 2.0), ("spg", 3.0)])
@family.every("flux", "sd3.5", *(["z-image"] if "z-image" in FAMILIES else []))
def test_a_transformers_run_equals_passes_by_hand(name, guidance, scale):
    """The style's grid is another than the picture's, and places are rotary in two of them."""
    content, bank = family.scene(name)
    styled = family.patched(name, bank, **KNOBS["styleid"])
    both = (
        (styled, family.patched(name, bank, method="nvqg")) if guidance == "nvqg" else (family.starting(name), styled)
    )
    found = guider(*both, guidance, scale, 3.0, *family.prompts(name))
    ours = sampled(found, content.noise["samples"], content.sigmas, "euler")
    theirs = flow_by_hand(name, guidance, scale, 3.0)
    assert difference(ours, theirs) <= 1e-4
    assert difference(flow_by_hand(name, guidance, 0.0, 3.0), theirs) > 1e-3


def test_the_second_patchers_auto_is_what_the_first_ones_leaves_out(tiny_model):
    content = inversion(tiny_model, picture(), STEPS, "all")
    style = inversion(tiny_model, picture(seed=9), STEPS, "all")
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    auto, named, same = (
        sampled(host_guider(patch(tiny_model, bank, layers, method="nvqg"), 1.0), *start(content))
        for layers in ("auto", "input, middle, output.0-5", "output.6-11")
    )
    assert torch.equal(auto, named) and difference(auto, same) > 1e-3


# --- nothing guides ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg, negative", [(1.0, NEGATIVE), (1.0, None), (3.0, NEGATIVE)], ids=["1", "open", "3"])
@pytest.mark.parametrize("more", [{}, {"start_percent": 1.0}], ids=["scale 0", "no level"])
@pytest.mark.parametrize("guidance", GUIDANCES)
def test_without_guidance_it_is_the_hosts_guider_to_the_bit_and_at_its_cost(
    tiny_model, counted, guidance, more, cfg, negative
):
    content, bank = plain_scene()
    model, guiding = models(tiny_model, bank, guidance)
    latent, scale = content.noise["samples"], 2.0 if more else 0.0
    runs, rows = [], []
    for by in (
        guider(model, guiding, guidance, scale, cfg, negative=negative, **more),
        host_guider(model, cfg, negative=negative or NEGATIVE),
    ):
        counted.clear()
        runs.append(sampled(by, latent, content.sigmas))
        rows.append(list(counted))
    assert torch.equal(*runs) and rows[0] == rows[1]


ROWS = {
    ("nvqg", 1.0, False): [1, 1],
    ("nvqg", 1.0, True): [1, 1],
    ("nvqg", 3.0, True): [2, 1],
    ("spg", 1.0, False): [1, 1],
    ("spg", 1.0, True): [2, 1],
    ("spg", 3.0, True): [2, 1],
}


@pytest.mark.parametrize("guidance, cfg, told", ROWS)
def test_a_step_takes_these_rows(tiny_model, counted, guidance, cfg, told):
    content, bank = plain_scene()
    found = guider(*models(tiny_model, bank, guidance), guidance, 2.0, cfg, negative=NEGATIVE if told else None)
    counted.clear()
    sampled(found, content.noise["samples"], content.sigmas)
    assert counted == ROWS[guidance, cfg, told] * STEPS


def test_it_guides_in_its_part_of_the_schedule_alone(tiny_model, counted):
    content, bank = plain_scene()
    found = guider(*models(tiny_model, bank, "nvqg"), "nvqg", 2.0, end_percent=0.5)
    end = float(tiny_model.get_model_object("model_sampling").percent_to_sigma(0.5))
    expected = [[1, 1] if float(sigma) >= end else [1] for sigma in content.sigmas[:-1]]
    assert [1] in expected and [1, 1] in expected
    counted.clear()
    sampled(found, content.noise["samples"], content.sigmas)
    assert counted == sum(expected, [])


# --- beside prompts, batches and other nodes -------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_pictures_of_a_batch_are_guided_each_as_alone(tiny_model, guidance):
    content, bank = plain_scene(batch=2)
    together = sampled(guider(*models(tiny_model, bank, guidance), guidance, 2.0, 3.0), *start(content))
    for number in (0, 1):
        one = inversion(tiny_model, picture(batch=2)[[number]], STEPS)
        alone = models(tiny_model, FeatureBank(one.features, bank.styles), guidance)
        assert difference(together[[number]], sampled(guider(*alone, guidance, 2.0, 3.0), *start(one))) <= 1e-4


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_negative_prompts_of_another_length_and_number_are_prompts_as_in_the_hosts_guider(tiny_model, guidance):
    """Two halves of one negative prompt are that prompt, and one of 100 tokens runs in a call of its own."""
    content, bank = plain_scene()
    both = models(tiny_model, bank, guidance)
    long = tiny_conditioning(100, seed=4)
    once, twice = (
        sampled(guider(*both, guidance, 2.0, 3.0, negative=prompt), *start(content)) for prompt in (long, long + long)
    )
    theirs = by_hand(tiny_model, picture() * SCALE, picture(seed=9) * SCALE, guidance, 2.0, 3.0, negative=long)
    assert difference(once * SCALE, theirs) <= 1e-4 and difference(twice, once) <= 1e-5


def test_a_controlnet_acts_in_every_pass(tiny_model):
    content, bank = plain_scene()
    prompts = ControlNetApplyAdvanced().apply_controlnet(POSITIVE, NEGATIVE, controlnet(), hint(), 1.0, 0.0, 1.0)
    model, guiding = models(tiny_model, bank, "nvqg")
    found = sampled(guider(model, guiding, "nvqg", 2.0, 1.0, *prompts), *start(content))
    # one step by hand, with the host's own guider once for each pass
    sigmas = content.sigmas[:2]
    step = sampled(guider(model, guiding, "nvqg", 2.0, 1.0, *prompts), content.noise["samples"], sigmas)
    c, q = (
        sampled(host_guider(each, 1.0, prompt, prompt), content.noise["samples"], sigmas)
        for each, prompt in ((model, prompts[0]), (guiding, prompts[1]))
    )
    assert difference(step, c + 2.0 * (c - q)) <= 1e-5
    assert difference(found, sampled(guider(model, guiding, "nvqg", 2.0), *start(content))) > 1e-3


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_a_lora_before_the_wire_parts_is_in_every_pass(tiny_model, guidance):
    """As if its weights were the network's own."""
    lora = stock("nodes.LoraLoaderModelOnly", model=tiny_model, lora_name=lora_name(), strength_model=0.7)[0]
    runs = []
    for storage in ("features", "latents"):
        content, bank = scene(lora, storage)
        runs.append(sampled(guider(*models(lora, bank, guidance), guidance, 2.0, 3.0), *start(content)))
    content, bank = plain_scene()
    without = sampled(guider(*models(tiny_model, bank, guidance), guidance, 2.0, 3.0), *start(content))
    assert difference(*runs) <= 1e-4 and difference(runs[0], without) > 1e-3


def test_what_other_nodes_do_to_the_prediction_comes_before_the_guidance(tiny_model):
    content, bank = plain_scene()
    model, guiding = models(tiny_model, bank, "nvqg")
    halved = model.clone()
    halved.set_model_sampler_post_cfg_function(lambda given: 0.5 * given["denoised"])
    sigmas, latent = torch.cat([content.sigmas[:1], torch.zeros(1)]), content.noise["samples"]
    plain, other, still = (
        sampled(by, latent, sigmas)
        for by in (
            guider(model, guiding, "nvqg", 2.0, 3.0),
            guider(halved, guiding, "nvqg", 2.0, 3.0),
            host_guider(model, 3.0),
        )
    )
    assert difference(other, plain - 0.5 * still) <= 1e-5


def test_caches_on_both_models_keep_to_themselves(tiny_model):
    """A cache that skips nothing changes nothing."""
    content, bank = plain_scene()
    eager = {"reuse_threshold": 0.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
    cached = stock("comfy_extras.nodes_easycache.EasyCacheNode", model=tiny_model, **eager)[0]
    runs = [
        sampled(guider(*models(model, bank, "nvqg"), "nvqg", 2.0, 3.0), *start(content))
        for model in (tiny_model, cached)
    ]
    assert difference(*runs) <= 1e-6


def test_a_guider_serves_again(tiny_model):
    content, bank = plain_scene()
    found = guider(*models(tiny_model, bank, "spg"), "spg", 2.0, 3.0)
    assert torch.equal(sampled(found, *start(content)), sampled(found, *start(content)))


def test_the_advanced_sampler_takes_it(tiny_model):
    content, bank = plain_scene()
    found = guider(*models(tiny_model, bank, "nvqg"), "nvqg", 2.0)
    custom = "comfy_extras.nodes_custom_sampler"
    noise = stock(f"{custom}.DisableNoise")[0]
    sampler = stock(f"{custom}.KSamplerSelect", sampler_name="ddim")[0]
    given = {"noise": noise, "guider": found, "sampler": sampler, "sigmas": content.sigmas}
    out = stock(f"{custom}.SamplerCustomAdvanced", **given, latent_image={"samples": content.noise["samples"]})
    assert torch.equal(out[0]["samples"], sampled(found, *start(content)))


def test_what_holds_for_both_models_is_said_once(tiny_model, caplog):
    content, bank = plain_scene()
    both, latent = models(tiny_model, bank, "nvqg"), content.noise["samples"]
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    sampled(guider(*both, "nvqg", 2.0), latent, content.sigmas, noise=noise)
    (said,) = own_lines(caplog)
    assert "the sampler adds noise to the inverted noise" in said


# --- queries of another size -----------------------------------------------------------------------------------------


def test_the_styles_queries_are_stretched_over_a_picture_of_another_size(tiny_model):
    content = inversion(tiny_model, picture(), 2)
    small = inversion(tiny_model, picture(4, 6, seed=9), 2)
    guiding = patch(tiny_model, FeatureBank(content.features, (StyleEntry(small.features),)), method="nvqg")
    plain, found = (sampled(host_guider(model, 1.0), *start(content)) for model in (tiny_model, guiding))
    assert bool(torch.isfinite(found).all()) and difference(found, plain) > 1e-3


# --- what is refused -------------------------------------------------------------------------------------------------


def test_models_of_other_weights_are_refused(tiny_model):
    content, bank = plain_scene()
    model, guiding = models(tiny_model, bank, "nvqg")
    lora = stock("nodes.LoraLoaderModelOnly", model=guiding, lora_name=lora_name(), strength_model=0.7)[0]
    node, given = "comfy_extras.nodes_model_advanced.ModelSamplingDiscrete", {"sampling": "v_prediction", "zsnr": False}
    other_kind = stock(node, model=guiding, **given)[0]
    for other in (lora, other_kind, base_model(seed=1)):
        with pytest.raises(MagicStyleError, match="not the same network with the same weights: take both from one"):
            guider(model, other, "nvqg", 2.0)


def test_classifier_free_guidance_without_a_negative_prompt_is_refused(tiny_model):
    with pytest.raises(MagicStyleError, match="cfg is 3 and negative is open: connect a negative prompt, or set cfg"):
        guider(tiny_model, tiny_model, "spg", 2.0, 3.0, negative=None)


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"guidance": "magic"}, "guidance is 'magic': choose one of nvqg, spg"),
        ({"scale": -1.0}, "style_scale is -1.0: choose a value from 0 to 20"),
        ({"end_percent": 2.0}, "end_percent is 2.0: choose a value from 0 to 1"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(tiny_model, knobs, message):
    with pytest.raises(MagicStyleError, match=message):
        guider(tiny_model, tiny_model, **{"guidance": "nvqg", "scale": 1.0, **knobs})
    assert StyleGuidanceNode.validate_inputs("magic") == "guidance: 'magic' not in nvqg, spg"

"""Flow-matching transformers: what must hold of every family, on tiny random models of the host's own classes."""

import functools

import comfy.controlnet
import pytest
import torch
from magicstyle.attention_patches.architectures import find
from magicstyle.attention_patches.host import install_fusion, install_start
from magicstyle.attention_patches.placing import Positions
from magicstyle.core.bank import FeatureBank, StyleEntry
from magicstyle.core.bank_file import load_bank, save_bank
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.rotation import moved
from magicstyle.nodes.exact_sampler import exact_sampler
from magicstyle.nodes.inversion_run import invert
from magicstyle.nodes.latent_pair import required_pair
from magicstyle.nodes.samplers import host_sampler
from magicstyle.tests.host.families import FAMILIES, family_latent, family_model, family_prompt, family_sigmas
from magicstyle.tests.host.flow_oracle import KNOBS, RULES, FlowOracle
from magicstyle.tests.host.tiny import run_sampler

NEUTRAL = {"style_weight": 0.0, "content_weight": 0.0, "query_preservation": 0.0, "temperature": 1.0}
ROTARY = [name for name in FAMILIES if find(family_model(name)).rotation is not None]
ADDITIVE = [name for name in FAMILIES if name not in ROTARY]
DIT = [name for name in FAMILIES if FAMILIES[name].dit]
DEEP = [name for name in FAMILIES if FAMILIES[name].deep]
SMALL, STYLE = (8, 12), (8, 16)  # the picture is not square, and the style has another size


@pytest.fixture(scope="module", autouse=True)
def forget_scenes():
    """Models that outlive the host's modules complain."""
    yield
    scene.cache_clear()


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def every(*names):
    return pytest.mark.parametrize("name", names or FAMILIES)


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


# --- identity ------------------------------------------------------------------------------------------------------


@every()
def test_recording_changes_nothing(name):
    latent = content_latent(name)
    every_layer, none = (inverted(name, latent, layers="all", storage=how) for how in ("features", "latents"))
    assert torch.equal(every_layer.noise["samples"], none.noise["samples"])


@every()
def test_a_neutral_setting_is_bit_identical(name):
    content, bank = scene(name)
    plain = sample(starting(name), content, 3.0, *prompts(name))
    assert torch.equal(sample(patched(name, bank, **NEUTRAL), content, 3.0, *prompts(name)), plain)


@every()
def test_own_features_with_whole_queries_give_the_models_own_output(name):
    # in one step, so that the sampler runs on just the latent that was recorded
    content = inverted(name, content_latent(name), layers="all", sigmas=family_sigmas(name, 1))
    own = FeatureBank(content.features, (StyleEntry(content.features),))
    back = sample(patched(name, own, method="styleid", query_preservation=1.0, temperature=1.0), content, 1.0,
                  family_prompt(name))  # fmt: skip
    assert difference(back, sample(starting(name), content, 1.0, family_prompt(name))) <= 1e-5


# --- the method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg, batch, storage", [(1.0, 1, "features"), (3.0, 2, "latents")])
@pytest.mark.parametrize("rule", RULES)
@every()
def test_a_run_equals_the_oracle(name, rule, cfg, batch, storage):
    content, bank = scene(name, batch, storage)
    ours = sample(patched(name, bank, **KNOBS[rule]), content, cfg, *prompts(name))
    expected = FlowOracle(name).stylize(
        content_latent(name, batch=batch), style_latent(name), content.sigmas, RULES[rule], family_prompt(name),
        *prompts(name), cfg,
    )  # fmt: skip
    assert difference(ours, expected) <= 1e-4


@every()
def test_only_chosen_layers_are_fused(name):
    chosen = FAMILIES[name].layers[1::2]
    content, bank = scene(name)
    ours = sample(patched(name, bank, ", ".join(chosen), **KNOBS["ffa"]), content, 1.0, *prompts(name))
    expected = FlowOracle(name, chosen).stylize(
        content_latent(name), style_latent(name), content.sigmas, RULES["ffa"], family_prompt(name), *prompts(name)
    )
    assert difference(ours, expected) <= 1e-4


@every(*[name for name in FAMILIES if FAMILIES[name].references])
def test_reference_latents_keep_their_own_attention(name):
    references = {"reference_latents": [family_latent(name, (6, 4), seed=12)]}
    empty, prompt = family_prompt(name, **references), family_prompt(name, seed=6, **references)
    for storage in ("features", "latents"):
        content = inverted(name, content_latent(name), empty, layers="all", storage=storage)
        style = inverted(name, style_latent(name), empty, layers="all", storage=storage)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, prompt)
        expected = FlowOracle(name).stylize(
            content_latent(name), style_latent(name), content.sigmas, RULES["ffa"],
            empty, prompt,
        )  # fmt: skip
        assert difference(ours, expected) <= 1e-4


@pytest.mark.parametrize("method", FUSIONS)
def test_every_method_paints_on_flux(method):
    content, bank = scene("flux")
    painted = sample(patched("flux", bank, method=method), content, 1.0, *prompts("flux"))
    assert bool(torch.isfinite(painted).all())
    assert difference(painted, sample(starting("flux"), content, 1.0, *prompts("flux"))) > 1e-3


# --- round trips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["simple", "ddim_uniform"])
@every()
def test_an_exact_inversion_returns_the_picture(name, scheduler):
    latent = content_latent(name)
    there = inverted(name, latent, method="exact", sigmas=family_sigmas(name, 4, scheduler))
    back = sample(
        family_model(name), there, 1.0, family_prompt(name), sampler=exact_sampler(required_pair(there.noise))
    )
    assert difference(back, latent) <= 1e-4


@pytest.mark.parametrize("method", ["ddim", "fixed_point", "midpoint"])
@every()
def test_more_steps_bring_the_picture_back_closer(name, method):
    latent, errors = content_latent(name), []
    for steps in (2, 8):
        there = inverted(name, latent, method=method, sigmas=family_sigmas(name, steps), storage="latents")
        sampler = host_sampler(method, there.noise)
        errors.append(difference(sample(starting(name), there, 1.0, family_prompt(name), sampler=sampler), latent))
    assert errors[1] < errors[0]


def test_a_measured_inversion_starts_as_a_patched_model_does():
    latent = content_latent("flux")
    there = inverted("flux", latent, measure=True)
    error = difference(sample(starting("flux"), there, 1.0, family_prompt("flux"), sampler="ddim"), latent)
    assert f"relative error {error:.2g} of the latent" in there.report


@every("flux", "wan", "sd3")
def test_the_start_output_serves_a_model_without_our_patcher(name):
    there = inverted(name, content_latent(name))
    empty = torch.zeros_like(there.noise["samples"])
    noise = there.start.generate_noise({"samples": empty})
    prompt = family_prompt(name)
    plain = run_sampler(family_model(name), empty, there.sigmas, 1.0, prompt, prompt, "euler", noise=noise)
    with_latent = sample(starting(name), there, 1.0, family_prompt(name))
    assert difference(plain, with_latent) <= 1e-6


def test_a_schedule_below_one_gives_the_hosts_own_leftover_latent():
    there = inverted("flux", content_latent("flux"), sigmas=family_sigmas("flux", 4)[1:])
    runs = [sample(model, there, 1.0, family_prompt("flux")) for model in (family_model("flux"), starting("flux"))]
    assert torch.equal(*runs)


# --- positions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["features", "latents"])
@every()
def test_a_caption_of_another_length_changes_nothing_of_what_is_stored(name, storage):
    content, bank = scene(name, 1, storage)
    longer = family_prompt(name, 40, seed=6)
    ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, longer)
    expected = FlowOracle(name).stylize(
        content_latent(name), style_latent(name), content.sigmas, RULES["ffa"], family_prompt(name), longer
    )
    assert difference(ours, expected) <= 1e-5


@pytest.mark.parametrize(
    "name", DEEP or [pytest.param("", marks=pytest.mark.skip(reason="Lumina 2 and Z-Image need ComfyUI 0.5.0"))]
)
def test_stored_keys_follow_the_captions_length(name):
    """The first block's keys of a picture depend on the caption by their place alone."""
    # noising walks through the same latents, whatever the caption
    plan = {"layers": "double.0", "method": "noising"}
    short, long = (inverted(name, style_latent(name), family_prompt(name, count), **plan) for count in (7, 40))
    layer = short.features.header.layers[0]
    keys = [there.features.at(layer, 0, "k").k for there in (short, long)]
    architecture = find(family_model(name))
    deeper = long.features.header.depth - short.features.header.depth
    there = moved(keys[0], architecture.layers[layer].heads, architecture.rotation, (deeper, 0.0, 0.0))
    assert deeper > 0
    assert difference(keys[0], keys[1]) > 0.1
    assert difference(there, keys[1]) <= 1e-5


@pytest.mark.parametrize("mode", ["shift", "untwist"])
@every(*ROTARY)
def test_positions_change_the_picture_and_neutral_ones_do_not(name, mode):
    content, bank = scene(name)
    same = sample(patched(name, bank, **KNOBS["styleid"]), content, 1.0, *prompts(name))
    placed = patched(name, bank, positions=Positions(mode), **KNOBS["styleid"])
    assert difference(sample(placed, content, 1.0, *prompts(name)), same) > 1e-4
    blurred = patched(name, bank, positions=Positions("untwist", 1.0, 1.0), **KNOBS["styleid"])
    assert difference(sample(blurred, content, 1.0, *prompts(name)), same) <= 1e-6


@pytest.mark.parametrize("name", ADDITIVE)
def test_models_without_rotary_positions_refuse_to_move_them(name):
    with pytest.raises(MagicStyleError, match="positions 'shift' moves rotary positions, which a .* does not have"):
        patched(name, scene(name)[1], positions=Positions("shift"))


# --- beside other nodes --------------------------------------------------------------------------------------------


@every(*DIT)
def test_another_nodes_block_patch_stays_in_force(name):
    model, seen = family_model(name), []

    def patch(args, extra):
        seen.append(args["img"].shape)
        return extra["original_block"](args)

    model.set_model_patch_replace(patch, "dit", "double_block", 0)
    content, bank = scene(name)
    ours = sample(patched(name, bank, model=model, **KNOBS["ffa"]), content, 1.0, *prompts(name))
    assert len(seen) == len(content.sigmas) - 1
    assert torch.equal(ours, sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, *prompts(name)))


@pytest.mark.parametrize("order", ["before", "after"])
@every("flux", "z-image" if "z-image" in FAMILIES else "qwen")
def test_another_nodes_override_is_called_in_either_order(name, order):
    calls = []

    def spy(func, *args, **kwargs):
        calls.append(args[0].shape)
        return func(*args, **kwargs)

    content, bank = scene(name)
    model = family_model(name)
    if order == "before":
        model.model_options["transformer_options"]["optimized_attention_override"] = spy
    model = patched(name, bank, model=model, **KNOBS["ffa"])
    if order == "after":
        model.model_options["transformer_options"]["optimized_attention_override"] = spy
    ours = sample(model, content, 1.0, *prompts(name))
    assert len(calls) >= len(FAMILIES[name].calls)
    assert difference(ours, sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, *prompts(name))) <= 1e-6


class Residuals(comfy.controlnet.ControlBase):
    """What a ControlNet gives a transformer: something to add to the picture's tokens behind its blocks."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def get_control(self, *_):
        return {side: [None if part is None else part.clone() for part in parts] for side, parts in self.given.items()}

    def copy(self):
        return Residuals(self.given)


@pytest.mark.parametrize("name, side", [("flux", "input"), ("flux", "output"), ("qwen", "input"), ("sd3", "output")])
def test_a_controlnet_acts_beside_the_fusion(name, side):
    (h, w), width = SMALL, next(iter(find(family_model(name)).layers.values())).width
    added = torch.randn(1, h * w // 4, width, generator=torch.Generator().manual_seed(3))
    given = {"input": [], "output": [], side: [None, added]}
    content, bank = scene(name)
    prompt = family_prompt(name, seed=6, control=Residuals(given), control_apply_to_uncond=False)
    ours = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, prompt, family_prompt(name))
    expected = FlowOracle(name, control=given).stylize(
        content_latent(name), style_latent(name), content.sigmas, RULES["ffa"], *prompts_of(name)
    )
    assert difference(ours, expected) <= 1e-4
    assert difference(ours, sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, *prompts(name))) > 1e-3


def prompts_of(name):
    """The prompts of the inversions and of sampling."""
    return family_prompt(name), family_prompt(name, seed=6)


@pytest.mark.parametrize("storage", ["features", "latents"])
@every("flux", "sd3", "wan")
def test_a_lora_counts_in_sampling(name, storage):
    model = family_model(name)
    key = next(k for k in model.model.state_dict() if k.endswith("weight") and model.model.state_dict()[k].ndim == 2)
    weight = model.model.state_dict()[key]
    model.add_patches({key: ("diff", (0.2 * weight.clone(),))}, 1.0)
    content, bank = scene(name, 1, storage)
    with_lora = sample(patched(name, bank, model=model, **KNOBS["ffa"]), content, 1.0, *prompts(name))
    without = sample(patched(name, bank, **KNOBS["ffa"]), content, 1.0, *prompts(name))
    assert difference(with_lora, without) > 1e-4


# --- defaults and failures -----------------------------------------------------------------------------------------


@every()
def test_the_nodes_defaults_work(name):
    content = inverted(name, content_latent(name), layers="auto", storage="auto", precision="auto")
    style = inverted(name, style_latent(name), layers="auto", storage="auto", precision="auto")
    assert content.features.representation == "latents"
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    painted = sample(patched(name, bank, "auto"), content, 1.0, *prompts(name))
    assert difference(painted, sample(starting(name), content, 1.0, *prompts(name))) > 1e-3


@every()
def test_a_wrong_layer_is_refused_with_this_models_range(name):
    last = FAMILIES[name].layers[-1].split(".")
    with pytest.raises(MagicStyleError, match=rf"'output.3-11' is not a layer; .*{last[0]}\.0-{last[1]}"):
        inverted(name, content_latent(name), layers="output.3-11")


@every()
def test_a_latent_of_another_autoencoder_is_refused(name):
    with pytest.raises(MagicStyleError, match="latent has 7 channels but the model takes"):
        inverted(name, family_latent(name, SMALL)[:, :1].repeat(1, 7, *(1,) * (family_latent(name).ndim - 2)))


def test_a_bank_of_another_family_is_refused():
    with pytest.raises(MagicStyleError, match=r"another model \(Flux\) than the one to patch \(SD3\)"):
        patched("sd3", scene("flux")[1])


def test_a_guidance_of_the_prompt_is_left_out_of_the_inversion():
    latent = content_latent("flux")
    strong = inverted("flux", latent, family_prompt("flux", guidance=3.5))
    plain = inverted("flux", latent)
    assert torch.equal(strong.noise["samples"], plain.noise["samples"])
    assert "left out of the inversion: the guidance of 3.5" in strong.report
    assert "left out" not in plain.report


def test_a_denoise_below_one_starts_from_the_latent_and_noise_as_ever():
    content, bank = scene("flux")
    sigmas, latent = content.sigmas[1:], content_latent("flux")
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))
    neutral = patched("flux", bank, **NEUTRAL)
    runs = [
        run_sampler(m, latent, sigmas, 1.0, *prompts("flux"), "euler", noise=noise)
        for m in (neutral, family_model("flux"))
    ]
    assert torch.equal(*runs)


def test_an_area_is_refused_where_places_are_rotary():
    content, bank = scene("flux")
    area = family_prompt("flux", area=(4, 4, 0, 0))
    with pytest.raises(MagicStyleError, match="a prompt is limited to an area"):
        sample(patched("flux", bank), content, 1.0, area)


def test_noise_is_white_in_the_report():
    assert "expected 1" in inverted("flux", content_latent("flux")).report


def test_an_unknown_transformer_is_refused_with_what_is_supported():
    class HiDream(torch.nn.Module):
        pass

    model = family_model("flux")
    model.add_object_patch("diffusion_model", HiDream())
    with pytest.raises(MagicStyleError, match="model is a HiDream, whose attention is not known here: .*Flux.*Wan"):
        inverted("flux", content_latent("flux"), model=model)


@pytest.mark.parametrize("storage", ["features", "latents"])
@every("flux", "qwen", *DEEP[:1])
def test_a_saved_bank_gives_the_same_picture(name, storage, tmp_path):
    content, bank = scene(name, 1, storage)
    save_bank(bank, tmp_path / "bank.safetensors")
    loaded = load_bank(tmp_path / "bank.safetensors")
    runs = [sample(patched(name, b, **KNOBS["ffa"]), content, 1.0, *prompts(name)) for b in (bank, loaded)]
    assert difference(*runs) <= 1e-6


@every()
def test_noising_lies_on_the_line_between_picture_and_noise(name):
    there = inverted(name, content_latent(name), method="noising", layers="all", sigmas=family_sigmas(name, 4)[1:])
    model, sigma = family_model(name).model, float(there.sigmas[0])
    x = (1.0 - sigma) * model.process_latent_in(there.noise["samples"])
    clean = model.process_latent_in(content_latent(name))
    noise = (x - (1.0 - sigma) * clean) / sigma
    assert abs(float(noise.mean())) < 0.2
    assert abs(float(noise.std()) - 1.0) < 0.1

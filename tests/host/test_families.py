"""Flow-matching transformers: what must hold of every family, on tiny random models of the host's own classes."""

import pytest
import torch
from einops import rearrange
from magicstyle.attention_patches.architectures import find
from magicstyle.attention_patches.placing import Positions
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.bank_file import load_bank, save_bank
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.rotation import moved
from magicstyle.nodes.attention_look import regions_from_words
from magicstyle.nodes.exact_sampler import exact_sampler
from magicstyle.nodes.inversion.latent_pair import required_pair
from magicstyle.nodes.samplers import host_sampler
from magicstyle.tests.host.families import FAMILIES, family_latent, family_model, family_prompt, family_sigmas
from magicstyle.tests.host.family_scene import (
    SMALL,
    STYLE,
    content_latent,
    difference,
    every,
    inverted,
    patched,
    prompts,
    sample,
    scene,
    starting,
    style_latent,
)
from magicstyle.tests.host.flow_oracle import FlowOracle
from magicstyle.tests.host.flow_rules import KNOBS
from magicstyle.tests.host.tiny import run_sampler

NEUTRAL = {"style_weight": 0.0, "content_weight": 0.0, "query_preservation": 0.0, "temperature": 1.0}
ROTARY = [name for name in FAMILIES if find(family_model(name)).rotation is not None]
ADDITIVE = [name for name in FAMILIES if name not in ROTARY]
DEEP = [name for name in FAMILIES if FAMILIES[name].deep]


@pytest.fixture(scope="module", autouse=True)
def forget_scenes():
    """Models that outlive the host's modules complain."""
    yield
    scene.cache_clear()


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


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
@every(alike=True)
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


@every(*DEEP)
def test_stored_keys_follow_the_captions_length(name):
    """The first block's keys of a picture depend on the caption by their place alone."""
    # noising walks through the same latents, whatever the caption
    plan = {"layers": "double.0", "method": "noising"}
    short, long = (inverted(name, style_latent(name), family_prompt(name, count), **plan) for count in (7, 40))
    layer = short.features.header.layers[0]
    keys = [there.features.at(layer, 0, "k").k for there in (short, long)]
    architecture = find(family_model(name))
    depths = short.features.header.depth, long.features.header.depth
    deeper = [after - before for before, after in zip(*depths, strict=True)]
    assert [axis for axis, steps in enumerate(deeper) if steps > 0] == list(FAMILIES[name].deep)
    deeper += [0.0] * (3 - len(deeper))
    there = moved(keys[0], architecture.layers[layer].heads, architecture.rotation, deeper)
    assert difference(keys[0], keys[1]) > 0.1
    assert difference(there, keys[1]) <= 1e-5


@every(*ROTARY)
def test_a_place_turns_a_key_as_the_host_turns_it(name):
    """In a picture of one colour the first block's keys differ by their places alone."""
    architecture, layer = find(family_model(name)), FAMILIES[name].layers[0]
    latent = style_latent(name)
    plain = latent.mean((-2, -1), keepdim=True).expand(latent.shape)
    features = FlowOracle(name).velocity(plain, torch.tensor(0.5), family_prompt(name))[1][layer]
    keys = rearrange(features[1], "b h n d -> b n (h d)")
    (h, w), heads = next(iter(architecture.grids(STYLE).values())), features[1].shape[1]
    rows, columns = architecture.rotation.picture
    for y, x in ((0, 1), (1, 0), (h - 1, w - 1)):
        delta = [0.0] * len(architecture.rotation.widths)
        delta[rows], delta[columns] = y, x
        there = moved(keys[:, :1], heads, architecture.rotation, delta)
        found = keys[:, y * w + x : y * w + x + 1]
        assert difference(there, found) <= (
            1e-3 if name == "ideogram" else 1e-5
        )  # which counts from 65536, in single precision
        assert difference(keys[:, :1], found) > 1e-2


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


@every("flux", "sd3", "chroma")
def test_a_latent_of_a_film_models_autoencoder_is_refused(name):
    """Qwen-Image's has as many channels as Flux's."""
    with pytest.raises(MagicStyleError, match="latent comes from the VAE of a model of films, .*"):
        inverted(name, family_latent("qwen", SMALL))


@every(*[name for name in FAMILIES if name not in ("flux", "flux schnell")])
def test_a_bank_of_another_family_is_refused(name):
    """Schnell has the blocks of dev: its bank is that of another checkpoint, not of another family."""
    with pytest.raises(MagicStyleError, match=r"another model \(Flux\) than the one to patch"):
        patched(name, scene("flux")[1])


def test_a_guidance_of_the_prompt_is_left_out_of_the_inversion():
    latent = content_latent("flux")
    strong = inverted("flux", latent, family_prompt("flux", guidance=3.5))
    plain = inverted("flux", latent)
    assert torch.equal(strong.noise["samples"], plain.noise["samples"])
    assert "left out of the inversion: the guidance of 3.5" in strong.report
    assert "left out" not in plain.report


def test_an_area_is_refused_where_places_are_rotary():
    content, bank = scene("flux")
    area = family_prompt("flux", area=(4, 4, 0, 0))
    with pytest.raises(MagicStyleError, match="a prompt is limited to an area"):
        sample(patched("flux", bank), content, 1.0, area)


def test_noise_is_white_in_the_report():
    assert "expected 1" in inverted("flux", content_latent("flux")).report


@every()
def test_a_resnet_is_not_looked_for_where_there_is_none(name):
    with pytest.raises(
        MagicStyleError, match="roles is 'all and ResNet', but this model has no ResNet .*: set roles to all"
    ):
        inverted(name, content_latent(name), roles="all and ResNet")


@every()
def test_words_are_found_by_a_unets_cross_attention_alone(name):
    with pytest.raises(MagicStyleError, match="words are found by the cross-attention of a Stable Diffusion"):
        regions_from_words(family_model(name), None, {"samples": content_latent(name)}, "hair", "", 0.5, 0.5, 0)


def test_an_unknown_transformer_is_refused_with_what_is_supported():
    class PixArt(torch.nn.Module):
        pass

    model = family_model("flux")
    model.add_object_patch("diffusion_model", PixArt())
    with pytest.raises(MagicStyleError, match="model is a PixArt, whose attention is not known here: .*Flux.*Wan"):
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
    kept = 1.0 - sigma if FAMILIES[name].flow else 1.0
    x = kept * model.process_latent_in(there.noise["samples"])
    clean = model.process_latent_in(content_latent(name))
    noise = (x - kept * clean) / sigma
    assert abs(float(noise.mean())) < 0.2
    assert abs(float(noise.std()) - 1.0) < 0.1


@every()
def test_noising_keeps_the_features_of_the_picture_with_one_noise_at_every_level(name):
    """Of any model: what the bare network makes of the line between the picture and that noise."""
    there = inverted(name, style_latent(name), method="noising", layers="all", sigmas=family_sigmas(name, 3)[1:])
    model, first, oracle = family_model(name).model, float(there.sigmas[0]), FlowOracle(name)
    kept = 1.0 - first if FAMILIES[name].flow else 1.0
    clean = model.process_latent_in(style_latent(name))
    noise = (kept * model.process_latent_in(there.noise["samples"]) - kept * clean) / first
    for step, sigma in enumerate(there.sigmas[:-1]):
        share = 1.0 - sigma if FAMILIES[name].flow else 1.0
        of_oracle = oracle.velocity(share * clean + sigma * noise, sigma, family_prompt(name))[1]
        for layer in there.features.header.layers:
            found = there.features.at(layer, step, "qkv")
            for role, expected in zip("qkv", of_oracle[str(layer)], strict=True):
                assert difference(getattr(found, role), rearrange(expected, "b h n d -> b n (h d)")) <= 1e-4


@pytest.mark.parametrize("name", ["flux", "hunyuan"])
def test_a_guidance_that_the_host_gives_by_itself_is_known(name):
    ((text, carried),), latent = family_prompt(name), style_latent(name)
    silent = {key: value for key, value in carried.items() if key != "guidance"}
    given = family_model(name).model.extra_conds(cross_attn=text, noise=latent, device=latent.device, **silent)
    assert float(given["guidance"].cond) == find(family_model(name)).host_guidance

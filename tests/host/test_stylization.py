"""What must hold, in a real ComfyUI, on a miniature SD1.5."""

import copy
import functools
import logging
import math
from contextlib import suppress

import comfy.ldm.modules.attention as host_attention
import comfy.model_management
import comfy.samplers
import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.inversion import run as inversion_run
from magicstyle.tests.core.oracle import styleid
from magicstyle.tests.host.fusion_oracle import stylize
from magicstyle.tests.host.scene import NEUTRAL, SCALE, difference, inversion, patch, picture, sample, scene
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_sigmas


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def smooth_in_time(model):
    """Silence the fast channels of the timestep embedding: random weights read them as noise from step to step."""
    embed = model.model.diffusion_model.time_embed[0]
    half = embed.weight.shape[1] // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half) / half).repeat(2)
    patched = model.clone()
    patched.add_object_patch(
        "diffusion_model.time_embed.0.weight",
        torch.nn.Parameter(embed.weight * (frequency < 0.002), requires_grad=False),
    )
    return patched


# --- identity and cleanliness --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [1.0, 7.0])
def test_a_neutral_setting_is_bit_identical(tiny_model, cfg):
    content, bank = scene(tiny_model)
    assert torch.equal(sample(patch(tiny_model, bank, **NEUTRAL), content, cfg), sample(tiny_model, content, cfg))


def test_a_patch_with_no_step_in_range_is_bit_identical(tiny_model):
    content, bank = scene(tiny_model)
    patched = patch(tiny_model, bank, start=0.9995, end=1.0)
    assert torch.equal(sample(patched, content), sample(tiny_model, content))


def test_a_window_acts_only_inside(tiny_model):
    content, bank = scene(tiny_model)
    early, late = (patch(tiny_model, bank, start=s, end=e) for s, e in ((0.0, 0.5), (0.5, 1.0)))
    states = {}
    for name, model in (("plain", tiny_model), ("early", early), ("late", late)):
        states[name] = []
        sample(model, content, callback=lambda i, x0, x, n, name=name: states[name].append(x0.clone()))
    assert difference(states["early"][0], states["plain"][0]) > 1e-3
    assert torch.equal(states["late"][0], states["plain"][0])
    assert difference(states["late"][-1], states["plain"][-1]) > 1e-4


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [None, Stop, comfy.model_management.InterruptProcessingException])
def test_the_input_model_is_untouched_also_after_an_error_or_an_interrupt(tiny_model, error):
    content, bank = scene(tiny_model)
    plain = sample(tiny_model, content)
    before = repr(tiny_model.model_options), {key: dict(value) for key, value in tiny_model.wrappers.items()}
    patched = patch(tiny_model, bank)

    def callback(step, *_):
        if error is not None and step == 2:
            raise error

    with suppress(Stop, comfy.model_management.InterruptProcessingException):
        sample(patched, content, callback=callback)
    assert before == (repr(tiny_model.model_options), {key: dict(value) for key, value in tiny_model.wrappers.items()})
    assert torch.equal(sample(tiny_model, content), plain)
    assert difference(sample(patched, content), plain) > 1e-3


def test_capture_is_invisible(tiny_model):
    samples = picture()
    captured, plain = (inversion(tiny_model, samples, layers=layers) for layers in ("all", "output.11"))
    assert torch.equal(captured.noise["samples"], plain.noise["samples"])


def test_an_interrupted_inversion_leaves_the_model_clean_and_runs_again(tiny_model, monkeypatch):
    expected = inversion(tiny_model, picture())
    prepare = inversion_run.latent_preview.prepare_callback

    def interrupting(model, steps, *args):
        def callback(step, *_):
            if step == 2:
                raise comfy.model_management.InterruptProcessingException

        return callback

    monkeypatch.setattr(inversion_run.latent_preview, "prepare_callback", interrupting)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        inversion(tiny_model, picture())
    monkeypatch.setattr(inversion_run.latent_preview, "prepare_callback", prepare)
    assert torch.equal(inversion(tiny_model, picture()).noise["samples"], expected.noise["samples"])


# --- the method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g, tau", [(0.75, 1.5), (0.3, 1.0)])
def test_styleid_equals_an_independent_implementation(tiny_model, g, tau):
    content, bank = scene(tiny_model)
    ours = sample(patch(tiny_model, bank, method="styleid", query_preservation=g, temperature=tau), content)
    context = tiny_conditioning()[0][0]
    model = tiny_model.model
    rule = functools.partial(styleid, gamma=g, tau=tau)
    theirs = stylize(model, picture() * SCALE, picture(seed=9) * SCALE, tiny_sigmas(tiny_model, 5), context, rule)
    assert difference(ours * SCALE, theirs) <= 1e-4
    assert difference(sample(tiny_model, content) * SCALE, theirs) > 1e-2


def test_styling_a_picture_with_itself_gives_its_reconstruction(tiny_model):
    """What remains is below the inversion's own error: the running stream strays from the stored one by just that."""
    model, samples = smooth_in_time(tiny_model), picture()
    content, foreign = scene(model, steps=40)
    own = FeatureBank(content.features, (StyleEntry(content.features),))
    plain = sample(model, content)
    ours, theirs = (sample(patch(model, bank, temperature=1.0), content) for bank in (own, foreign))
    assert (ours - plain).norm() < (plain - samples).norm()
    assert difference(ours, plain) < difference(theirs, plain) / 3


@pytest.mark.parametrize("each", [(10, 40), pytest.param((50, 200), marks=pytest.mark.long)])
def test_inversion_then_sampling_converges_to_the_input_at_least_at_first_order(tiny_model, each):
    model, samples, errors = smooth_in_time(tiny_model), picture(), []
    for steps in each:
        content = inversion(model, samples, steps, layers="output.11")
        moved = (content.noise["samples"] - samples).norm()
        errors.append(float((sample(model, content) - samples).norm() / moved))
    assert errors[1] < errors[0] / 2, errors


def test_every_level_that_sampling_evaluates_has_features(tiny_model):
    content, bank = scene(tiny_model, steps=8)
    visited = []

    def spy(executor, *args, **kwargs):
        visited.append(float(args[1][0]))
        return executor(*args, **kwargs)

    model = patch(tiny_model, bank)
    model.add_wrapper_with_key("apply_model", "spy", spy)
    sample(model, content)
    assert len(visited) == 8
    for features in bank:
        assert [features.nearest(sigma).step for sigma in visited] == list(range(8))
        assert max(features.nearest(sigma).distance for sigma in visited) < 1e-6


@pytest.mark.parametrize(
    "schedule", [("ddim_uniform", 9), ("karras", 5), ("tail of", 12)], ids=["steps", "scheduler", "denoise"]
)
def test_another_schedule_is_served_by_the_nearest_level_with_one_warning(tiny_model, caplog, schedule):
    content, bank = scene(tiny_model)
    name, steps = schedule
    sigmas = (
        tiny_sigmas(tiny_model, steps, "normal")[-5:] if name == "tail of" else tiny_sigmas(tiny_model, steps, name)
    )
    arguments = (content.noise["samples"], sigmas, 1.0, tiny_conditioning())
    with caplog.at_level(logging.WARNING, "magicstyle"):
        ours = run_sampler(patch(tiny_model, bank), *arguments)
    assert len([r for r in caplog.records if r.name == "magicstyle"]) == 1
    assert "nearest" in caplog.text
    assert difference(ours, run_sampler(tiny_model, *arguments)) > 1e-3


def test_the_inversions_own_schedule_is_silent(tiny_model, caplog):
    content, bank = scene(tiny_model)
    with caplog.at_level(logging.WARNING, "magicstyle"):
        sample(patch(tiny_model, bank), content)
    assert not [r for r in caplog.records if r.name == "magicstyle"]


# --- other people's patches ----------------------------------------------------------------------------------------


def foreign_override(calls):
    def override(func, q, k, v, *args, **kwargs):
        calls.append(k.shape)
        return func(q, k, v, *args, **kwargs)

    return override


@pytest.mark.parametrize("order", ["before", "after"])
def test_another_nodes_override_is_still_called_for_every_attention(tiny_model, order):
    content, bank = scene(tiny_model)
    expected = sample(patch(tiny_model, bank), content)
    calls = []
    model = tiny_model.clone() if order == "before" else patch(tiny_model, bank)
    model.model_options["transformer_options"]["optimized_attention_override"] = foreign_override(calls)
    model = patch(model, bank) if order == "before" else model
    result = sample(model, content)
    assert len(calls) == 32 * 5  # self and cross, 16 blocks, 6 model calls
    assert difference(result, expected) < 1e-4
    assert difference(result, sample(tiny_model, content)) > 1e-3


def test_a_fused_call_reaches_the_hosts_attention_function_once(tiny_model, monkeypatch):
    content, bank = scene(tiny_model)
    seen = []
    original = host_attention.optimized_attention
    monkeypatch.setattr(host_attention, "optimized_attention", lambda *a, **k: seen.append(1) or original(*a, **k))
    sample(patch(tiny_model, bank), content)
    assert len(seen) == 32 * 5


def test_cloning_the_patched_model_does_not_copy_the_bank(tiny_model):
    content, bank = scene(tiny_model)
    patched = patch(tiny_model, bank)
    twice = patched.clone().clone()
    assert torch.equal(sample(twice, content), sample(patched, content))
    assert "Tensor" not in repr(patched.model_options) and len(repr(patched.model_options)) < 2000


# --- batches, prompts, sizes ---------------------------------------------------------------------------------------


def test_a_batch_of_three_equals_three_single_runs(tiny_model):
    content, bank = scene(tiny_model, batch=3)
    batch = sample(patch(tiny_model, bank), content)
    for row in range(3):
        one = inversion(tiny_model, picture(batch=3)[[row]])
        single = sample(patch(tiny_model, FeatureBank(one.features, bank.styles)), one)
        assert difference(batch[[row]], single) < 1e-3


@pytest.mark.parametrize("negative_tokens", [77, 154, 100], ids=["joined", "multiple", "split"])
def test_cfg_with_a_negative_prompt_of_any_length(tiny_model, negative_tokens):
    """The rows of both prompts are fused, whether the host joins them into one batch or not."""
    content, bank = scene(tiny_model, batch=3)
    positive, negative = tiny_conditioning(seed=5), tiny_conditioning(negative_tokens, seed=4)
    guided = sample(patch(tiny_model, bank), content, 7.0, positive, negative)
    alone = [sample(patch(tiny_model, bank), content, 1.0, prompt, prompt) for prompt in (positive, negative)]
    assert guided.shape == content.noise["samples"].shape and torch.isfinite(guided).all()
    assert difference(guided, sample(tiny_model, content, 7.0, positive, negative)) > 1e-2
    assert all(difference(guided, single) > 1e-3 for single in alone)


def test_joined_and_split_batches_give_the_same(tiny_model, monkeypatch):
    content, bank = scene(tiny_model)
    prompts = tiny_conditioning(seed=5), tiny_conditioning(seed=4)
    joined = sample(patch(tiny_model, bank), content, 5.0, *prompts)
    monkeypatch.setattr(type(tiny_model.model), "memory_required", lambda *_, **__: 1e30)
    split = sample(patch(tiny_model, bank), content, 5.0, *prompts)
    assert difference(split, joined) < 1e-3


def test_a_grid_of_77_tokens_is_not_taken_for_a_prompt(tiny_model):
    """56x88 pixels: the finest blocks have 7 x 11 = 77 tokens, as many as the prompt."""
    content, bank = scene(tiny_model, 7, 11, style=(16, 16), steps=2, layers="output.9-11")
    patched = sample(patch(tiny_model, bank, "output.9-11"), content)
    plain = sample(tiny_model, content)
    assert difference(patched, plain) > 1e-3
    assert torch.equal(sample(patch(tiny_model, bank, "output.9-11", **NEUTRAL), content), plain)


@pytest.mark.parametrize("size", [(17, 23), (9, 15), (8, 31)])
def test_odd_latents_and_a_style_of_another_shape(tiny_model, size):
    content, bank = scene(tiny_model, *size, style=(13, 10), layers="output.3-11", steps=3)
    result = sample(patch(tiny_model, bank, "output.3-11"), content)
    assert result.shape[2:] == size and torch.isfinite(result).all()
    assert difference(result, sample(tiny_model, content)) > 1e-3


def test_features_in_half_precision_are_close_to_single(tiny_model):
    content, bank = scene(tiny_model)
    _, half = scene(tiny_model, precision="fp16")
    assert half.nbytes * 2 == bank.nbytes
    assert difference(sample(patch(tiny_model, half), content), sample(patch(tiny_model, bank), content)) < 5e-3


def test_ksampler_takes_the_noise_as_it_is(tiny_model):
    """KSamplerAdvanced with add_noise disabled and the same scheduler samples the same picture."""
    content, bank = scene(tiny_model)
    patched = patch(tiny_model, bank)
    noise = content.noise["samples"]
    sampler = comfy.samplers.KSampler(patched, 5, "cpu", "ddim", "ddim_uniform", model_options=patched.model_options)
    prompt = tiny_conditioning()
    result = sampler.sample(torch.zeros_like(noise), prompt, prompt, 1.0, noise, disable_pbar=True, seed=0)
    assert difference(result, sample(patched, content)) < 1e-5


# --- bad input -----------------------------------------------------------------------------------------------------


def sigmas_of(*values):
    return torch.tensor(values)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"samples": torch.zeros(1, 4, 8, 8)}, r"latent is empty \(all zeros\): connect a VAEEncode"),
        ({"samples": torch.ones(1, 16, 8, 8)}, "latent has 16 channels but the model takes 4"),
        ({"samples": torch.ones(1, 4, 2, 8, 8)}, "latent holds 2 frames, and films are .* Wan"),
        ({"samples": torch.full((1, 4, 8, 8), float("nan"))}, "latent holds NaN"),
        ({"layers": "decoder.3"}, r"layers: 'decoder\.3' is not a layer.*output\.3-11"),
        ({"layers": "output.1"}, r"layers: 'output\.1' selects no self-attention layer"),
        ({"sigmas": sigmas_of(0.1, 5.0, 9.0)}, "sigmas holds 3 values that do not descend"),
        ({"sigmas": sigmas_of()}, "sigmas holds 0 values"),
        ({"conditioning": tiny_conditioning() * 2}, "conditioning holds 2 prompts"),
    ],
)
def test_bad_inversion_input_is_refused_in_one_sentence_before_the_model_runs(tiny_model, monkeypatch, change, message):
    monkeypatch.setattr(inversion_run, "_walk", lambda *_: pytest.fail("sampling began"))
    arguments = {"samples": picture(), **change}
    with pytest.raises(MagicStyleError, match=message) as error:
        inversion(tiny_model, **arguments)
    assert "\n" not in str(error.value)


def test_a_flow_matching_model_is_refused(tiny_model):
    _, bank = scene(tiny_model)

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    flow = tiny_model.clone()
    flow.add_object_patch("model_sampling", Flow())
    for use in (lambda: inversion(flow, picture()), lambda: patch(flow, bank)):
        with pytest.raises(MagicStyleError, match=r"samples by flow matching, which its network was not made for"):
            use()


def test_a_model_without_a_unet_is_refused(tiny_model):
    other = tiny_model.clone()
    other.add_object_patch("diffusion_model", torch.nn.Linear(2, 2))
    with pytest.raises(MagicStyleError, match="model is a Linear, whose attention is not known here: load"):
        inversion(other, picture())


@pytest.mark.parametrize(
    "latent, message",
    [
        (picture(16, 12), r"latent_image is 12x16 latent pixels but the content was inverted at 12x8"),
        (picture(8, 16), r"latent_image is 16x8 latent pixels but the content was inverted at 12x8"),
        (picture(8, 12), None),
    ],
)
def test_sampling_at_another_size_is_refused_before_sampling(tiny_model, latent, message):
    content, bank = scene(tiny_model)
    model, visited = patch(tiny_model, bank), []
    model.add_wrapper_with_key("apply_model", "spy", lambda executor, *a, **k: visited.append(1) or executor(*a, **k))
    if message is None:
        run_sampler(model, latent, content.sigmas)
        assert visited
        return
    with pytest.raises(MagicStyleError, match=message):
        run_sampler(model, latent, content.sigmas)
    assert not visited


def test_more_content_pictures_than_sampled_ones_are_refused(tiny_model):
    content, bank = scene(tiny_model, batch=3)
    with pytest.raises(MagicStyleError, match="latent_image holds 1 pictures but the content features hold 3"):
        run_sampler(patch(tiny_model, bank), picture(), content.sigmas)


def test_layers_that_were_not_stored_are_named(tiny_model):
    _, bank = scene(tiny_model)
    with pytest.raises(
        MagicStyleError, match=r"layers 'output.3-11' includes output\.3\.0, output\.4\.0, output\.5\.0"
    ):
        patch(tiny_model, bank, "output.3-11")


def test_features_from_another_model_of_the_same_class_are_refused(tiny_model):
    _, bank = scene(tiny_model)
    other = tiny_model.clone()
    without_middle = copy.copy(tiny_model.model.diffusion_model)
    without_middle._modules = {**without_middle._modules, "middle_block": None}
    other.add_object_patch("diffusion_model", without_middle)
    with pytest.raises(MagicStyleError, match=r"bank holds features of another model \(BaseModel\)"):
        patch(other, bank)


def test_features_from_another_model_are_refused(tiny_model):
    _, bank = scene(tiny_model)
    other = tiny_model.clone()
    other.model = type("SDXL", (), {"__getattr__": lambda self, name: getattr(tiny_model.model, name)})()
    with pytest.raises(MagicStyleError, match=r"bank holds features of another model \(BaseModel\).*patch \(SDXL\)"):
        patch(other, bank)


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_guidance_on_the_inversion_model_is_left_out_and_reported(tiny_model, storage):
    expected = inversion(tiny_model, picture(), storage=storage)
    _, bank = scene(tiny_model)
    guided = patch(tiny_model, bank)
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 3, disable_cfg1_optimization=True)
    guided.set_model_sampler_cfg_function(lambda args: args["cond"] * 2)
    result = inversion(guided, picture(), storage=storage)
    assert torch.equal(result.noise["samples"], expected.noise["samples"])
    assert (
        "left out of the inversion: CFG function, post-CFG functions, forced CFG pass, FFA Model Patcher"
        in result.report
    )
    assert "left out" not in expected.report


def test_self_attention_patches_on_the_inversion_model_are_left_out_and_reported(tiny_model):
    expected = inversion(tiny_model, picture())
    merging = tiny_model.clone()
    merging.set_model_attn1_patch(lambda n, context, value, extra: (n[:, ::2], context, value))
    merging.set_model_attn1_output_patch(lambda n, extra: n.repeat_interleave(2, dim=1))
    merging.set_model_attn1_replace(lambda q, k, v, extra: v, "output", 7)
    result = inversion(merging, picture())
    assert torch.equal(result.noise["samples"], expected.noise["samples"])
    assert "left out of the inversion: self-attention patches" in result.report
    assert merging.model_options["transformer_options"]["patches"]["attn1_patch"]


def test_the_report_is_worth_reading(tiny_model):
    report = inversion(tiny_model, picture()).report
    for part in ("5 steps, 6 model calls", "sigma 0.0413 to", "output.6-11", "12x8", "KiB in memory", "expected 1"):
        assert part in report, report

"""The inversion methods in a real ComfyUI: through the nodes' functions, with the host's samplers."""

import logging

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.bank_file import load_bank, save_bank
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.inversion import ROWS_AT_ONCE, fixed_noise
from magicstyle.core.inversion_methods import INVERSIONS, SAMPLERS
from magicstyle.core.midpoint import middles
from magicstyle.nodes.demo_model import DEMO_CONTENT, host_model, host_vae, read_demo_file, read_image
from magicstyle.nodes.exact_sampler import ExactSampler
from magicstyle.nodes.files import _stored_noise
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.nodes.inversion.latent_pair import KEY
from magicstyle.nodes.inversion.run import invert
from magicstyle.nodes.midpoint_sampler import MidpointSampler
from magicstyle.nodes.samplers import HOST_SAMPLERS, host_sampler
from magicstyle.tests.host.scene import difference, own_lines, patch, picture, sample
from magicstyle.tests.host.test_storage import inversion
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def demo():
    """The demo model, its latent of the shipped portrait, and its prompt."""
    with torch.inference_mode():
        file = read_demo_file()
        latent = host_vae(file).encode(read_image(DEMO_CONTENT))
        return host_model(file), latent, [[file.prompt, {}]]


def invert_demo(demo, **more):
    model, latent, prompt = demo
    arguments = {"steps": 10, "scheduler": "ddim_uniform", "layers": "output.2-3", "precision": "fp32", **more}
    return invert("content", model, {"samples": latent}, prompt, **arguments)


def sampled_back(demo, found, sampler="ddim", **more):
    model, _, prompt = demo
    return run_sampler(model, found.noise["samples"], found.sigmas, 1.0, prompt, prompt, sampler, **more)


def exact(latent):
    return ExactSampler.execute(latent).result[0]


@pytest.mark.long
@pytest.mark.parametrize("steps", [10, 20])
def test_fixed_point_halves_the_error_of_plain_inversion_on_the_demo_model(demo, steps):
    _, latent, _ = demo
    error = {}
    for method in ("ddim", "fixed_point"):
        found = invert_demo(demo, steps=steps, method=method)
        error[method] = difference(sampled_back(demo, found), latent)
        assert found.features.header.method == method
    assert error["fixed_point"] < error["ddim"] / 2


def test_exact_returns_the_latent_through_the_hosts_sampling(demo):
    _, latent, _ = demo
    found = invert_demo(demo, steps=20, method="exact")
    assert difference(sampled_back(demo, found, exact(found.noise)), latent) <= 1e-4
    assert difference(sampled_back(demo, found), latent) > 1e-2  # the plain sampler does not know of the pair


def test_midpoint_returns_much_nearer_than_ddim_and_fixed_point_for_the_same_calls(demo):
    _, latent, _ = demo
    error = {}
    for method, steps in (("ddim", 20), ("fixed_point", 7), ("midpoint", 20)):
        found = invert_demo(demo, steps=steps, method=method)
        error[method] = difference(sampled_back(demo, found, host_sampler(method, found.noise)), latent)
    assert error["midpoint"] < error["fixed_point"] / 3 and error["midpoint"] < error["ddim"] / 10, error


def test_midpoint_sampler_finds_what_its_inversion_recorded_and_ddim_is_told_that_it_does_not(tiny_model, caplog):
    found, calls = inversion(tiny_model, picture(), "features", method="midpoint"), []
    assert "Midpoint inversion of the content: 5 steps, 6 model calls" in found.report
    assert list(found.features.header.sigmas) == middles(found.sigmas).tolist()
    fused = patch(tiny_model, FeatureBank(found.features, (StyleEntry(found.features),)))
    counting = tiny_model.model.diffusion_model.register_forward_hook(lambda *_: calls.append(1))
    with caplog.at_level(logging.WARNING, logger="magicstyle"):
        sample(fused, found, sampler=MidpointSampler.execute().result[0])
        counting.remove()
        assert not own_lines(caplog) and len(calls) == 6
        sample(fused, found, sampler="ddim")
    assert "away from the nearest of the 5 inverted noise levels" in caplog.text


def test_every_inversion_method_has_a_sampler_in_core_and_in_the_host():
    assert {way.sampler for way in INVERSIONS.values()} <= SAMPLERS.keys() == HOST_SAMPLERS.keys()


@pytest.mark.parametrize("method", INVERSIONS)
def test_latents_and_features_give_the_same_picture_with_every_method(tiny_model, method):
    results = []
    for storage in ("features", "latents"):
        content = inversion(tiny_model, picture(batch=2), storage, method=method)
        style = inversion(tiny_model, picture(10, 7, seed=9), storage, method=method)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        assert bank.content.header.method == method
        sampler = host_sampler(method, content.noise)
        results.append(sample(patch(tiny_model, bank), content, sampler=sampler))
    assert difference(*results) <= 1e-4
    assert difference(results[0], sample(tiny_model, content, sampler=sampler)) > 1e-3


def test_noising_shares_model_calls_and_keeps_what_each_level_alone_gives(tiny_model, monkeypatch):
    together = inversion(tiny_model, picture(), "features", method="noising")
    assert "5 steps, 2 model calls" in together.report and "Noising" in together.report
    monkeypatch.setattr("magicstyle.core.inversion.ROWS_AT_ONCE", 1)
    alone = inversion(tiny_model, picture(), "features", method="noising")
    assert "5 steps, 5 model calls" in alone.report
    assert ROWS_AT_ONCE > 1
    for name, stack in together.features.tensors.items():
        assert stack.shape == alone.features.tensors[name].shape
        assert difference(stack, alone.features.tensors[name]) < 1e-4, name
    noise = together.noise["samples"]
    expected = picture() + float(together.sigmas[0]) * fixed_noise(noise) / 0.18215
    assert difference(noise, expected) < 1e-5


def test_the_pair_goes_through_initial_latent_as_the_noise_does(tiny_model):
    content = inversion(tiny_model, picture(), "features", method="exact")
    style = inversion(tiny_model, picture(seed=9), "features", method="exact")
    moved = InitialLatent.execute(content.noise, style.noise, "adain", 1.0).result[0]
    before, after = content.noise[KEY].noise_pair, moved[KEY].noise_pair
    assert torch.equal(after.noise, moved["samples"])
    spread = [(pair.step_from - pair.noise).std(dim=(2, 3)) for pair in (before, after)]
    scale = style.noise["samples"].std(dim=(2, 3)) / content.noise["samples"].std(dim=(2, 3))
    torch.testing.assert_close(spread[1], spread[0] * scale, rtol=2e-3, atol=1e-5)
    same = InitialLatent.execute(content.noise, style.noise, "content", 1.0).result[0]
    assert torch.equal(same[KEY].noise_pair.step_from, before.step_from)
    assert torch.isfinite(run_sampler(tiny_model, moved["samples"], content.sigmas, sampler=exact(moved))).all()


def test_initial_latent_at_strength_0_still_samples_back_exactly(demo):
    _, latent, _ = demo
    found = invert_demo(demo, method="exact")
    kept = InitialLatent.execute(found.noise, found.noise, "adain", 0.0).result[0]
    assert difference(sampled_back(demo, found, exact(kept)), latent) <= 1e-4


def test_exact_sampler_refuses_a_latent_without_a_pair_or_with_one_that_no_longer_fits(tiny_model):
    plain = inversion(tiny_model, picture(), "features")
    with pytest.raises(MagicStyleError, match="comes from no reversible inversion: set method to exact"):
        exact(plain.noise)
    pair = inversion(tiny_model, picture(), "features", method="exact").noise
    with pytest.raises(MagicStyleError, match="changed by another node after the inversion"):
        exact({**pair, "samples": pair["samples"] * 1.1})


def test_exact_sampler_refuses_another_start_and_warns_of_another_schedule(tiny_model, caplog):
    found = inversion(tiny_model, picture(), "features", method="exact")
    noise = found.noise["samples"]
    with pytest.raises(MagicStyleError, match="turn add_noise off"):
        run_sampler(tiny_model, noise, found.sigmas, sampler=exact(found.noise), noise=torch.ones_like(noise))
    with caplog.at_level(logging.WARNING, logger="magicstyle"):
        run_sampler(tiny_model, noise, found.sigmas, sampler=exact(found.noise))
        assert not own_lines(caplog)
        run_sampler(tiny_model, noise, found.sigmas[[0, 2, 4, 5]], sampler=exact(found.noise))
    assert "sampling runs on other noise levels than the inversion" in caplog.text


def test_a_file_carries_the_method_and_both_ends(demo, tmp_path):
    model, latent, prompt = demo
    found = invert_demo(demo, method="exact", precision="auto", storage="latents")
    save_bank(FeatureBank(found.features, (StyleEntry(found.features),)), tmp_path / "style.safetensors")
    bank = load_bank(tmp_path / "style.safetensors")
    assert bank.content.header.method == "exact"
    noise = _stored_noise(bank)
    back = run_sampler(model, noise["samples"], found.sigmas, 1.0, prompt, prompt, exact(noise))
    assert difference(back, latent) <= 1e-4


@pytest.mark.parametrize(
    "method, steps, says",
    [
        ("ddim", 3, "poor: use more steps, or method midpoint, fixed_point or exact"),
        ("fixed_point", 20, "where the picture still differs, look for an fp16 VAE, cfg other than 1"),
        ("exact", 10, "the two end latents differ by"),
    ],
)
def test_the_report_says_how_much_came_back_and_what_to_do(demo, method, steps, says):
    found = invert_demo(demo, method=method, steps=steps, measure=True)
    assert "round trip: relative error " in found.report and "PSNR" in found.report
    assert says in found.report, found.report
    assert "round trip" not in invert_demo(demo, method=method, steps=2).report


def test_the_measured_error_is_that_of_the_users_own_sampling(demo):
    _, latent, _ = demo
    found = invert_demo(demo, measure=True)
    error = difference(sampled_back(demo, found), latent)
    assert f"relative error {error:.2g} of the latent" in found.report


def test_noising_has_no_round_trip_to_measure(tiny_model):
    assert "round trip" not in inversion(tiny_model, picture(), "features", method="noising", measure=True).report


def test_a_shared_model_call_keeps_the_prompt_of_one_step(tiny_model):
    prompt = tiny_conditioning(tokens=154)
    found = inversion(tiny_model, picture(batch=2), "latents", method="noising", conditioning=prompt)
    assert {tensor.shape[0] for tensor in found.features.inputs.values()} == {2}


def few_step_scene(model, steps):
    """A model sampled as LCM models are, a noised content on its few levels, and a bank of it with a noised style."""
    lcm = ModelSamplingDiscrete().patch(model, "lcm", False)[0]
    sigmas = comfy.samplers.calculate_sigmas(lcm.get_model_object("model_sampling"), "sgm_uniform", steps)
    found = [inversion(lcm, picture(seed=seed), "features", sigmas=sigmas, method="noising") for seed in (2, 9)]
    return lcm, found[0], FeatureBank(found[0].features, (StyleEntry(found[1].features),))


@pytest.mark.parametrize("method", ["ffa", "seac"])
@pytest.mark.parametrize("steps", [4, 8])
def test_fusion_acts_at_every_step_of_the_stochastic_lcm_sampler(tiny_model, steps, method, caplog):
    lcm, content, bank = few_step_scene(tiny_model, steps)
    assert list(bank.content.header.sigmas) == pytest.approx(content.sigmas[:-1].tolist())
    states = {}
    with caplog.at_level(logging.WARNING, logger="magicstyle"):
        for name, model in (("plain", lcm), ("fused", patch(lcm, bank, method=method))):
            seen = states[name] = []
            sample(model, content, sampler="lcm", callback=lambda i, x0, x, n, seen=seen: seen.append(x0.clone()))
    assert not own_lines(caplog)  # no noise level lacks its features
    assert len(states["fused"]) == steps
    assert all(difference(*pair) > 1e-3 for pair in zip(states["fused"], states["plain"], strict=True))


def test_few_step_results_follow_the_samplers_seed_and_nothing_else(tiny_model):
    lcm, content, bank = few_step_scene(tiny_model, 4)
    fused = patch(lcm, bank)
    results = [sample(fused, content, sampler="lcm", seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1]) and difference(results[2], results[0]) > 1e-3

"""A model from one file: its training code's numbers, ComfyUI's layer names, the oracle's fusion."""

import math
import os

import pytest
import torch
from diffusers import UNet2DConditionModel
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.guidance import StyleGuidance
from magicstyle.core.inversion_methods import INVERSIONS, InversionSettings, invert_latent, sample_back
from magicstyle.core.layers import LayerId, legal_range, select_layers
from magicstyle.core.schedule import noise_levels
from magicstyle.headless.engine.attention import PLAIN, Hooks, halved
from magicstyle.headless.engine.model import (
    SD15_AUTOENCODER,
    SD15_SCALE,
    SD15_UNET,
    HeadlessModel,
    empty_prompt,
    load_autoencoder,
    load_sd15,
    load_unet,
    unet_config,
)
from magicstyle.headless.engine.stylize import Recipe, fused, invert, paint, reconstruct, stylize
from magicstyle.headless.pictures.reading import read_picture, to_tensor
from magicstyle.model_files.checkpoint import under
from magicstyle.model_files.demo import DEMO_CONTENT, DEMO_MODEL, read_demo_file
from magicstyle.tests.core.oracle import dense_attention
from magicstyle.tests.tiny_checkpoint import VARIANTS, Pool, fill, prefixed, save_tiny_checkpoint, text_encoder, unet
from magicstyle.tools.demo_model.model_file import load_model as load_trained
from magicstyle.tools.demo_model.networks import Autoencoder, AutoencoderConfig
from safetensors.torch import save_file
from torch.testing import assert_close

NARROW_TEXT = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}


def pictures(batch=2, height=64, width=48, seed=0):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --- the demo model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    return load_trained(DEMO_MODEL)


def test_autoencoder_is_the_one_that_was_trained(model, trained):
    with torch.inference_mode():
        latents = trained.encode(pictures())
        assert_close(model.encode(pictures()), latents, atol=1e-4, rtol=1e-4)
        assert_close(model.decode(latents), trained.decode(latents).clamp(-1, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("t", [1, 500, 981])
def test_denoiser_is_the_one_that_was_trained(model, trained, t):
    sigma = noise_levels()[t]
    with torch.inference_mode():
        x = model.encode(pictures()) * (1 + sigma)
        eps = (x - model.denoised(x, sigma.expand(2))) / sigma
        assert_close(eps, trained.denoiser.eps(x, t), atol=2e-3, rtol=1e-3)


def test_layers_have_the_hosts_names(model):
    assert legal_range(model.layers) == "input.4-5, input.7-8, middle.0, output.3-11"
    assert set(model.layers.values()) == {64}


@pytest.mark.parametrize("grid, times, expected", [((16, 12), 0, (16, 12)), ((9, 13), 1, (5, 7)), ((9, 13), 2, (3, 4))])
def test_grids_are_halved_upwards(grid, times, expected):
    assert halved(grid, times) == expected


def test_captured_grids_hold_one_token_per_cell(model):
    latent = model.encode(pictures(1, 72, 104))
    features = invert(model, latent, Recipe(steps=2, layers="all")).features
    for layer, (h, w) in features.header.grids.items():
        assert features.at(layer, 0, "q").q.shape == (1, h * w, model.layers[layer])


# --- SD1.5 ---------------------------------------------------------------------------------------------------------


def test_sd15_layers_have_the_hosts_names_and_widths():
    with torch.device("meta"):
        unet15 = UNet2DConditionModel(**unet_config(SD15_UNET))
    widths = Hooks(unet15).architecture.widths
    assert legal_range(widths) == "input.1-2, input.4-5, input.7-8, middle.0, output.3-11"
    assert [widths[LayerId("output", number, 0)] for number in (3, 6, 9)] == [1280, 640, 320]
    assert list(widths) == list(select_layers("all", widths)) and len(widths) == 16


def autoencoder_weights(**config):
    torch.manual_seed(0)
    sizes = {**SD15_AUTOENCODER, **config}
    sizes["ch_mult"] = tuple(sizes["ch_mult"])
    return prefixed("first_stage_model.", Autoencoder(AutoencoderConfig(**sizes)).state_dict())


def narrow_sd15():
    """SD1.5's topology at small widths, from weights under their original names."""
    entries = unet(VARIANTS["full"])
    tensors = prefixed("model.diffusion_model.", fill(entries, Pool(0), eps_gain=0.25, qk_gain=2.0))
    tensors |= autoencoder_weights(ch=32, ch_mult=(1, 2, 2, 2))
    tensors |= prefixed("cond_stage_model.transformer.", fill(text_encoder(64, 2), Pool(1)))
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def test_a_narrow_sd15_loads_and_stylizes():
    tensors = narrow_sd15()
    prompt = empty_prompt(NARROW_TEXT, tensors)
    assert prompt.shape == (1, 77, 64)
    wide = torch.nn.functional.pad(prompt, (0, 768 - 64))
    model = HeadlessModel(
        load_unet({**SD15_UNET, "channel_mult": [1, 1, 1, 1]}, tensors),
        load_autoencoder({**SD15_AUTOENCODER, "ch": 32, "ch_mult": [1, 2, 2, 2]}, tensors),
        wide,
        scale_factor=SD15_SCALE,
        native_size=512,
    )
    assert model.downscale == 8
    check_stylization(model, Recipe(steps=2))


def check_stylization(model, recipe):
    content, style = (
        invert(model, model.encode(pictures(1, seed=seed)), recipe, dtype=torch.float32) for seed in (1, 2)
    )
    result = stylize(model, content, style, recipe)
    assert torch.isfinite(result).all() and result.shape == content.noise.shape
    assert float((result - reconstruct(model, content, recipe)).norm() / result.norm()) > 1e-3
    assert model.decode(result).shape == (1, 3, 64, 48)


@pytest.mark.skipif(not os.environ.get("MAGICSTYLE_SLOW"), reason="takes 9 GB of memory: set MAGICSTYLE_SLOW=1")
def test_a_checkpoint_of_genuine_shapes_loads_and_stylizes(tmp_path):
    tensors = prefixed("model.diffusion_model.", fill(unet(VARIANTS["real"]), Pool(0), eps_gain=0.25))
    tensors |= {name: tensor.half() for name, tensor in autoencoder_weights().items()}
    tensors |= prefixed("cond_stage_model.transformer.", fill(text_encoder(), Pool(1)))
    path = tmp_path / "genuine.safetensors"
    save_file({name: t.clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}, path)
    del tensors
    assert path.stat().st_size > 2e9
    model = load_sd15(path)
    path.unlink()
    assert sum(parameter.numel() for parameter in model.unet.parameters()) == 859_520_964
    check_stylization(model, Recipe(steps=1))


def test_a_checkpoint_without_a_usable_autoencoder_is_refused_in_one_line():
    tensors = narrow_sd15()
    del tensors["first_stage_model.quant_conv.weight"]
    with pytest.raises(MagicStyleError, match="do not fit its AutoencoderKL .*quant_conv") as caught:
        load_autoencoder({**SD15_AUTOENCODER, "ch": 32, "ch_mult": [1, 2, 2, 2]}, tensors)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    path = save_tiny_checkpoint(tmp_path / "vega.safetensors", "min")
    with pytest.raises(MagicStyleError, match="not a Stable Diffusion 1.5 checkpoint"):
        load_sd15(path)


def test_demo_weights_are_all_used():
    file = read_demo_file()
    unet_names = under("model.diffusion_model.", file.tensors)
    assert len(load_unet(file.header.unet_config, file.tensors).state_dict()) == len(unet_names)


# --- the method ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inverted(model):
    recipe = Recipe(steps=4)
    return [invert(model, model.encode(pictures(seed=seed)), recipe, dtype=torch.float32) for seed in (1, 2)]


def test_capture_is_invisible(model, inverted):
    other = invert(model, model.encode(pictures(seed=1)), Recipe(steps=4, layers="all"))
    assert torch.equal(other.noise, inverted[0].noise)
    assert model.hooks.handlers is PLAIN and not inverted[0].noise.requires_grad


def test_a_neutral_setting_is_bit_identical(model, inverted):
    neutral = FusionSettings(style_weight=0.0, content_weight=0.0, query_preservation=0.0, temperature=1.0)
    recipe = Recipe(neutral, steps=4, adain=0.0)
    assert torch.equal(stylize(model, *inverted, recipe), reconstruct(model, inverted[0], recipe))


@pytest.mark.parametrize("method", FUSIONS)
def test_every_method_runs_and_changes_the_picture(model, inverted, method):
    recipe = Recipe(FusionSettings(method), steps=4, adain=0.0)
    styled, plain = stylize(model, *inverted, recipe), reconstruct(model, inverted[0], recipe)
    assert torch.isfinite(styled).all()
    assert float((styled - plain).norm() / plain.norm()) > 1e-5


def test_a_method_without_style_weight_falls_back_to_the_content(model, inverted):
    recipe = Recipe(FusionSettings("styleid", style_weight=0.0), steps=4)
    assert torch.isfinite(stylize(model, *inverted, recipe)).all()


@pytest.mark.parametrize("method", ["ffa", "styleid"])
def test_one_style_twice_at_half_weight_in_a_soft_region_is_that_style_once(model, inverted, method):
    content, style = inverted
    recipe, region = Recipe(FusionSettings(method), steps=4), torch.full((1, 8, 8), 0.5)
    once = FeatureBank(content.features, (StyleEntry(style.features, 1.0, region),))
    twice = FeatureBank(content.features, (StyleEntry(style.features, 0.5, region),) * 2)
    results = [paint(model, bank, content.noise_pair, recipe) for bank in (once, twice)]
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)
    two = FeatureBank(content.features, (StyleEntry(style.features, 0.5, region), StyleEntry(content.features, 0.5)))
    assert float((paint(model, two, content.noise_pair, recipe) - results[0]).norm() / results[0].norm()) > 1e-4


@pytest.mark.parametrize("w_s, w_c, g, tau", [(1.0, 0.3, 0.75, 1.5), (2.0, 0.0, 0.5, 1.0)])
def test_fusion_is_the_oracles(model, inverted, w_s, w_c, g, tau):
    """Inside the running UNet, every fused call answers as the dense formula does."""
    content, style = (entry.features for entry in inverted)
    bank = FeatureBank(content, (StyleEntry(style),))
    recipe = Recipe(FusionSettings("ffa", w_s, w_c, g, tau), steps=4, layers="output.6-8")
    sigmas, step, errors = recipe.sigmas, 1, []
    answered_by = model.hooks.answered_by

    def checked(handlers):
        def handle(call):
            out = handlers.attention(call)
            out = call.plain() if out is None else out
            expected = expect(call.layer, call.kernel.heads, call.live)
            errors.append(float((out - expected).abs().max() / expected.abs().max()))
            return out

        return answered_by(handlers._replace(attention=handle))

    def expect(layer, heads, live):
        if layer not in select_layers(recipe.layers, model.layers):
            return dense_attention(live.q, live.k, live.v, heads)
        c, s = content.at(layer, step), style.at(layer, step)
        query = g * c.q + (1 - g) * live.q
        bias = torch.cat(
            [torch.full((s.k.shape[1],), math.log(w_s)), torch.full((c.k.shape[1],), math.log(w_c or 1e-30))]
        )
        return dense_attention(
            query, torch.cat([s.k, c.k], 1), torch.cat([s.v, c.v], 1), heads, bias.view(1, 1, -1), tau
        )

    model.hooks.answered_by = checked
    try:
        fused(model, bank, recipe)(inverted[0].noise, sigmas[step].expand(2))
    finally:
        del model.hooks.answered_by
    assert len(errors) == len(model.layers) and max(errors) < 1e-5


@pytest.mark.parametrize("method, detail", [("ffa", 0.0), ("diffstyler", 0.0), ("mast", 1.0)])
def test_latents_give_what_features_give(model, method, detail):
    recipe = Recipe(FusionSettings(method, controls=StyleControls(detail=detail)), steps=4)
    results = []
    for storage in ("features", "latents"):
        kept = {"dtype": torch.float32, "storage": storage}
        entries = [invert(model, model.encode(pictures(1, seed=seed)), recipe, **kept) for seed in (1, 2)]
        assert {entry.features.representation for entry in entries} == {storage}
        results.append(stylize(model, *entries, recipe))
    assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("kind", ["nvqg", "spg"])
def test_guidance_is_the_sum_of_two_passes(model, kind, storage):
    """One step by hand: what each model answers alone, in the layers that it has."""
    recipe = Recipe(steps=4, guidance=StyleGuidance(kind, 2.0))
    kept = {"dtype": torch.float32, "storage": storage}
    content = invert(model, model.encode(pictures(1, seed=1)), recipe, **kept)
    style = invert(model, model.encode(pictures(1, seed=2)), recipe, roles=recipe.style_roles, **kept)
    bank, x, sigma = FeatureBank(content.features, (StyleEntry(style.features),)), content.noise, recipe.sigmas[1:2]
    alone = Recipe(steps=4)
    styled, plain = fused(model, bank, alone)(x, sigma), model.denoised(x, sigma)
    if kind == "nvqg":
        under = Recipe(FusionSettings("nvqg"), steps=4, layers="output.3-5")
        expected = styled + 2.0 * (styled - fused(model, bank, under)(x, sigma))
    else:
        expected = plain + 2.0 * (styled - plain)
    found = fused(model, bank, recipe)(x, sigma)
    assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert float((found - styled).norm() / styled.norm()) > 1e-3


def test_the_resnet_is_copied_while_noise_is_high(model, inverted):
    """Early steps end where the content's own do in that block; what was not kept is not copied."""
    recipe = Recipe(FusionSettings("diffstyler"), steps=4, adain=0.0)
    content = invert(model, model.encode(pictures(seed=1)), recipe, dtype=torch.float32)
    assert content.features.roles == "qkvx" and "output.4" in legal_range(content.features.header.layers)
    bank, without = (
        FeatureBank(entry.features, (StyleEntry(inverted[1].features),)) for entry in (content, inverted[0])
    )
    x = inverted[0].noise
    for step, copied in ((0, True), (3, False)):
        sigma = recipe.sigmas[step].expand(2)
        ours, theirs = fused(model, bank, recipe)(x, sigma), fused(model, without, recipe)(x, sigma)
        assert torch.equal(ours, theirs) != copied


def test_a_running_latent_of_another_size_is_refused(model, inverted):
    bank = FeatureBank(inverted[0].features, (StyleEntry(inverted[1].features),))
    with pytest.raises(MagicStyleError, match="but the content was inverted at"):
        fused(model, bank, Recipe(steps=4))(torch.zeros(2, 32, 6, 6), torch.ones(2))


@pytest.mark.parametrize("method", INVERSIONS)
def test_every_inversion_method_stylizes_and_samples_back_as_well_as_it_promises(model, method):
    recipe = Recipe(steps=10, inversion=InversionSettings(method))
    latent = model.encode(pictures(height=64, width=64))
    content = invert(model, latent, recipe)
    assert content.features.header.method == method
    back = reconstruct(model, content, recipe)
    bound = {"exact": 1e-4, "fixed_point": 0.5, "midpoint": 0.5, "ddim": 1.0}.get(method, math.inf)
    assert float((back - latent).norm() / latent.norm()) <= bound
    result = stylize(model, content, invert(model, latent[:1], recipe, roles="kv"), recipe)
    assert torch.isfinite(result).all() and float((result - back).norm() / back.norm()) > 1e-3


@pytest.mark.parametrize("plain, corrected", [(20, 6), (50, 16)])
def test_fixed_point_halves_the_round_trips_error_at_the_same_model_calls(model, plain, corrected):
    """At the size that the model was trained on; at half of it the corrections bring much less."""
    latent = model.encode(to_tensor(read_picture(DEMO_CONTENT, (256, 256))))
    calls, errors = [], []
    for method, steps in (("ddim", plain), ("fixed_point", corrected)):
        sigmas = Recipe(steps=steps).sigmas
        found = invert_latent(model.denoised, latent, sigmas, InversionSettings(method))
        calls.append(found.calls)
        back = sample_back(model.denoised, found.noise_pair, sigmas, method)
        errors.append(float((back - latent).norm() / latent.norm()))
    assert calls[1] <= calls[0] + 1, calls
    assert errors[1] < errors[0] / 2, errors

"""Each supported model in its own parametrisation, in a real ComfyUI, on miniatures of genuine structure.

The inversion is compared with DDIM written from the papers' formulas in the variance-preserving form, timestep by
timestep, on the host's bare UNet: nothing of the pack, and nothing of the host's sigmas, is used there.
"""

import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, RescaleCFG
from magicstyle.attention_patches.architectures import find
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.layers import select_layers
from magicstyle.nodes.inversion.run import invert
from magicstyle.tests.host.scene import NEUTRAL, STRONG, difference
from magicstyle.tests.host.tiny import run_sampler, tiny_latent
from magicstyle.tests.host.tiny_models import FAMILIES, family_model, family_prompt

from nodes import InpaintModelConditioning

pytestmark = pytest.mark.either
SIZE, STYLE_SIZE = (8, 12), (14, 6)  # no grid of either has as many tokens as the other's, or as a prompt
# the timesteps that the host's schedulers give for four steps
TIMESTEPS = {"ddim_uniform": (751, 501, 251, 1), "simple": (999, 749, 499, 249)}
# the host puts this in place of the zero at the end of a zero-terminal-SNR schedule
ALMOST_ZERO = 4.8973451890853435e-08


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def picture(name, size=SIZE, seed=2):
    return tiny_latent(*size, seed=seed) * STRONG / FAMILIES[name].scale


def schedule(name):
    return "simple" if FAMILIES[name].zero_snr else "ddim_uniform"


def inversion(name, samples, model=None, layers=None, prompt=None, scheduler=None, **more):
    layers = FAMILIES[name].chosen if layers is None else layers
    prompt = family_prompt(name) if prompt is None else prompt
    model = family_model(name) if model is None else model
    more = {"precision": "fp32", **more}
    return invert("content", model, {"samples": samples}, prompt, 4, scheduler or schedule(name), layers, **more)


def sample(name, content, model, prompt=None, **more):
    prompt = family_prompt(name) if prompt is None else prompt
    more = {"negative": family_prompt(name, seed=3), **more}
    return run_sampler(model, content.noise["samples"], content.sigmas, positive=prompt, **more)


def scene(name, **more):
    content = inversion(name, picture(name), **more)
    style = inversion(name, picture(name, STYLE_SIZE, seed=9), **more)
    return content, FeatureBank(content.features, (StyleEntry(style.features),))


def patch(model, bank, layers, **knobs):
    return install_fusion(model, bank, FusionSettings(**knobs), layers, 0.0, 1.0)


@pytest.fixture(scope="module")
def scenes():
    """Both pictures of each family, inverted once."""
    with torch.inference_mode():
        return {name: scene(name) for name in FAMILIES}


# --- the formulas --------------------------------------------------------------------------------------------------


class Formula:
    """DDIM in the variance-preserving form: x_t = sqrt(a_t) x0 + sqrt(1 - a_t) eps.

    A UNet predicts eps (Ho et al. 2020) or v = sqrt(a) eps - sqrt(1 - a) x0 (Salimans and Ho 2022); with zero terminal
    SNR sqrt(a) is shifted and scaled so that it ends at zero (Lin et al. 2023).
    """

    def __init__(self, model, prompt, size, *, v, zero_snr, concat=None):
        self.base, self.v, self.concat = model.model, v, concat
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        signal = torch.cumprod(1 - betas, 0).sqrt()
        if zero_snr:
            signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
            signal[-1] = ALMOST_ZERO**0.5
        self.alphas = signal.square()
        self.inputs = {"context": prompt[0][0]}
        if "pooled_output" in prompt[0][1]:
            sides = {"height": 8 * size[0], "width": 8 * size[1]}
            self.inputs["y"] = self.base.encode_adm(pooled_output=prompt[0][1]["pooled_output"], **sides)

    def split(self, x, t):
        """What the UNet makes of x_t -> (x0, eps), in double precision."""
        a = self.alphas[t]
        seen = x if self.concat is None else torch.cat([x, self.concat.double()], dim=1)
        out = self.base.diffusion_model(seen.float(), torch.tensor([float(t)]), **self.inputs).double()
        if self.v:
            return a.sqrt() * x - (1 - a).sqrt() * out, a.sqrt() * out + (1 - a).sqrt() * x
        return (x - (1 - a).sqrt() * out) / a.sqrt(), out

    def at(self, t, x0, eps):
        return self.alphas[t].sqrt() * x0 + (1 - self.alphas[t]).sqrt() * eps

    def invert(self, x0, timesteps):
        """From a picture to x_T: lifted to the lowest level, then up the timesteps."""
        lowest = timesteps[-1]
        x = self.at(lowest, x0, self.split(self.alphas[lowest].sqrt() * x0, lowest)[1])
        for t, higher in zip(timesteps[:0:-1], timesteps[-2::-1], strict=True):
            x = self.at(higher, *self.split(x, t))
        return x

    def sample(self, x, timesteps):
        """Back down to the picture."""
        for t, lower in zip(timesteps, timesteps[1:], strict=False):
            x = self.at(lower, *self.split(x, t))
        return self.split(x, timesteps[-1])[0]


def assert_equals_formula(name, content, model, formula, scale, timesteps, **more):
    """Inversion and plain sampling, both as the formula has them -> the formula's noise."""
    x0 = picture(name).double() * scale
    by_hand = formula.invert(x0, timesteps)
    ours = content.noise["samples"].double() * scale * formula.alphas[timesteps[0]].sqrt()
    assert difference(ours, by_hand) < 1e-4
    back = sample(name, content, model, **more).double() * scale
    assert difference(back, formula.sample(ours, timesteps)) < 1e-3
    return by_hand


BLANK = torch.tensor([0.8223, -0.6876, 0.6364, 0.1380]).reshape(1, 4, 1, 1)


def nothing_known(name):
    """What an inpainting model sees without a mask: all is to be painted."""
    if FAMILIES[name].unet["in_channels"] == 4:
        return None
    return torch.cat([torch.ones(1, 1, *SIZE), BLANK.expand(1, 4, *SIZE)], dim=1)


@pytest.mark.parametrize("name", FAMILIES)
def test_inversion_and_reconstruction_follow_the_models_own_formula(name):
    family, model, prompt = FAMILIES[name], family_model(name), family_prompt(name)
    content = inversion(name, picture(name), model)
    kind = {"zero_snr": family.zero_snr, "concat": nothing_known(name)}
    timesteps = TIMESTEPS[schedule(name)]
    formula = Formula(model, prompt, SIZE, v=family.v, **kind)
    noise = assert_equals_formula(name, content, model, formula, family.scale, timesteps)
    other = Formula(model, prompt, SIZE, v=not family.v, **kind)
    assert difference(other.invert(picture(name).double() * family.scale, timesteps), noise) > 0.1


@pytest.mark.parametrize(
    "sampling, zero_snr, scheduler",
    [("v_prediction", False, "ddim_uniform"), ("v_prediction", True, "simple"), ("eps", True, "ddim_uniform")],
)
def test_a_model_sampling_node_before_ours_is_honoured(sampling, zero_snr, scheduler):
    name = "sd15"
    model = ModelSamplingDiscrete().patch(family_model(name), sampling, zero_snr)[0]
    content = inversion(name, picture(name), model, scheduler=scheduler)
    formula = Formula(model, family_prompt(name), SIZE, v=sampling == "v_prediction", zero_snr=zero_snr)
    assert_equals_formula(name, content, model, formula, FAMILIES[name].scale, TIMESTEPS[scheduler])
    assert difference(content.noise["samples"], inversion(name, picture(name)).noise["samples"]) > 1e-2


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_fusion_with_zero_terminal_snr_is_finite_in_half_precision(scenes, storage):
    """Noise of 4500 standard deviations in the host's convention is more than half precision holds."""
    name = "sdxl v-prediction, zero-terminal SNR"
    content, bank = scene(name, storage=storage, precision="auto")
    assert float(content.noise["samples"].abs().max()) > torch.finfo(torch.float16).max
    assert all(torch.isfinite(features.noise_pair.noise).all() for features in bank)
    chosen = FAMILIES[name].chosen
    exact, result = (sample(name, content, patch(family_model(name), one, chosen)) for one in (scenes[name][1], bank))
    plain = sample(name, content, family_model(name))
    assert difference(result, exact) < difference(exact, plain) / 10


def test_rescale_cfg_before_ours_acts_while_sampling_and_not_in_the_inversion():
    name = "sd21"
    rescaled = RescaleCFG().patch(family_model(name), 0.7)[0]
    content, bank = scene(name)
    guided = inversion(name, picture(name), rescaled)
    assert torch.equal(guided.noise["samples"], content.noise["samples"])
    assert "left out of the inversion: CFG function" in guided.report
    layers, prompts = FAMILIES[name].chosen, {"cfg": 7.0, "prompt": family_prompt(name, seed=5)}
    before = sample(name, content, patch(rescaled, bank, layers), **prompts)
    after = RescaleCFG().patch(patch(family_model(name), bank, layers), 0.7)[0]
    assert torch.equal(before, sample(name, content, after, **prompts))
    assert difference(before, sample(name, content, patch(family_model(name), bank, layers), **prompts)) > 1e-3
    assert difference(before, sample(name, content, rescaled, **prompts)) > 1e-3


# --- the layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_every_self_attention_layer_is_known_with_its_grid(name):
    """SDXL's decoder has 30 in output.0-2 and 6 in output.3-5."""
    layers = find(family_model(name)).layers
    counts = {block: sum(layer.block == block for layer in layers) for block in ("input", "middle", "output")}
    assert {block: count for block, count in counts.items() if count} == FAMILIES[name].layers
    grids, seen = find(family_model(name)).grids((9, 13)), {}

    def keep(n, context, value, options):
        key = (*options["block"], options["block_index"])
        seen[key] = tuple(options["activations_shape"][2:])
        return n, context, value

    spied = family_model(name)
    spied.set_model_attn1_patch(keep)
    latent = picture(name, (9, 13))
    sigmas = torch.tensor([1.0, 0.0])
    run_sampler(spied, latent, sigmas, positive=family_prompt(name), negative=family_prompt(name))
    assert {tuple(layer): grid for layer, grid in grids.items()} == seen


@pytest.mark.parametrize(
    "text, count", [("output", 36), ("output.0-2", 30), ("output.3-5", 6), ("output.3.1", 1), ("output.0-2.9", 3)]
)
def test_layers_of_sdxl_are_chosen_by_block_and_by_transformer(text, count):
    layers = select_layers(text, find(family_model("sdxl")).layers)
    assert len(layers) == count and {layer.block for layer in layers} == {"output"}


def test_layers_that_sdxl_lacks_are_refused_with_those_that_it_has():
    bank = scene("sdxl")[1]
    with pytest.raises(MagicStyleError, match=r"'output.6-11' selects no.*output\.0-5"):
        patch(family_model("sdxl"), bank, "output.6-11")


def key_tokens(calls):
    def override(func, q, k, v, *args, **kwargs):
        options = kwargs["transformer_options"]
        if k.shape[1] != 77:
            calls[(*options["block"], options["block_index"])] = k.shape[1]
        return func(q, k, v, *args, **kwargs)

    return override


@pytest.mark.parametrize("name", FAMILIES)
def test_a_neutral_setting_is_bit_identical(scenes, name):
    content, bank = scenes[name]
    patched = patch(family_model(name), bank, FAMILIES[name].chosen, **NEUTRAL)
    assert torch.equal(sample(name, content, patched), sample(name, content, family_model(name)))


@pytest.mark.parametrize("method", ["ffa", "styleid"])
@pytest.mark.parametrize("name", FAMILIES)
def test_fusion_acts_in_the_chosen_layers_and_in_no_other(scenes, name, method):
    content, bank = scenes[name]
    model, chosen, calls = family_model(name), FAMILIES[name].chosen, {}
    own, style = (find(model).grids(size) for size in (SIZE, STYLE_SIZE))
    model.model_options["transformer_options"]["optimized_attention_override"] = key_tokens(calls)
    result = sample(name, content, patch(model, bank, chosen, method=method, content_weight=0.1))
    expected = {}
    for layer, (h, w) in own.items():
        keys = style[layer][0] * style[layer][1]
        keys = keys + h * w if method == "ffa" else keys
        expected[tuple(layer)] = keys if layer in select_layers(chosen, own) else h * w
    assert calls == expected
    assert difference(result, sample(name, content, family_model(name))) > 1e-3


# --- inpainting models ---------------------------------------------------------------------------------------------


class BlockMeans:
    """A VAE whose latents are the 8x8 block means of red, green, blue and their mean."""

    def encode(self, pixels):
        means = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1)


NAME = "sd15 inpainting"


def inpainting(seed=4):
    """(positive, latent, concat): the right half of a portrait to be painted, through the host's node."""
    pixels = torch.rand(1, 8 * SIZE[0], 8 * SIZE[1], 3, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(1, 8 * SIZE[0], 8 * SIZE[1])
    mask[..., 4 * SIZE[1] :] = 1.0
    prompt = family_prompt(NAME)
    positive, _, latent = InpaintModelConditioning().encode(prompt, prompt, pixels, BlockMeans(), mask, True)
    grey = (pixels - 0.5) * (1 - mask[..., None]) + 0.5
    known = BlockMeans().encode(grey) * FAMILIES[NAME].scale
    return positive, latent, torch.cat([mask[:, None, ::8, ::8], known], dim=1)


def test_an_inpainting_inversion_follows_the_masked_picture_that_its_prompt_carries():
    """All of the picture is inverted, as the model sees it with this mask; the noise mask does not freeze any of it."""
    positive, latent, concat = inpainting()
    model, x0 = family_model(NAME), picture(NAME)
    content = invert("content", model, {**latent, "samples": x0}, positive, 4, "ddim_uniform", "output.9", "features")
    assert set(content.noise) == {"samples"}
    formula = Formula(model, positive, SIZE, v=False, zero_snr=False, concat=concat)
    timesteps = TIMESTEPS["ddim_uniform"]
    assert_equals_formula(NAME, content, model, formula, FAMILIES[NAME].scale, timesteps, prompt=positive)
    plain = inversion(NAME, x0).noise["samples"]
    assert difference(content.noise["samples"], plain) > 1e-3


def test_features_and_latents_of_an_inpainting_inversion_give_the_same_picture():
    positive, _, _ = inpainting()
    results = []
    for storage in ("features", "latents"):
        content = inversion(NAME, picture(NAME), prompt=positive, storage=storage)
        style = inversion(NAME, picture(NAME, STYLE_SIZE, seed=9), storage=storage)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        patched = patch(family_model(NAME), bank, FAMILIES[NAME].chosen)
        results.append(sample(NAME, content, patched, positive, cfg=2.0))
    assert difference(*results) <= 1e-4
    assert difference(results[0], sample(NAME, content, family_model(NAME), positive, cfg=2.0)) > 1e-3


# --- models of another kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sd21", "sdxl", "ssd-1b", "vega"])
def test_the_portraits_detail_is_added_whatever_is_kept_of_it(name):
    """By the ResNets of six decoder blocks in SDXL and its kin, whose blocks hold several transformers each."""
    layers, found = {"sd21": "output.6-11"}.get(name, "output.0-5"), []
    for kept in ({"roles": "all and detail"}, {"storage": "latents"}):
        content, bank = scene(name, layers=layers, **kept)
        for detail in (1.0, 0.0):
            found.append(
                sample(name, content, patch(family_model(name), bank, layers, controls=StyleControls(detail=detail)))
            )
    stored, without, replayed, _ = found
    assert difference(stored, replayed) <= 1e-4
    assert difference(stored, without) > 10 * difference(stored, replayed)

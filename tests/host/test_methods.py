"""Every published fusion, run to the end in a real ComfyUI, against its formula in plain torch."""

import copy
import math

import comfy.hooks
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM
from magicstyle.banks.bank import FeatureBank
from magicstyle.core.errors import MagicStyleError
from magicstyle.tests.core.oracle import RULES, rsa
from magicstyle.tests.host.fusion_oracle import diffstyler_whole, eps, invert, stylize
from magicstyle.tests.host.scene import SCALE, difference, inversion, patch, picture, sample, scene
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas

STEPS = 5
# the knobs that the papers have no place for, at rest
PUBLISHED = {"style_weight": 1.0, "query_preservation": 0.0}
KNOBS = {
    "ffa": {"style_weight": 1.0, "content_weight": 0.05, "query_preservation": 0.75, "temperature": 1.5},
    "styleid": {"query_preservation": 0.75, "temperature": 1.5},
    "cocodiff": {"query_preservation": 0.75, "temperature": 1.5},
    "gar": {"query_preservation": 0.25},
    "mast": {"content_weight": 0.1, "query_preservation": 0.0, "temperature": 1.0},
}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", RULES)
def test_each_method_equals_its_formula_after_a_full_run(tiny_model, name):
    content, bank = scene(tiny_model)
    knobs = KNOBS.get(name, PUBLISHED)
    ours = sample(patch(tiny_model, bank, method=name, **knobs), content) * SCALE
    latents = picture() * SCALE, picture(seed=9) * SCALE
    context = tiny_conditioning()[0][0]
    sigmas, matched = tiny_sigmas(tiny_model, STEPS), name == "cocodiff"
    theirs = stylize(tiny_model.model, *latents, sigmas, context, RULES[name], matched=matched)
    assert difference(ours, theirs) <= 1e-4
    assert difference(sample(tiny_model, content) * SCALE, theirs) > 1e-3


def test_diffstyler_on_a_continuous_schedule_takes_the_share_of_its_spread_in_log_space(tiny_model):
    low, high = 0.05, 60.0
    model = ModelSamplingContinuousEDM().patch(tiny_model, "eps", high, low)[0]
    content = inversion(model, picture(), STEPS, scheduler="karras")
    ours = sample(patch(model, FeatureBank(content.features, ()), method="diffstyler"), content) * SCALE
    plain = sample(model, content) * SCALE

    def share(_, sigma):
        return math.log(float(sigma) / low) / math.log(high / low)

    network = copy.copy(tiny_model.model)
    network._modules = {**network._modules, "model_sampling": model.get_model_object("model_sampling")}
    latents, context = (picture() * SCALE, picture(seed=9) * SCALE), tiny_conditioning()[0][0]
    theirs = stylize(network, *latents, content.sigmas, context, RULES["diffstyler"], share)
    assert difference(ours, theirs) <= 1e-4
    assert difference(plain, theirs) > 1e-3


def rsa_with_guidance(model, content, style, sigmas, positive, negative, cfg):
    """References beside the positive prompt alone, as MagicFace has them."""
    grid = sigmas[:-1]
    inverted = tiny_conditioning()[0][0]
    x, _ = invert(model, content, grid, inverted)
    _, kept = invert(model, style, grid, inverted)
    for step in range(len(grid)):

        def inject(q, k, v, options, step=step):
            return rsa((q, k, v), None, kept[step, options["block"]], options["n_heads"], 0, 0)

        guided = eps(model, x, grid[step], positive, inject)
        plain = eps(model, x, grid[step], negative, None)
        x = x + (sigmas[step + 1] - sigmas[step]) * (plain + cfg * (guided - plain))
    return x


@pytest.mark.parametrize("tokens", [77, 100], ids=["joined", "split"])
def test_rsa_leaves_the_negative_prompts_rows_alone(tiny_model, tokens):
    content, bank = scene(tiny_model)
    positive, negative = tiny_conditioning(seed=5), tiny_conditioning(tokens, seed=4)
    ours = sample(patch(tiny_model, bank, method="rsa"), content, 3.0, positive, negative) * SCALE
    latents = picture() * SCALE, picture(seed=9) * SCALE
    sigmas = tiny_sigmas(tiny_model, STEPS)
    theirs = rsa_with_guidance(tiny_model.model, *latents, sigmas, positive[0][0], negative[0][0], 3.0)
    assert difference(ours, theirs) <= 1e-4


def run_diffstyler(tiny_model, sampling, layers="output.3-11", **more):
    """(stylized latent, its inversion): captured on tiny_model, sampled with another start and `sampling`."""
    content = inversion(tiny_model, picture(), STEPS, layers, **more)
    patched = patch(sampling, FeatureBank(content.features, ()), method="diffstyler")
    return sample(patched, content, positive=tiny_conditioning(seed=5)), content


def with_lora(model, strength=1.0):
    """A LoRA on the attention projections, as DiffStyler trains its styles."""
    generator = torch.Generator().manual_seed(4)
    patched = model.clone()
    names = [name for name in model.model_state_dict() if "attn" in name and name.endswith("to_q.weight")]
    weights = {name: model.model_state_dict()[name] for name in names}
    patches = {name: (torch.randn(w.shape, generator=generator) * w.std(),) for name, w in weights.items()}
    assert patched.add_patches(patches, strength)
    return patched


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_diffstyler_also_copies_the_resnet_feature(tiny_model, storage):
    """A different prompt while sampling: without copies, the picture would leave the content."""
    ours, _ = run_diffstyler(tiny_model, tiny_model, roles="all and ResNet", storage=storage)
    sigmas = tiny_sigmas(tiny_model, STEPS)
    theirs = oracle_with_other_prompt(tiny_model.model, sigmas)
    without, _ = run_diffstyler(tiny_model, tiny_model)
    assert difference(ours * SCALE, theirs) <= 1e-4
    assert difference(without * SCALE, theirs) > 1e-3


def oracle_with_other_prompt(model, sigmas):
    inverted, sampled = tiny_conditioning()[0][0], tiny_conditioning(seed=5)[0][0]
    return diffstyler_whole(model, picture() * SCALE, sigmas, inverted, sampled)


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_a_lora_on_the_sampling_model_stylizes_while_the_content_comes_from_the_base_model(tiny_model, storage):
    lora = with_lora(tiny_model)
    injected, content = run_diffstyler(tiny_model, lora, roles="all and ResNet", storage=storage)
    prompt = tiny_conditioning(seed=5)
    free, base = (sample(model, content, positive=prompt) for model in (lora, tiny_model))
    assert difference(injected, free) > 1e-3 and difference(injected, base) > 1e-3
    other = run_diffstyler(tiny_model, lora, roles="all and ResNet", storage="features")[0]
    assert difference(injected, other) < 1e-4


def test_the_resnet_is_kept_only_where_its_block_is(tiny_model):
    with pytest.raises(MagicStyleError, match="layers 'output.6-11' leaves out: add output.4 to layers"):
        inversion(tiny_model, picture(), 2, "output.6-11", roles="all and ResNet")
    plain, kept = (
        inversion(tiny_model, picture(), 2, "output.3-11", roles=roles) for roles in ("all", "all and ResNet")
    )
    assert plain.features.roles == "qkv" and kept.features.roles == "qkvx"
    assert torch.equal(plain.noise["samples"], kept.noise["samples"])
    assert kept.features.nbytes > plain.features.nbytes


def lora_file(model, seed):
    """A LoRA as a file holds it: rank 2 on the decoder's queries and values."""
    generator, weights = torch.Generator().manual_seed(seed), {}
    for name, weight in model.model_state_dict().items():
        if "output_blocks" in name and name.endswith(("attn1.to_q.weight", "attn1.to_v.weight")):
            key = "lora_unet_" + name.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
            weights[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator)
            weights[f"{key}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator) / 4
    return weights


def test_several_lora_styles_act_by_region_through_the_hosts_hooks(tiny_model):
    """Each region's prediction is that of its own LoRA, and the portrait is injected into both."""
    content = inversion(tiny_model, picture(), 3, "output.3-11", roles="all and ResNet")
    patched = patch(tiny_model, FeatureBank(content.features, ()), method="diffstyler")
    left = torch.zeros(1, 8, 12)
    left[:, :, :6] = 1.0

    def prompts(seed, mask=None):
        lora = comfy.hooks.create_hook_lora(lora_file(tiny_model, seed), 1.0, 0.0)
        return comfy.hooks.set_conds_props([tiny_conditioning(seed=5)], 1.0, "default", mask, lora)[0]

    def first_prediction(positive):
        seen = []
        sample(patched, content, positive=positive, callback=lambda i, x0, x, n: seen.append(x0.clone()))
        return seen[0]

    both = first_prediction([*prompts(1, left), *prompts(2, 1 - left)])
    one, two, none = (first_prediction(p) for p in (prompts(1), prompts(2), tiny_conditioning(seed=5)))
    assert difference(both[..., :6], one[..., :6]) < 1e-5 and difference(both[..., 6:], two[..., 6:]) < 1e-5
    assert min(difference(one, two), difference(one, none)) > 1e-3


@pytest.mark.parametrize("name", ["sac", "seac", "zstar", "style_aligned", "rsa", "mast", "gar", "cocodiff"])
def test_replayed_latents_and_stored_features_give_the_same(tiny_model, name):
    results = []
    for storage in ("features", "latents"):
        content, bank = scene(tiny_model, steps=3, storage=storage)
        prompts = tiny_conditioning(seed=5), tiny_conditioning(seed=4)
        results.append(sample(patch(tiny_model, bank, method=name), content, 3.0, *prompts))
    assert difference(*results) <= 1e-4

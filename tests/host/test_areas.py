"""Prompts that are limited to an area, of which the model sees nothing else, in a real ComfyUI."""

import math
from typing import NamedTuple

import comfy.samplers
import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.tests.core.oracle import RULES
from magicstyle.tests.host.fusion_oracle import DECODER, invert
from magicstyle.tests.host.neighbours import stock
from magicstyle.tests.host.scene import SCALE, difference, inversion, patch, picture, sample
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas

from nodes import (
    ConditioningSetArea,
    ConditioningSetAreaPercentage,
    ConditioningSetMask,
    ConditioningSetTimestepRange,
)

STEPS = 3


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


class Area(NamedTuple):
    """In latent pixels, and where it begins among the tokens of the grids /1 and /2, worked out by hand."""

    height: int
    width: int
    y: int
    x: int
    cells: tuple[tuple[int, int], ...] = ()

    def limit(self, conditioning):
        pixels = (8 * side for side in (self.width, self.height, self.x, self.y))
        return ConditioningSetArea().append(conditioning, *pixels, 1.0)[0]

    def latent(self, full):
        return full[..., self.y : self.y + self.height, self.x : self.x + self.width]

    def tokens(self, tokens, size, stride):
        """This area's part of a picture's tokens, b n c."""
        top, left = self.cells[stride - 1]
        high, wide = (math.ceil(side / stride) for side in (self.height, self.width))
        grid = [math.ceil(side / stride) for side in size]
        return tokens.unflatten(1, grid)[:, top : top + high, left : left + wide].flatten(1, 2)


# latent size, two areas of one size, which the host joins into one batch
EVEN = ((16, 24), Area(8, 12, 4, 6, ((4, 6), (2, 3))), Area(8, 12, 8, 12, ((8, 12), (4, 6))))
# 17x23 has 9x12 tokens at half size; between two cells the later one, and never past the edge
ODD = ((17, 23), Area(9, 13, 3, 5, ((3, 5), (2, 3))), Area(9, 13, 8, 10, ((8, 10), (4, 5))))


def scene(model, size, storage="features"):
    content = inversion(model, picture(*size), STEPS, storage=storage)
    style = inversion(model, picture(8, 11, seed=9), STEPS, storage=storage)
    return content, FeatureBank(content.features, (StyleEntry(style.features),))


def first_calls(patched, content, positive=None, negative=None, cfg=3.0, make_guider=None):
    """(x, prompt, answer) of every row that the model is called with at the first noise level."""
    rows = []

    def spy(executor, x, t, c_concat, context, *args, **kwargs):
        out = executor(x, t, c_concat, context, *args, **kwargs)
        if float(t[0]) == pytest.approx(float(content.sigmas[0])):
            rows.extend(zip(x.split(1), context.split(1), out.split(1), strict=True))
        return out

    patched.add_wrapper_with_key("apply_model", "spy", spy)
    if make_guider is None:
        sample(patched, content, cfg, positive, negative)
    else:
        sample_with(make_guider(patched), content)
    return rows


def sample_with(guider, content):
    """SamplerCustomAdvanced without noise of its own."""
    latent = content.noise["samples"]
    sampler = comfy.samplers.sampler_object("ddim")
    return guider.sample(torch.zeros_like(latent), latent, sampler, content.sigmas, disable_pbar=True, seed=0)


class OneByOne(comfy.samplers.CFGGuider):
    """Calls the model for each cond on its own, those that `chosen(conds)` names."""

    def __init__(self, model, positive, negative, chosen=lambda conds: sum(conds.values(), [])):
        super().__init__(model)
        self.set_conds(positive, negative)
        self.chosen = chosen

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        answers = [
            comfy.samplers.calc_cond_batch(self.inner_model, [[cond]], x, timestep, model_options or {})[0]
            for cond in self.chosen(self.conds)
        ]
        return answers[-1]


def answer_by_hand(model, x, prompt, sigma, rule, kept, area, size):
    """The model on one row, the decoder's attention replaced by `rule` on features that are cropped by hand."""

    def inject(q, k, v, options):
        content, style = (features[options["block"]] for features in kept)
        stride = 1 if options["block"][1] >= 9 else 2
        content = content if area is None else [area.tokens(t, size, stride) for t in content]
        return rule((q, k, v), content, style, options["n_heads"], 0.0, 1.0)

    options = {"patches_replace": {"attn1": dict.fromkeys(DECODER, inject)}}
    return model.apply_model(x, sigma.expand(1), c_crossattn=prompt, transformer_options=options)


def features_by_hand(model, size):
    """(content, style): (q, k, v) of each decoder block at the first noise level."""
    grid, context = tiny_sigmas(model, STEPS)[:-1], tiny_conditioning()[0][0]
    pictures = picture(*size), picture(8, 11, seed=9)
    kept = [invert(model.model, latent * SCALE, grid, context)[1] for latent in pictures]
    return [{block: features for (step, block), features in one.items() if step == 0} for one in kept]


@pytest.mark.parametrize("method", ["styleid", "masactrl", "seac"])
@pytest.mark.parametrize("size, one, two", [EVEN, ODD], ids=["even", "odd"])
def test_each_row_fuses_the_features_of_its_own_area(tiny_model, method, size, one, two):
    content, bank = scene(tiny_model, size)
    knobs = {"query_preservation": 0.75, "temperature": 1.5} if method == "styleid" else {"query_preservation": 0.0}
    prompts = [tiny_conditioning(seed=seed) for seed in (5, 6, 7)]
    positive = prompts[0] + one.limit(prompts[1]) + two.limit(prompts[2])
    rows = first_calls(patch(tiny_model, bank, method=method, **knobs), content, positive, tiny_conditioning(seed=4))
    sigma, kept = content.sigmas[0], features_by_hand(tiny_model, size)
    whole = content.noise["samples"] * SCALE
    parts = {None: whole, one: one.latent(whole), two: two.latent(whole)}
    seen = []
    for x, prompt, answer in rows:
        (area,) = (area for area, part in parts.items() if part.shape == x.shape and difference(x, part) < 1e-5)
        hand = answer_by_hand(tiny_model.model, x, prompt, sigma, RULES[method], kept, area, size)
        assert difference(answer - x, hand - x) < 1e-4
        plain = tiny_model.model.apply_model(x, sigma.expand(1), c_crossattn=prompt, transformer_options={})
        assert difference(answer - x, plain - x) > 1e-3
        seen.append(area)
    # each area with its prompt and with the negative one, and the whole picture with both
    assert sorted(map(str, seen)) == sorted(map(str, [None, None, one, one, two, two]))


def fused_by_hand(model, content, x, prompt, area, size):
    """The model on one row with masactrl on the content's features of an area."""
    kept = features_by_hand(model, size)
    return answer_by_hand(model.model, x, prompt[0][0], content.sigmas[0], RULES["masactrl"], kept, area, size)


def test_an_area_over_the_edge_fuses_what_the_host_cuts_out(tiny_model):
    size, over, cut = (16, 24), Area(8, 12, 12, 18), Area(4, 6, 12, 18, ((12, 18), (6, 9)))
    content, bank = scene(tiny_model, size)
    prompt = tiny_conditioning(seed=6)
    patched = patch(tiny_model, bank, method="masactrl")
    ((x, _, answer),) = first_calls(patched, content, over.limit(prompt), prompt, 1.0)
    assert x.shape[2:] == (4, 6)
    assert difference(answer - x, fused_by_hand(tiny_model, content, x, prompt, cut, size) - x) < 1e-4


def test_two_calls_with_other_areas_of_one_prompt_fuse_each_their_own(tiny_model):
    size, one, two = EVEN
    content, bank = scene(tiny_model, size)
    prompt = tiny_conditioning(seed=6)

    def chosen(conds):
        cond = conds["positive"][0]
        whole = {name: value for name, value in cond.items() if name != "area"}
        return [cond, {**cond, "area": (two.height, two.width, two.y, two.x)}, whole]

    patched = patch(tiny_model, bank, method="masactrl")
    rows = first_calls(patched, content, make_guider=lambda model: OneByOne(model, one.limit(prompt), prompt, chosen))
    assert len(rows) == 3
    for (x, _, answer), area in zip(rows, (one, two, None), strict=True):
        assert difference(answer - x, fused_by_hand(tiny_model, content, x, prompt, area, size) - x) < 1e-4


def is_fused(model, content, x, prompt, answer):
    plain = model.model.apply_model(x, content.sigmas[:1], c_crossattn=prompt, transformer_options={})
    return difference(answer - x, plain - x) > 1e-5


@pytest.mark.parametrize("style", ["regular", "nested"])
def test_rsa_under_two_positive_prompts_leaves_the_negative_one_alone(tiny_model, style):
    content, bank = scene(tiny_model, (8, 12))
    cond1, cond2, negative = (tiny_conditioning(seed=seed) for seed in (5, 6, 4))

    def dual(model):
        prompts = {"cond1": cond1, "cond2": cond2, "negative": negative}
        node = "comfy_extras.nodes_custom_sampler.DualCFGGuider"
        return stock(node, model=model, cfg_conds=2.0, cfg_cond2_negative=3.0, style=style, **prompts)[0]

    rows = first_calls(patch(tiny_model, bank, method="rsa"), content, make_guider=dual)
    assert len(rows) == 3
    for x, prompt, answer in rows:
        assert is_fused(tiny_model, content, x, prompt, answer) != torch.equal(prompt, negative[0][0])


def test_rsa_fuses_the_part_of_a_prompt_that_the_host_has_copied_to_the_negative_one(tiny_model):
    """The copy has the identity of the part: called on its own it cannot be told, and the part must not suffer."""
    size, one, _ = EVEN
    content, bank = scene(tiny_model, size)
    positive = one.limit(tiny_conditioning(seed=6)) + tiny_conditioning(seed=5)
    negative = tiny_conditioning(seed=4)
    patched = patch(tiny_model, bank, method="rsa")
    rows = first_calls(patched, content, make_guider=lambda model: OneByOne(model, positive, negative))
    assert len(rows) == 4  # the whole picture and the area, for either prompt
    for x, prompt, answer in rows:
        whole, ours = x.shape[2:] == size, not torch.equal(prompt, negative[0][0])
        if whole or ours:
            assert is_fused(tiny_model, content, x, prompt, answer) == ours


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_an_area_of_the_whole_picture_is_no_area(tiny_model, storage):
    content, bank = scene(tiny_model, (9, 13), storage)
    prompt = tiny_conditioning(seed=5)
    whole = ConditioningSetAreaPercentage().append(prompt, 1.0, 1.0, 0.0, 0.0, 1.0)[0]
    with_area, without = (sample(patch(tiny_model, bank), content, 3.0, positive) for positive in (whole, prompt))
    assert difference(with_area, without) < 1e-6
    assert difference(without, sample(tiny_model, content, 3.0, prompt)) > 1e-3


@pytest.mark.parametrize("method, roles", [("ffa", "all"), ("diffstyler", "all and ResNet")])
def test_latents_are_replayed_as_the_whole_picture_and_then_cropped(tiny_model, method, roles):
    size, one, two = EVEN
    positive = one.limit(tiny_conditioning(seed=6)) + two.limit(tiny_conditioning(seed=7)) + tiny_conditioning(seed=5)
    results = []
    for storage in ("features", "latents"):
        content = inversion(tiny_model, picture(*size), STEPS, "output.3-11", storage=storage, roles=roles)
        style = inversion(tiny_model, picture(8, 11, seed=9), STEPS, "output.3-11", storage=storage)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        results.append(sample(patch(tiny_model, bank, method=method), content, 3.0, positive))
    assert difference(*results) <= 1e-4
    assert difference(results[0], sample(tiny_model, content, 3.0, positive)) > 1e-3


def test_a_region_is_cropped_too(tiny_model):
    """The style acts on the left; an area on the right sees none of it, one on the left sees nothing else."""
    content, bank = scene(tiny_model, (16, 24))
    style = bank.styles[0].features
    mask = torch.zeros(1, 16, 24)
    mask[:, :, :12] = 1.0
    left, right = Area(16, 12, 0, 0), Area(16, 12, 0, 12)
    banks = {
        name: FeatureBank(content.features, (StyleEntry(style, weight, region),))
        for name, weight, region in (("region", 1.0, mask), ("everywhere", 1.0, None), ("nowhere", 0.0, None))
    }
    for area, same, other in ((left, "everywhere", "nowhere"), (right, "nowhere", "everywhere")):
        prompts = area.limit(tiny_conditioning(seed=6)), area.limit(tiny_conditioning(seed=4))
        answers = {
            name: first_calls(patch(tiny_model, one, method="styleid"), content, *prompts)[0][2]
            for name, one in banks.items()
        }
        assert difference(answers["region"], answers[same]) < 1e-5
        assert difference(answers["region"], answers[other]) > 1e-3


@pytest.mark.parametrize("whole", [True, False], ids=["beside the whole picture", "alone"])
def test_rsa_tells_the_negative_prompts_rows_of_an_area_from_the_positive_ones(tiny_model, whole):
    """For an area the host copies the prompt that it limits, its identity included, to the other list of prompts."""
    size, one, _ = EVEN
    content, bank = scene(tiny_model, size)
    positive, negative = one.limit(tiny_conditioning(seed=6)), tiny_conditioning(seed=4)
    positive = positive + tiny_conditioning(seed=5) if whole else positive
    negative_rows = []
    for x, prompt, answer in first_calls(patch(tiny_model, bank, method="rsa"), content, positive, negative):
        plain = tiny_model.model.apply_model(x, content.sigmas[:1], c_crossattn=prompt, transformer_options={})
        negative_rows.append(torch.equal(prompt, negative[0][0]))
        assert (difference(answer - x, plain - x) < 1e-5) == negative_rows[-1]
    assert {True, False} == set(negative_rows)


@pytest.mark.parametrize(
    "limit, named",
    [
        (lambda prompt: ConditioningSetArea().append(prompt, 64, 64, 0, 0, 1.0)[0], "an area"),
        (lambda prompt: ConditioningSetMask().append(prompt, torch.ones(1, 8, 12), "default", 1.0)[0], "a mask"),
        (lambda prompt: ConditioningSetTimestepRange().set_range(prompt, 0.0, 0.5)[0], "a part of the steps"),
    ],
    ids=["area", "mask", "steps"],
)
def test_an_inversion_of_a_part_is_refused(tiny_model, limit, named):
    """Outside of it the model would not be called, and the noise would mean nothing."""
    with pytest.raises(MagicStyleError, match=f"conditioning is limited to {named}.*whole picture"):
        inversion(tiny_model, picture(), conditioning=limit(tiny_conditioning()))

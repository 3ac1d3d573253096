"""Every published fusion, run to the end in a real ComfyUI, against its formula in plain torch."""

import pytest
import torch
from magicstyle.tests.host.fusion_oracle import RULES, eps, invert, rsa, stylize
from magicstyle.tests.host.test_stylization import SCALE, difference, patch, picture, sample, scene
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas

STEPS = 5
# the knobs that the papers have no place for, at rest
PUBLISHED = {"style_weight": 1.0, "query_preservation": 0.0}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", RULES)
def test_each_method_equals_its_formula_after_a_full_run(tiny_model, name):
    content, bank = scene(tiny_model)
    knobs = {"query_preservation": 0.75, "temperature": 1.5} if name == "styleid" else PUBLISHED
    ours = sample(patch(tiny_model, bank, method=name, **knobs), content) * SCALE
    latents = picture() * SCALE, picture(seed=9) * SCALE
    context = tiny_conditioning()[0][0]
    theirs = stylize(tiny_model.model, *latents, tiny_sigmas(tiny_model, STEPS), context, RULES[name])
    assert difference(ours, theirs) <= 1e-4
    assert difference(sample(tiny_model, content) * SCALE, theirs) > 1e-3


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

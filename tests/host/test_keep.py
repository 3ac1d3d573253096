"""A mask that keeps a part of the portrait, in a real ComfyUI."""

import pytest
import torch
import torch.nn.functional as F
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS
from magicstyle.core.sources import KEPT_WEIGHT
from magicstyle.nodes.patcher import PatchFFA
from magicstyle.tests.cases import some
from magicstyle.tests.core.oracle import cat, dense_attention
from magicstyle.tests.host.fusion_oracle import stylize
from magicstyle.tests.host.scene import SCALE, difference, inversion, picture, sample, scene
from magicstyle.tests.host.test_areas import EVEN
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas

STEPS, GRID = 5, (8, 12)
CIRCLE = ((torch.arange(50)[:, None] - 20) ** 2 + (torch.arange(70) - 40) ** 2 < 300).float()
SOFT = torch.linspace(0, 1, 70).expand(50, 70)
KNOBS = {"style_weight": 1.0, "content_weight": 0.001, "query_preservation": 0.25, "temperature": 1.5}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def kept(model, bank, mask, strength=1.0, layers="output.6-11", method="ffa", **knobs):
    """The node's own output."""
    given = {**KNOBS, "layers": layers, "start_percent": 0.0, "end_percent": 1.0, **knobs}
    return PatchFFA.execute(model, bank, method=method, keep=mask, keep_strength=strength, **given).result[0]


def ffa_keeping(mask, strength):
    """ffa in plain torch, its mask averaged over each layer's tokens by hand."""

    def rule(live, content, style, heads, done, t):
        n = live[0].shape[1]
        grid = next(g for g in (GRID, (4, 6), (2, 3), (1, 2)) if g[0] * g[1] == n)
        k = strength * F.adaptive_avg_pool2d(mask[None, None], grid).reshape(1, n, 1)
        g = 0.25 + 0.75 * k
        weight = 0.001 + (KEPT_WEIGHT - 0.001) * k
        mass = torch.cat([torch.ones(1, n, style[1].shape[1]), weight.expand(1, n, content[1].shape[1])], 2)
        q = g * content[0] + (1 - g) * live[0]
        return dense_attention(q, cat(style[1], content[1]), cat(style[2], content[2]), heads, tau=1.5, mass=mass)

    return rule


@pytest.mark.parametrize("mask, strength", [(CIRCLE, 1.0), (SOFT, 0.6)], ids=["circle", "soft"])
def test_a_run_equals_the_formula(tiny_model, mask, strength):
    content, bank = scene(tiny_model)
    ours = sample(kept(tiny_model, bank, mask, strength), content) * SCALE
    latents, context = (picture() * SCALE, picture(seed=9) * SCALE), tiny_conditioning()[0][0]
    theirs = stylize(tiny_model.model, *latents, tiny_sigmas(tiny_model, STEPS), context, ffa_keeping(mask, strength))
    assert difference(ours, theirs) <= 1e-4
    assert difference(sample(kept(tiny_model, bank, None), content) * SCALE, theirs) > 1e-3


@pytest.mark.parametrize("method", some(FUSIONS, "ffa", "sac", "diffstyler", "mast", "gar"))
def test_nothing_to_keep_is_bit_identical_to_no_mask_and_something_is_not(tiny_model, method):
    # another prompt than the inversion's, so that the running picture leaves the portrait
    content, bank = scene(tiny_model)

    def run(mask, strength=1.0):
        return sample(
            kept(tiny_model, bank, mask, strength, method=method), content, positive=tiny_conditioning(seed=5)
        )

    plain = run(None)
    assert torch.equal(run(torch.zeros(1, 64, 96)), plain)
    assert torch.equal(run(CIRCLE, 0.0), plain)
    assert difference(run(CIRCLE), plain) > 1e-5


WHOLE = F.pad(CIRCLE, (0, 26, 0, 14))  # as many pixels as the picture
KINDS = {
    "bool": WHOLE.bool(),
    "uint8": (WHOLE * 255).to(torch.uint8),
    "other size": WHOLE[None].repeat_interleave(3, 1).repeat_interleave(2, 2),
    "outside [0, 1]": WHOLE * 5 - 1,
    "with a batch": WHOLE[None],
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_any_kind_mean_the_same(tiny_model, kind):
    content, bank = scene(tiny_model, steps=2)
    results = [sample(kept(tiny_model, bank, mask), content) for mask in (KINDS[kind], WHOLE)]
    assert difference(*results) < 1e-5


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_each_picture_of_a_batch_has_its_own_mask(tiny_model, cfg):
    """A batch of two with two masks is each picture alone with its own, whatever rows the host joins."""
    masks = torch.stack([CIRCLE, SOFT])
    latents = picture(batch=2)
    style = inversion(tiny_model, picture(seed=9), 2)
    prompts = tiny_conditioning(seed=5), tiny_conditioning(seed=4)

    def run(latent, mask):
        content = inversion(tiny_model, latent, 2)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        return sample(kept(tiny_model, bank, mask), content, cfg, *prompts)

    together = run(latents, masks)
    alone = torch.cat([run(latents[[i]], masks[[i]]) for i in range(2)])
    assert difference(together, alone) < 1e-4
    assert difference(run(latents, masks[:1]), together) > 1e-4


def test_replayed_latents_keep_as_stored_features_do(tiny_model):
    results = []
    for storage in ("features", "latents"):
        content, bank = scene(tiny_model, steps=2, storage=storage)
        results.append(sample(kept(tiny_model, bank, CIRCLE), content))
    assert difference(*results) < 1e-5


def test_two_patchers_keep_each_in_its_own_layers(tiny_model):
    content, bank = scene(tiny_model, steps=2)
    together = sample(kept(tiny_model, bank, CIRCLE), content)
    first = kept(tiny_model, bank, CIRCLE, layers="output.6-8")
    both = sample(kept(first, bank, CIRCLE, layers="output.9-11"), content)
    assert difference(both, together) < 1e-5
    other = sample(kept(first, bank, None, layers="output.9-11"), content)
    assert difference(other, together) > 1e-4


def test_an_area_sees_its_own_part_of_the_mask(tiny_model):
    """A mask on the one area changes nothing where only the other is sampled."""
    size, area, _ = EVEN
    content = inversion(tiny_model, picture(*size), 2)
    style = inversion(tiny_model, picture(seed=9), 2)
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    inside, outside = torch.zeros(2, 8 * size[0], 8 * size[1])
    rows, columns = slice(8 * area.y, 8 * (area.y + area.height)), slice(8 * area.x, 8 * (area.x + area.width))
    inside[rows, columns] = 1.0
    outside[:] = 1.0
    outside[rows, columns] = 0.0
    prompt = area.limit(tiny_conditioning(seed=5))
    seen = []
    for mask in (None, inside, outside, torch.ones_like(inside)):
        predicted = []
        model = kept(tiny_model, bank, mask)
        sample(model, content, positive=prompt, callback=lambda i, x0, x, n, p=predicted: p.append(x0.clone()))
        seen.append(area.latent(predicted[0]))
    assert difference(seen[2], seen[0]) < 1e-5
    assert difference(seen[1], seen[3]) < 1e-5
    assert difference(seen[1], seen[0]) > 1e-4


def test_a_bank_without_queries_says_what_masactrl_needs_to_keep(tiny_model):
    content = inversion(tiny_model, picture(), 2, roles="keys and values")
    bank = FeatureBank(content.features, ())
    with pytest.raises(MagicStyleError, match="reads the content's queries, which the bank does not hold"):
        kept(tiny_model, bank, CIRCLE, method="masactrl")


def test_as_many_masks_as_pictures(tiny_model):
    content, bank = scene(tiny_model, steps=2)
    with pytest.raises(MagicStyleError, match="keep holds 2 masks and the content 1 pictures"):
        kept(tiny_model, bank, torch.ones(2, 8, 8))

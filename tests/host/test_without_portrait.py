"""A prompt in a style, without a portrait, in a real ComfyUI: against attention overrides that are written by hand."""

import logging
from functools import cache, partial

import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.bank_file import load_bank, save_bank
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.regions import keep_mask
from magicstyle.nodes.bank import AddStyle, FeatureBankNode
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.nodes.preview import preview
from magicstyle.nodes.report import bank_summary
from magicstyle.tests.core.oracle import adain
from magicstyle.tests.host import family_scene as family
from magicstyle.tests.host.families import family_latent, family_model, family_prompt, family_sigmas
from magicstyle.tests.host.flow_oracle import FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import ALONE, KNOBS, Style
from magicstyle.tests.host.fusion_oracle import DECODER, invert
from magicstyle.tests.host.neighbours import Tiles, controlnet, hint, lora_name, stock, windows, wrapped
from magicstyle.tests.host.scene import SCALE, difference, inversion, own_lines, picture
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_sigmas

from nodes import ConditioningSetArea, ControlNetApplyAdvanced

STEPS, SIZE, STYLE = 4, (10, 14), (8, 12)  # the picture is of another size than the style
SAME, CLOSE = 1e-6, 1e-4
METHODS = [name for name, method in FUSIONS.items() if not method.needs_portrait]
# the temperature is the style's alone, and nothing of a portrait is preserved
TAU, LIVE_WEIGHT = 1.5, 0.2
KNOBS_OF = {"ffa": {"content_weight": LIVE_WEIGHT}, "mast": {"content_weight": LIVE_WEIGHT}}
LEFT = torch.cat([torch.ones(1, 8, 6), torch.zeros(1, 8, 6)], 2)


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def said(caplog):
    with caplog.at_level(logging.WARNING, "magicstyle"):
        yield lambda: own_lines(caplog)


@cache
def noise(batch=1, size=SIZE):
    return torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(3))


def style_of(model, storage="features", **more):
    return inversion(model, picture(*STYLE, seed=9), STEPS, storage=storage, **more).features


def bank_of(model, storage="features", **entry):
    return FeatureBank(None, (StyleEntry(style_of(model, storage), **entry),))


def patched(model, bank, keep=None, **knobs):
    return install_fusion(model, bank, FusionSettings(**knobs), "output.6-11", 0.0, 1.0, keep=keep)


def painted(model, cfg=1.0, batch=1, size=SIZE, positive=None, sampler="ddim", **more):
    """From fresh noise, which the host adds."""
    fresh = noise(batch, size)
    sigmas = tiny_sigmas(model, STEPS)
    return run_sampler(model, torch.zeros_like(fresh), sigmas, cfg, positive, sampler=sampler, noise=fresh, **more)


def by_hand(model, rule, conditional=False):
    """The model with attn1_replace patches that know the style's keys and values by the noise level."""
    grid = tiny_sigmas(model, STEPS)[:-1]
    _, kept = invert(model.model, picture(*STYLE, seed=9) * SCALE, grid, tiny_conditioning()[0][0])

    def inject(q, k, v, options):
        step = int((grid - options["sigmas"][0].cpu()).abs().argmin())
        style = [x.expand(q.shape[0], -1, -1) for x in kept[step, options["block"]]]
        out = rule((q, k, v), style, options["n_heads"])
        if not conditional:
            return out
        own = optimized_attention(q, k, v, options["n_heads"])
        rows = torch.tensor(options["cond_or_uncond"]).repeat_interleave(q.shape[0] // len(options["cond_or_uncond"]))
        return torch.where(rows[:, None, None] == 0, out, own)

    model = model.clone()
    for block, number in DECODER:
        model.set_model_attn1_replace(inject, block, number)
    return model


def joined(live, style, heads, emphasis=1.0, mass=0.0):
    """The style's keys, times a number, beside the picture's, whose logits have the log of a mass added."""
    k, v = (torch.cat([a, b], 1) for a, b in ((emphasis * style[1], live[1]), (style[2], live[2])))
    bias = torch.cat([torch.zeros(1, style[1].shape[1]), torch.full((1, live[1].shape[1]), mass)], 1)
    return optimized_attention(live[0], k, v, heads, mask=bias.expand(live[0].shape[1], -1) if mass else None)


def alone(live, style, heads, tau=1.0):
    return optimized_attention(live[0], tau * style[1], style[2], heads)


def aligned(live, style, heads):
    return joined((adain(live[0], style[0]), adain(live[1], style[1]), live[2]), style, heads)


def by_masses(live, style, heads):
    mass = 1.0 / (1.0 + LIVE_WEIGHT)
    return mass * alone(live, style, heads, TAU) + (1.0 - mass) * optimized_attention(*live, heads)


def with_the_styles_statistics(live, style, heads, share=0.65):
    parts = (share * adain(own, its) + (1.0 - share) * own for own, its in zip(live, style, strict=True))
    return optimized_attention(*parts, heads)


def under_its_queries(live, style, heads):
    """The style's queries, stretched over the picture's grid of as many halvings."""
    sides = [tuple(-(-side // stride) for side in whole) for whole in (STYLE, SIZE) for stride in (1, 2, 4, 8)]
    theirs, own = (next(g for g in sides if g[0] * g[1] == x.shape[1]) for x in (style[0], live[0]))
    cells = style[0].transpose(1, 2).unflatten(2, theirs)
    queries = torch.nn.functional.interpolate(cells, size=own, mode="bilinear", antialias=True).flatten(2)
    return optimized_attention(queries.transpose(1, 2), live[1], live[2], heads)


BY_HAND = {
    "nvqg": under_its_queries,
    "gar": with_the_styles_statistics,
    "mast": by_masses,
    "ffa": partial(joined, emphasis=TAU, mass=float(torch.tensor(LIVE_WEIGHT).log())),
    "styleid": partial(alone, tau=TAU),
    "sac": alone,
    "seac": partial(joined, emphasis=1.2),
    "zstar": partial(joined, emphasis=1.2),
    "style_aligned": aligned,
    "rsa": partial(joined, mass=-3.0),
}


# --- SD1.5 ---------------------------------------------------------------------------------------------------------


def test_every_method_that_reads_a_style_is_here():
    assert set(METHODS) == set(BY_HAND) == set(ALONE)


@pytest.mark.parametrize("cfg, batch", [(1.0, 1), (3.0, 2)])
@pytest.mark.parametrize("method", METHODS)
def test_a_prompt_in_a_style_equals_an_override_written_by_hand(tiny_model, method, cfg, batch):
    ours = patched(tiny_model, bank_of(tiny_model), method=method, **KNOBS_OF.get(method, {}))
    theirs = by_hand(tiny_model, BY_HAND[method], FUSIONS[method].conditional)
    plain, found, expected = (painted(model, cfg, batch) for model in (tiny_model, ours, theirs))
    assert difference(found, expected) <= SAME
    assert difference(found, plain) > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_style_left_out_is_the_models_own_picture(tiny_model, method):
    plain, knobs = painted(tiny_model, 3.0, 2), KNOBS_OF.get(method, {})
    idle = patched(tiny_model, bank_of(tiny_model), method=method, style_weight=0.0, **knobs)
    assert torch.equal(painted(idle, 3.0, 2), plain)
    nowhere = patched(tiny_model, bank_of(tiny_model, region=torch.zeros(1, 8, 8)), method=method, **knobs)
    assert difference(painted(nowhere, 3.0, 2), plain) <= SAME


@pytest.mark.parametrize("method", METHODS)
def test_keep_is_the_region_that_is_left_over(tiny_model, method):
    bank, knobs = bank_of(tiny_model), {"method": method, **KNOBS_OF.get(method, {})}
    kept = patched(tiny_model, bank, keep_mask(LEFT, 1.0, None), **knobs)
    right = patched(tiny_model, bank_of(tiny_model, region=1.0 - LEFT), **knobs)
    everywhere = patched(tiny_model, bank, torch.ones(1, 4, 4), **knobs)
    assert difference(painted(kept), painted(right)) <= SAME
    assert difference(painted(everywhere), painted(tiny_model)) <= SAME
    assert difference(painted(kept), painted(tiny_model)) > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_latents_give_what_features_give(tiny_model, method):
    runs = [
        painted(patched(tiny_model, bank_of(tiny_model, s), method=method), 3.0, 2) for s in ("features", "latents")
    ]
    assert difference(*runs) <= CLOSE


def test_a_region_and_a_style_mask_equal_an_override_written_by_hand(tiny_model):
    """Half the picture is styled, from half of the style; the grids are those of SIZE, once and halved."""
    region = torch.zeros(1, *SIZE)
    region[..., : SIZE[1] // 2 + 1] = 1.0  # cuts the tokens of the coarser grid: their weight is a half

    def masked(live, style, heads):
        stride = 1 if live[0].shape[1] == SIZE[0] * SIZE[1] else 2
        cover = torch.nn.functional.avg_pool2d(region, stride).flatten()[:, None]
        use = torch.nn.functional.avg_pool2d(LEFT, stride).flatten()[None, :]
        logs = torch.cat([(cover * use).clamp(min=1e-13).log(), torch.zeros(len(cover), len(cover))], 1)
        k, v = (torch.cat([a, b], 1) for a, b in ((1.2 * style[1], live[1]), (style[2], live[2])))
        return optimized_attention(live[0], k, v, heads, mask=logs)

    bank = bank_of(tiny_model, region=region, style_mask=LEFT)
    ours, theirs = patched(tiny_model, bank, method="zstar"), by_hand(tiny_model, masked)
    assert difference(painted(ours, 3.0), painted(theirs, 3.0)) <= SAME
    assert difference(painted(ours, 3.0), painted(patched(tiny_model, bank_of(tiny_model), method="zstar"), 3.0)) > 1e-4


def test_two_halves_of_a_style_are_the_style(tiny_model):
    entry = bank_of(tiny_model).styles[0]._replace(weight=0.5)
    whole, halves = bank_of(tiny_model), FeatureBank(None, (entry, entry))
    assert halves.numbers == (0, 0) and halves.name(0) == "style 1"
    runs = [painted(patched(tiny_model, bank, method="zstar")) for bank in (whole, halves)]
    assert difference(*runs) <= SAME


def test_two_styles_are_two_sources(tiny_model):
    other = inversion(tiny_model, picture(12, 6, seed=4), STEPS).features
    two = bank_of(tiny_model).with_style(StyleEntry(other, 2.0))
    assert two.name(1) == "style 2" and len(two.pictures) == 2
    one, both = (painted(patched(tiny_model, bank, method="zstar")) for bank in (bank_of(tiny_model), two))
    turned = painted(patched(tiny_model, FeatureBank(None, two.styles[::-1]), method="zstar"))
    assert difference(both, turned) <= SAME and difference(both, one) > 1e-3


def test_pictures_of_a_batch_have_styles_and_regions_of_their_own(tiny_model):
    styles = torch.cat([picture(*STYLE, seed=seed) for seed in (9, 4)])
    several = inversion(tiny_model, styles, STEPS).features
    regions = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)])
    together = painted(patched(tiny_model, FeatureBank(None, (StyleEntry(several),)), method="zstar"), batch=2)
    apart = painted(patched(tiny_model, bank_of(tiny_model, region=regions), method="zstar"), batch=2)
    single = painted(patched(tiny_model, bank_of(tiny_model), method="zstar"), batch=2)
    plain = painted(tiny_model, batch=2)
    assert difference(together[:1], single[:1]) <= SAME and difference(together[1:], single[1:]) > 1e-3
    assert difference(apart[:1], single[:1]) <= SAME and difference(apart[1:], plain[1:]) <= SAME


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m_sde", "heun"])
def test_any_sampler_and_any_schedule_go(tiny_model, said, sampler):
    fresh = noise()
    ours = patched(tiny_model, bank_of(tiny_model), method="zstar")
    runs = [
        run_sampler(m, 0 * fresh, tiny_sigmas(tiny_model, STEPS), 3.0, sampler=sampler, noise=fresh)
        for m in (ours, tiny_model)
    ]
    assert bool(torch.isfinite(runs[0]).all()) and difference(*runs) > 1e-3
    assert said() == []


def test_a_picture_that_is_noised_in_part_is_painted_over(tiny_model, said):
    ours = patched(tiny_model, bank_of(tiny_model), method="zstar")
    sigmas = tiny_sigmas(tiny_model, STEPS)[1:]
    portrait, fresh = picture(*SIZE, seed=5), noise()
    runs = [run_sampler(m, portrait, sigmas, 3.0, noise=fresh) for m in (ours, tiny_model)]
    assert difference(*runs) > 1e-3 and said() == []


# --- beside other nodes --------------------------------------------------------------------------------------------


def test_an_area_of_the_picture_is_painted_in_the_style(tiny_model):
    positive = ConditioningSetArea().append(tiny_conditioning(), 64, 48, 32, 16, 1.0)[0]
    positive = positive + tiny_conditioning(seed=6)
    ours, theirs = (
        patched(tiny_model, bank_of(tiny_model), method="zstar"),
        by_hand(tiny_model, BY_HAND["zstar"]),
    )
    assert difference(*(painted(model, 3.0, positive=positive) for model in (ours, theirs))) <= SAME


@pytest.mark.parametrize("tiles", [Tiles(8, 4), Tiles(7, 3, shift=2)], ids=["", "shifted"])
def test_tiles_of_another_node_are_painted_in_the_style(tiny_model, said, tiles):
    ours, theirs = (
        patched(tiny_model, bank_of(tiny_model), method="zstar"),
        by_hand(tiny_model, BY_HAND["zstar"]),
    )
    found, expected = (painted(wrapped(model, tiles), 3.0, size=(16, 16)) for model in (ours, theirs))
    assert difference(found, expected) <= SAME and said() == []


@pytest.mark.parametrize("dim", [2, 3])
def test_context_windows_over_the_picture_are_painted_in_the_style(tiny_model, said, dim):
    ours, theirs = (
        patched(tiny_model, bank_of(tiny_model), method="zstar"),
        by_hand(tiny_model, BY_HAND["zstar"]),
    )
    found, expected = (painted(windows(model, 8, 4, dim), 3.0, size=(16, 16)) for model in (ours, theirs))
    assert difference(found, expected) <= SAME and said() == []


def test_a_region_is_found_again_in_the_tiles_of_another_node(tiny_model, said):
    """The left half is styled, and another node shows the model each half by itself."""
    shown = []

    def halves(apply_model, given):
        out = []
        for number, part in enumerate(given["input"].chunk(2, -1)):
            shown.append(number)
            out.append(apply_model(part.contiguous(), given["timestep"], **given["c"]))
        return torch.cat(out, -1)

    def left_alone(live, style, heads):
        return optimized_attention(*live, heads) if shown[-1] else BY_HAND["zstar"](live, style, heads)

    region = torch.cat([torch.ones(1, 16, 8), torch.zeros(1, 16, 8)], 2)
    ours = patched(tiny_model, bank_of(tiny_model, region=region), method="zstar")
    theirs = by_hand(tiny_model, left_alone)
    found, expected = (painted(wrapped(model, halves), 3.0, size=(16, 16)) for model in (ours, theirs))
    assert difference(found, expected) <= SAME and said() == []


def test_what_another_node_changes_of_the_latent_is_painted_in_the_style_too(tiny_model, said):
    """Half the size in one call, whose place in the picture nobody knows: a style that acts everywhere needs none."""

    def smaller(apply_model, given):
        x = torch.nn.functional.avg_pool2d(given["input"], 2)
        out = apply_model(x, given["timestep"], **given["c"])
        return torch.nn.functional.interpolate(out, scale_factor=2)

    ours, theirs = (
        patched(tiny_model, bank_of(tiny_model), method="zstar"),
        by_hand(tiny_model, BY_HAND["zstar"]),
    )
    found, expected = (painted(wrapped(model, smaller), 3.0, size=(16, 16)) for model in (ours, theirs))
    assert difference(found, expected) <= SAME and said() == []


def with_lora(model):
    given = {"lora_name": lora_name(), "strength_model": 1.0, "strength_clip": 0.0}
    return stock("nodes.LoraLoader", model=model, clip=None, **given)[0]


def test_a_lora_that_comes_after_the_inversion_leaves_the_style_as_it_was(tiny_model):
    banks = [bank_of(tiny_model, storage) for storage in ("features", "latents")]
    runs = [painted(patched(with_lora(tiny_model), bank, method="zstar"), 3.0) for bank in banks]
    assert difference(*runs) <= CLOSE
    assert difference(runs[0], painted(patched(tiny_model, banks[0], method="zstar"), 3.0)) > 1e-3


def test_a_controlnet_and_a_lora_take_part(tiny_model):
    model = with_lora(tiny_model)
    guided = ControlNetApplyAdvanced().apply_controlnet(
        tiny_conditioning(), tiny_conditioning(seed=3), controlnet(), hint(grid=SIZE), 1.0, 0.0, 1.0
    )
    for storage in ("features", "latents"):
        ours = patched(model, bank_of(model, storage), method="zstar")
        found = painted(ours, 3.0, positive=guided[0], negative=guided[1])
        assert difference(found, painted(ours, 3.0)) > 1e-3
        assert difference(found, painted(model, 3.0, positive=guided[0], negative=guided[1])) > 1e-3


# --- what is refused, and what is said -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name in FUSIONS if name not in METHODS])
def test_a_method_of_the_portrait_alone_is_refused(tiny_model, method):
    need = "matches the style with the portrait" if method == "cocodiff" else "draws from the portrait alone"
    with pytest.raises(MagicStyleError, match=f"method {method} {need}, and the bank has none"):
        patched(tiny_model, bank_of(tiny_model), method=method)


def test_an_empty_bank_is_refused():
    with pytest.raises(MagicStyleError, match="neither a content nor a style: connect"):
        FeatureBankNode.execute()


def test_the_node_makes_a_bank_without_a_portrait(tiny_model, said):
    bank, summary = FeatureBankNode.execute(style=style_of(tiny_model), region=torch.ones(3, 8, 8)).args
    assert bank.content is None and bank.styles[0].region.shape[0] == 3
    assert summary.startswith("no portrait: the prompt says what is painted\nstyle 1: ")
    assert len(AddStyle.execute(bank, style_of(tiny_model), 1.0).args[0].styles) == 2
    assert said() == []
    with pytest.raises(MagicStyleError, match="the region of style 1 holds 3 masks but latent_image 2 pictures"):
        painted(patched(tiny_model, bank, method="zstar"), batch=2)
    with pytest.raises(MagicStyleError, match="keep holds 3 masks but latent_image 2 pictures"):
        painted(patched(tiny_model, bank_of(tiny_model), torch.ones(3, 8, 8), method="zstar"), batch=2)


def test_a_latent_of_another_model_is_refused(tiny_model):
    ours, fresh = patched(tiny_model, bank_of(tiny_model), method="zstar"), torch.randn(1, 16, *SIZE)
    with pytest.raises(MagicStyleError, match="16 channels but the style 1 was inverted with 4: encode a picture, or"):
        run_sampler(ours, fresh * 0, tiny_sigmas(tiny_model, STEPS), noise=fresh)


def test_a_start_without_noise_is_named(tiny_model, said):
    run_sampler(patched(tiny_model, bank_of(tiny_model), method="zstar"), 0 * noise(), tiny_sigmas(tiny_model, STEPS))
    assert (
        len(said()) == 1 and "an empty latent without noise, and the bank has no portrait: turn add_noise" in said()[0]
    )


def test_the_styles_own_noise_is_named(tiny_model, said):
    style = inversion(tiny_model, picture(*STYLE, seed=9), STEPS)
    bank = FeatureBank(None, (StyleEntry(style.features),))
    run_sampler(patched(tiny_model, bank, method="zstar"), style.noise["samples"], style.sigmas)
    assert len(said()) == 1 and "starts from the noise of style 1, so that the style picture is painted" in said()[0]


def test_only_levels_that_are_far_from_the_styles_are_named(tiny_model, said):
    ours, fresh = patched(tiny_model, bank_of(tiny_model), method="zstar"), noise()
    sigmas = tiny_sigmas(tiny_model, STEPS)
    run_sampler(ours, 0 * fresh, torch.cat([1.1 * sigmas[1:-1], sigmas[-1:]]), noise=fresh)
    assert said() == []
    run_sampler(ours, 0 * fresh, tiny_sigmas(tiny_model, 5, "karras"), noise=fresh)
    assert len(said()) == 1 and said()[0].endswith("and choose method ddim or noising there.")


def test_an_empty_latent_has_no_noise_to_recolour():
    with pytest.raises(MagicStyleError, match="content is an empty latent, which has no portrait's noise"):
        InitialLatent.execute({"samples": 0 * noise()}, {"samples": noise()}, "adain", 1.0)


def test_a_saved_style_paints_what_it_painted(tiny_model, tmp_path):
    for storage in ("features", "latents"):
        bank = bank_of(tiny_model, storage, region=LEFT)
        for content in (True, False):
            save_bank(bank, tmp_path / "style.safetensors", content=content)
            loaded = load_bank(tmp_path / "style.safetensors")
            assert loaded.content is None and bank_summary(loaded).startswith("no portrait")
            runs = [painted(patched(tiny_model, each, method="zstar")) for each in (bank, loaded)]
            assert difference(*runs) <= 1e-3  # a file keeps latents in half precision


def test_the_preview_shows_the_styles_alone(tiny_model):
    bank = FeatureBank(style_of(tiny_model), bank_of(tiny_model).styles)
    alone, both = preview(bank_of(tiny_model), "output.9", 0), preview(bank, "output.9", 0)
    assert alone.shape[2] < both.shape[2] / 2


# --- transformers ----------------------------------------------------------------------------------------------------


@cache
def flow_bank(name, storage="features", region=None):
    style = family.inverted(name, family.style_latent(name), layers="all", storage=storage)
    return FeatureBank(None, (StyleEntry(style.features, region=region),))


@pytest.fixture(scope="module", autouse=True)
def forget_banks():
    """Models that outlive the host's modules complain."""
    yield
    flow_bank.cache_clear()


def flow_noise(name, batch=1, size=(12, 8)):
    x = torch.zeros_like(family_latent(name, size, batch=batch))
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(3))


def flow_painted(name, model, cfg=1.0, batch=1):
    fresh, sigmas = flow_noise(name, batch), family_sigmas(name, 2)
    return run_sampler(model, torch.zeros_like(fresh), sigmas, cfg, *family.prompts(name), "euler", noise=fresh)


def flow_by_hand(name, method, cfg=1.0, batch=1, region=None):
    sigmas, start = family_sigmas(name, 2), flow_noise(name, batch)
    patcher = Patcher(ALONE[method], (Style(family.style_latent(name), region=region),))
    return FlowOracle(name).paint(start, (patcher,), sigmas, family_prompt(name), *family.prompts(name), cfg)


@pytest.mark.parametrize("cfg, batch, storage", [(1.0, 1, "features"), (3.0, 2, "latents")])
@family.every()
def test_a_family_paints_a_prompt_in_a_style_as_the_oracle_does(name, cfg, batch, storage):
    ours = flow_painted(name, family.patched(name, flow_bank(name, storage), method="zstar"), cfg, batch)
    assert difference(ours, flow_by_hand(name, "zstar", cfg, batch)) <= 1e-5
    assert difference(ours, flow_painted(name, family_model(name), cfg, batch)) > 1e-3


@pytest.mark.parametrize("method", METHODS)
@family.every("flux", "qwen")
def test_each_method_paints_a_prompt_as_the_oracle_does(name, method):
    ours = flow_painted(
        name, family.patched(name, flow_bank(name), **({"method": method} | KNOBS.get(method, {}))), 3.0
    )
    assert difference(ours, flow_by_hand(name, method, 3.0)) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
@family.every("flux", "qwen")
def test_a_transformer_without_the_style_paints_its_own_picture(name, method):
    plain = flow_painted(name, family_model(name), 3.0)
    idle = family.patched(name, flow_bank(name), method=method, style_weight=0.0)
    assert torch.equal(flow_painted(name, idle, 3.0), plain)
    bank = FeatureBank(None, (flow_bank(name).styles[0]._replace(region=torch.zeros(1, 4, 4)),))
    assert difference(flow_painted(name, family.patched(name, bank, method=method), 3.0), plain) <= SAME


@family.every("flux", "qwen")
def test_a_region_on_a_transformer_equals_the_oracle(name):
    region = torch.zeros(12, 8)
    region[:6] = 1.0
    bank = FeatureBank(None, (flow_bank(name).styles[0]._replace(region=region[None]),))
    ours = flow_painted(name, family.patched(name, bank, **KNOBS["ffa"]), 3.0)
    assert difference(ours, flow_by_hand(name, "ffa", 3.0, region=region)) <= 1e-5


@family.every("flux", "qwen")
def test_an_area_of_a_transformers_picture_goes_without_a_portrait(name, said):
    positive, negative = family.prompts(name)
    limited = ConditioningSetArea().append(positive, 64, 64, 0, 32, 1.0)[0] + negative
    fresh, sigmas = flow_noise(name), family_sigmas(name, 2)
    runs = [
        run_sampler(m, 0 * fresh, sigmas, 1.0, limited, negative, "euler", noise=fresh)
        for m in (family.patched(name, flow_bank(name), method="zstar"), family_model(name))
    ]
    assert bool(torch.isfinite(runs[0]).all()) and difference(*runs) > 1e-3 and said() == []


@family.every("flux", "qwen")
def test_a_style_without_an_inversion_serves(name):
    style = family.inverted(name, family.style_latent(name), layers="all", method="noising")
    bank = FeatureBank(None, (StyleEntry(style.features),))
    ours = flow_painted(name, family.patched(name, bank, method="zstar"))
    assert bool(torch.isfinite(ours).all()) and difference(ours, flow_painted(name, family_model(name))) > 1e-3

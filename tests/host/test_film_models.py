"""Which models take films: miniatures of Wan 2.2, two models that hand over, what is refused, and their memory."""

import functools
import importlib
import logging
from dataclasses import replace
from types import SimpleNamespace

import comfy.ops
import pytest
import torch
from magicstyle.attention_patches import views
from magicstyle.attention_patches.architectures import find
from magicstyle.attention_patches.comfy import install_start
from magicstyle.attention_patches.fusion_patch import FusionPatch, SigmaWindow
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.inversion import run
from magicstyle.nodes.inversion.order import InversionOrder
from magicstyle.tests.host.families import FAMILIES, built, family_prompt
from magicstyle.tests.host.family_scene import difference, inverted, patched
from magicstyle.tests.host.film_scene import DESCENT, FRAMES, WAN, film, style
from magicstyle.tests.host.tiny import run_sampler

EMPTY, WORDS = family_prompt(WAN), family_prompt(WAN, seed=6)
ZSTAR = {"method": "zstar"}
FIVE_CHANNELS = 48
FIVE = replace(
    FAMILIES[WAN],
    host="WAN22_T2V",
    unet=FAMILIES[WAN].unet | {"in_dim": FIVE_CHANNELS, "out_dim": FIVE_CHANNELS},
    channels=FIVE_CHANNELS,
)
SIZE_1_3B = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@functools.cache
def made(name):
    """Two models of one size with other weights, as Wan 2.2's are, and the 5B's miniature."""
    return built(FIVE) if name == "5b" else built(FAMILIES[WAN], seed=7 if name == "high" else 1)


def inversion(number, latent, **more):
    usual = {"layers": "all", "sigmas": DESCENT, "storage": "latents"}
    return inverted(WAN, latent, model=made(number).clone(), **usual | more)


def fused(number, bank, **knobs):
    return patched(WAN, bank, model=made(number).clone(), **knobs)


def sampled(model, latent, sigmas=DESCENT, cfg=1.0, prompt=WORDS):
    return run_sampler(model, latent, sigmas, cfg, prompt, EMPTY, "euler")


# --- Wan 2.2, 5B -----------------------------------------------------------------------------------------------------


def wide(frames):
    """A latent of the 5B's 48 channels: three smooth films side by side."""
    return torch.cat([film(frames, seed=seed) for seed in (2, 12, 22)], dim=1)


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_wan_2_2_5b_takes_films(storage):
    content = inversion("5b", wide(FRAMES), storage=storage)
    picture = inversion("5b", wide(1), storage=storage)
    bank = FeatureBank(content.features, (StyleEntry(picture.features),))
    noise = content.noise["samples"]
    plain = sampled(install_start(made("5b").clone()), noise, prompt=EMPTY)
    own = {"style_weight": 0.0, "content_weight": 1.0, "query_preservation": 1.0, "temperature": 1.0}
    first = DESCENT[:2]
    one = [sampled(model, noise, first, prompt=EMPTY) for model in (fused("5b", bank, **own), made("5b").clone())]
    assert difference(*one) <= 1e-5
    acting = sampled(fused("5b", bank, **ZSTAR), noise, prompt=EMPTY)
    assert acting.shape == wide(FRAMES).shape and difference(acting, plain) > 1e-3


# --- two models that hand over ---------------------------------------------------------------------------------------


def test_two_models_hand_over_at_a_noise_level_each_with_its_own_patcher():
    """As two samplers do it: one model makes the first steps, the other goes on with what is left."""
    content = inversion("low", film())
    banks = {
        number: FeatureBank(None, (StyleEntry(inversion(number, style()).features),)) for number in ("high", "low")
    }
    noise, first, rest = content.noise["samples"], DESCENT[:2], DESCENT[1:]
    low = fused("low", banks["low"], **ZSTAR)
    in_two = sampled(low, sampled(low, noise, first), rest)
    assert difference(in_two, sampled(low, noise)) <= 1e-5
    left = sampled(fused("high", banks["high"], **ZSTAR), noise, first)
    plain = sampled(install_start(made("high").clone()), noise, first)
    assert difference(left, plain) > 1e-3
    ours, unstyled = (sampled(model, left, rest) for model in (low, install_start(made("low").clone())))
    assert difference(ours, in_two) > 1e-2 and difference(ours, unstyled) > 1e-3


def test_the_low_noise_model_alone_leads_back_from_below_the_handover():
    """The low half of a split schedule, for the inversion and the sampler."""
    levels = torch.linspace(0.6, 0.0, 13)
    content = inversion("low", film(), sigmas=levels)
    back = sampled(install_start(made("low").clone()), content.noise["samples"], levels, prompt=EMPTY)
    assert difference(back, film()) < 0.1


def test_a_style_that_the_other_model_inverted_is_recorded_by_that_one(caplog):
    """The features of the model that made them, with stored latents and with stored features alike."""
    noise = inversion("low", film()).noise["samples"]
    found = []
    for storage in ("features", "latents"):
        bank = FeatureBank(None, (StyleEntry(inversion("high", style(), storage=storage).features),))
        with caplog.at_level(logging.INFO, "magicstyle"):
            found.append(sampled(fused("low", bank, **ZSTAR), noise))
    assert difference(*found) <= 1e-4
    own = FeatureBank(None, (StyleEntry(inversion("low", style()).features),))
    assert difference(found[0], sampled(fused("low", own, **ZSTAR), noise)) > 1e-3


# --- what is refused -------------------------------------------------------------------------------------------------


def host_class(address):
    module, name = address.rsplit(".", 1)
    return getattr(importlib.import_module(f"comfy.ldm.{module}"), name)


def wan(**given):
    """A model of the host's own class without weights."""
    where = {"device": torch.device("meta"), "dtype": torch.float32, "operations": comfy.ops.disable_weight_init}
    net = host_class("wan.model.WanModel")(**WAN_SIZE, **given, **where)
    return SimpleNamespace(get_model_object=lambda _: net, model=SimpleNamespace())


WAN_SIZE = {name: FAMILIES[WAN].unet[name] for name in ("dim", "num_heads", "ffn_dim", "num_layers", "text_dim")}


@pytest.mark.parametrize(
    "address", ["wan.model.VaceWanModel", "lightricks.model.LTXVModel", "hunyuan_video.model.HunyuanVideo"]
)
def test_other_models_of_films_are_refused_by_name(address):
    kind = host_class(address)
    net = kind.__new__(kind)
    object.__setattr__(net, "patch_size", (1, 2, 2))
    sentence = f"model is a {kind.__name__}, whose attention is not known here: load a checkpoint of "
    with pytest.raises(MagicStyleError, match=sentence):
        find(SimpleNamespace(get_model_object=lambda _: net, model=SimpleNamespace()))


def test_wan_that_takes_a_picture_or_other_channels_besides_takes_no_films():
    for given in ({"model_type": "i2v", "in_dim": 36}, {"model_type": "t2v", "in_dim": 32}):
        assert not find(wan(out_dim=16, **given)).films
    assert find(wan(model_type="t2v")).films


# --- memory ----------------------------------------------------------------------------------------------------------


def test_what_81_frames_of_480x832_take_is_said_before_they_are_inverted(monkeypatch):
    """Wan 2.1 1.3B in its full size, without weights."""
    monkeypatch.setattr(run, "check_tokens", lambda *given: None)  # those that a CPU would take minutes for
    model = built(replace(FAMILIES[WAN], unet=FAMILIES[WAN].unet | SIZE_1_3B), device="meta")
    latent = torch.ones(1).expand(1, 16, 21, 60, 104)
    order = InversionOrder("content", model, {"samples": latent}, EMPTY, steps=20, scheduler="simple")
    plan = run.plan_inversion(order)
    (grid,) = {*plan.header.grids.values()}
    assert grid == (21, 30, 52) and grid.tokens == 32760
    gib = 32760 * 1536 * 3 * 2 * 20 * 30 / 2**30
    assert plan.budget.storage == "latents"
    assert f"features of every level were estimated at {gib:.1f} GiB" in plan.budget.reason, plan.budget.reason


@pytest.mark.parametrize("method", ["zstar", "ffa"])
def test_what_a_replay_holds_is_what_the_pack_reckons_with(method, monkeypatch):
    """Measured: the memory behind all tensors that a step's replays hold on to."""
    content = inversion("low", film())
    bank = FeatureBank(content.features, (StyleEntry(inversion("low", style()).features),))
    caught, catcher = [], views.Catcher
    monkeypatch.setattr(views, "Catcher", lambda *given, **more: caught.append(catcher(*given, **more)) or caught[-1])
    sampled(fused("low", bank, method=method), content.noise["samples"], DESCENT[:2], prompt=EMPTY)
    tensors = [
        tensor
        for each in caught
        for held in each._caught.values()
        for tensor in held.map(lambda x: x)
        if tensor is not None
    ]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    patch = FusionPatch(bank, FusionSettings(method), list(bank.layers), SigmaWindow(9.0, 0.0))
    assert sum(storages.values()) == patch.extra_bytes(find(made("low")).widths)

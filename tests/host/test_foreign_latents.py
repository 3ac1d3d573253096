"""Latents whose model answers otherwise than the one that samples: they give what stored features give."""

import logging
import math

import comfy.conds
import comfy.model_management
import comfy.model_sampling
import comfy.utils
import pytest
import torch
from comfy.patcher_extension import PatcherInjection
from magicstyle.attention_patches.comfy import recorded
from magicstyle.attention_patches.comfy.manner import answers_alike
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.bank_file import load_bank, save_bank
from magicstyle.banks.budget import FEATURES_EVERY, PictureNeed, settle_recording
from magicstyle.banks.level_groups import LevelGroups
from magicstyle.banks.stored_features import StoredFeatures, feature_bytes
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.nodes.host_cache import ram_usage
from magicstyle.nodes.inversion import run as inversion_run
from magicstyle.tests.host import family_scene
from magicstyle.tests.host.families import NEW_HOST, TEXT, family_latent, family_model, family_prompt
from magicstyle.tests.host.neighbours import lora_name, stock
from magicstyle.tests.host.scene import difference, inversion, patch, picture, sample
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_model

# of a layer that is not fused: of those that are, own keys and values are not read
LAYER = "output_blocks.3.1.transformer_blocks.0.attn1.to_v"
GIB = 2**30


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def said(caplog):
    """The pack's own lines in the log, as they come: (level, text)."""
    with caplog.at_level(logging.INFO, "magicstyle"):
        yield lambda: [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "magicstyle"]


def scene(model, storage, steps=5, **more):
    content = inversion(model, picture(), steps, storage=storage, **more)
    style = inversion(model, picture(10, 7, seed=9), steps, storage=storage, **more)
    return content, FeatureBank(content.features, (StyleEntry(style.features),))


def with_lora(model, strength=0.5):
    """What a LoRA loader makes of a model: other weights on the same modules."""
    weight = model.model.get_parameter(f"diffusion_model.{LAYER}.weight")
    diff = strength * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7))
    patched = model.clone()
    assert patched.add_patches({f"diffusion_model.{LAYER}.weight": ("diff", (diff,))})
    return patched


def with_injection(model, gain=3.0):
    """What Load LoRA (Bypass) makes of a model: the same weights, and a layer whose forward does more."""
    layer, patched = model.model.diffusion_model.get_submodule(LAYER), model.clone()
    forward = layer.forward

    def inject(_):
        layer.forward = lambda *args, **kwargs: gain * forward(*args, **kwargs)

    def eject(_):
        del layer.forward

    patched.set_injections("magicstyle_test", [PatcherInjection(inject, eject)])
    return patched


def with_part(model):
    """Another node's layer in the place of the model's own."""
    own, patched = model.model.diffusion_model.get_submodule(LAYER), model.clone()
    other = torch.nn.Linear(own.in_features, own.out_features, bias=False)
    other.weight.copy_(torch.randn(other.weight.shape, generator=torch.Generator().manual_seed(4)))
    patched.add_object_patch(f"diffusion_model.{LAYER}", other)
    return patched


def with_zero_snr(model):
    return stock("comfy_extras.nodes_model_advanced.ModelSamplingDiscrete", model=model, sampling="eps", zsnr=True)[0]


def with_v_prediction(model):
    node = "comfy_extras.nodes_model_advanced.ModelSamplingDiscrete"
    return stock(node, model=model, sampling="v_prediction", zsnr=False)[0]


def bypassed(model):
    node = "comfy_extras.nodes_lora_debug.LoraLoaderBypassModelOnly"
    return stock(node, model=model, lora_name=lora_name(), strength_model=0.7)[0]


CHANGES = {
    "a LoRA": with_lora,
    "an injection": with_injection,
    "Load LoRA (Bypass)": bypassed,
    "a replaced part": with_part,
    "other timesteps": with_zero_snr,
    "another prediction": with_v_prediction,
}


@pytest.mark.parametrize("name", CHANGES)
def test_latents_give_what_features_give_whatever_the_sampling_model_has_otherwise(name):
    plain = tiny_model()
    content, features = scene(plain, "features")
    _, latents = scene(plain, "latents")
    changed = CHANGES[name](plain)
    results = [sample(patch(changed, bank), content) for bank in (features, latents)]
    assert difference(results[1], results[0]) <= 1e-4
    assert difference(results[0], sample(patch(plain, features), content)) > 1e-3


@pytest.mark.parametrize("name", ["an injection", "Load LoRA (Bypass)", "a replaced part"])
def test_a_replay_needs_no_recording_where_both_models_have_the_same(name, said):
    changed = CHANGES[name](tiny_model())
    content, latents = scene(changed, "latents")
    _, features = scene(changed, "features")
    results = [sample(patch(changed, bank), content) for bank in (features, latents)]
    assert difference(results[1], results[0]) <= 1e-4
    assert not said()


def test_an_injection_of_the_inversion_alone_is_in_its_features(tiny_model):
    changed = with_injection(tiny_model)
    content, features = scene(changed, "features")
    _, latents = scene(changed, "latents")
    results = [sample(patch(tiny_model, bank), content) for bank in (features, latents)]
    assert difference(results[1], results[0]) <= 1e-4


def test_models_are_alike_whose_parts_are_merely_compiled(tiny_model):
    compiled = tiny_model.clone()
    own = compiled.model.diffusion_model.get_submodule(LAYER)
    compiled.add_object_patch(f"diffusion_model.{LAYER}", torch.compile(own, backend="eager"))
    assert answers_alike(tiny_model, compiled, (9.0, 1.0))
    assert not answers_alike(tiny_model, with_part(tiny_model), (9.0, 1.0))


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize(
    "change, sentence",
    [
        (with_part, "parts of another node (diffusion_model.output_blocks.3"),
        (with_zero_snr, "tells its network other timesteps than the inversion's model (model_sampling)"),
        (with_v_prediction, "reads its network's prediction otherwise than the inversion's model (model_sampling)"),
    ],
)
def test_what_the_models_differ_in_is_said_once_a_run(tiny_model, said, storage, change, sentence):
    content, bank = scene(tiny_model, storage)
    sample(patch(change(tiny_model), bank), content)
    warnings = [text for level, text in said() if level == logging.WARNING]
    assert sum(sentence in text for text in warnings) == 1, warnings
    assert any("give both DDIM Inversion nodes the MODEL that is sampled with" in text for text in warnings)


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_equal_models_a_lora_and_a_loaded_bank_are_silent(tiny_model, said, storage, tmp_path):
    content, bank = scene(tiny_model, storage)
    sample(patch(tiny_model, bank), content)
    sample(patch(with_lora(tiny_model), bank), content)
    save_bank(bank, tmp_path / "bank.safetensors", content=True)
    sample(patch(with_zero_snr(tiny_model), load_bank(tmp_path / "bank.safetensors", None)), content)
    assert not [text for level, text in said() if level == logging.WARNING]


@pytest.mark.skipif(not NEW_HOST, reason="this ComfyUI has no ScaleROPE")
@pytest.mark.parametrize("name", ["flux", "z-image", "wan"])
def test_scaled_positions_are_the_inversions_own_and_said(name, said):
    scales = {"scale_x": 1.5, "shift_x": 3.0, "scale_y": 1.0, "shift_y": 0.0, "scale_t": 1.0, "shift_t": 0.0}
    changed = stock("comfy_extras.nodes_rope.ScaleROPE", model=family_model(name), **scales)[0]
    prompt, results = family_prompt(name), []
    for storage in ("features", "latents"):
        content, bank = family_scene.scene(name, storage=storage)
        results.append(family_scene.sample(family_scene.patched(name, bank, model=changed), content, 1.0, prompt))
    assert family_scene.difference(results[1], results[0]) <= 1e-4
    assert [text for _, text in said() if "rotary positions (rope_options)" in text] != []
    scales |= {"scale_x": 1.0, "shift_x": 0.0}
    neutral = stock("comfy_extras.nodes_rope.ScaleROPE", model=family_model(name), **scales)[0]
    before = len(said())
    family_scene.sample(family_scene.patched(name, bank, model=neutral), content, 1.0, prompt)
    assert len(said()) == before


@pytest.mark.parametrize(
    "name, node, shift",
    [
        ("flux", "ModelSamplingFlux", {"max_shift": 2.0, "base_shift": 0.1, "width": 512, "height": 512}),
        ("sd3", "ModelSamplingSD3", {"shift": 7.0}),
    ],
)
def test_another_shift_is_another_schedule_and_no_other_model(name, node, shift, said):
    shifted = stock(f"comfy_extras.nodes_model_advanced.{node}", model=family_model(name), **shift)[0]
    content, bank = family_scene.scene(name, storage="latents")
    assert answers_alike(bank.content.source.model, shifted, bank.content.header.sigmas)
    family_scene.sample(family_scene.patched(name, bank, model=shifted), content, 1.0, family_prompt(name))
    assert not said()


def test_latents_of_a_file_are_replayed_by_the_sampling_model_and_the_log_says_so(tiny_model, said, tmp_path):
    content, bank = scene(tiny_model, "latents")
    save_bank(bank, tmp_path / "bank.safetensors", content=True)
    loaded = load_bank(tmp_path / "bank.safetensors")
    plain = sample(patch(tiny_model, loaded), content)
    assert difference(plain, sample(patch(tiny_model, bank), content)) <= 1e-4 and not said()
    sample(patch(with_lora(tiny_model), loaded), content)
    assert [text for _, text in said() if "a file does not hold the model of its latents" in text]


def test_a_function_wrapper_of_the_inversion_is_named_where_no_replay_has_it(tiny_model):
    wrapped = tiny_model.clone()
    wrapped.set_model_unet_function_wrapper(lambda apply, given: apply(given["input"], given["timestep"], **given["c"]))
    said = "its function wrapper acts in the inversion and not in replays"
    reports = {storage: inversion(wrapped, picture(), storage=storage).report for storage in ("latents", "features")}
    assert said in reports["latents"] and said not in reports["features"]


# --- what a recording takes, and when it is made -------------------------------------------------------------------


@pytest.fixture
def calls(tiny_model, monkeypatch):
    """The levels at which the network runs, one for each call."""
    seen, network = [], tiny_model.model.diffusion_model
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda *args, **more: seen.append(1) or forward(*args, **more))
    return seen


def test_a_recording_is_made_once_and_serves_every_later_run(tiny_model, calls, said):
    content, bank = scene(tiny_model, "latents")
    changed, counts, results = with_lora(tiny_model), [], []
    for knobs in ({}, {}, {"style_weight": 0.5}):
        calls.clear()
        results.append(sample(patch(changed, bank, **knobs), content))
        counts.append(len(calls))
    assert counts == [2 * 5 + 5, 5, 5] and torch.equal(results[0], results[1])
    assert [level for level, _ in said()] == [logging.INFO]
    calls.clear()
    sample(patch(changed, bank, layers="output.9-11"), content)  # fewer layers are in what was kept
    assert len(calls) == 5


def test_what_is_held_is_what_was_estimated_and_the_hosts_cache_hears_of_it(tiny_model, said):
    content, bank = scene(tiny_model, "latents", precision="fp16")
    before = ram_usage(bank)
    sample(patch(with_lora(tiny_model), bank), content)
    kept = [picture.source.resident for picture in bank.pictures]
    held = sum(tensor.numel() * tensor.element_size() for stacks in kept for tensor in stacks)
    assert all(tensor.dtype == torch.float16 for stacks in kept for tensor in stacks)
    assert ram_usage(bank) - before == held > 0
    ((_, text),) = said()
    assert f"once: those of every level take {held / 1024:.1f} KiB of memory" in text


@pytest.mark.parametrize("every", FEATURES_EVERY)
def test_short_memory_is_kept_by_fewer_levels_and_said(tiny_model, monkeypatch, said, every):
    content, bank = scene(tiny_model, "latents", steps=10)
    changed = with_lora(tiny_model)
    sample(patch(changed, bank), content)
    whole = sum(t.numel() * t.element_size() for p in bank.pictures for t in p.source.resident)
    fits = 2 * whole // 10 * LevelGroups(10, every).count
    monkeypatch.setattr(recorded, "free_memory", lambda: fits)
    content, bank = scene(tiny_model, "latents", steps=10)
    picture_made = sample(patch(changed, bank), content)
    held = sum(t.numel() * t.element_size() for p in bank.pictures for t in p.source.resident)
    assert held == whole // 10 * LevelGroups(10, every).count and 2 * held <= fits
    level, text = said()[-1]
    assert level == (logging.INFO if every == 1 else logging.WARNING)
    _, features = scene(tiny_model, "features", steps=10, level_stride=every)
    assert difference(picture_made, sample(patch(changed, features), content)) <= 1e-4


def test_where_memory_is_too_short_the_disk_serves_and_else_it_is_refused(tiny_model, monkeypatch, tmp_path, said):
    monkeypatch.setattr("folder_paths.get_temp_directory", lambda: str(tmp_path / "temp"))
    monkeypatch.setattr(recorded, "free_memory", lambda: 1000)
    content, features = scene(tiny_model, "features")
    _, bank = scene(tiny_model, "latents")
    changed = with_lora(tiny_model)
    results = [sample(patch(changed, kept), content) for kept in (features, bank)]
    assert difference(results[1], results[0]) <= 1e-4
    assert list((tmp_path / "temp").rglob("*.safetensors")) and not any(p.source.resident for p in bank.pictures)
    assert " of the disk, of which " in said()[-1][1]
    monkeypatch.setattr(recorded, "free_on_disk", lambda: 1000)
    _, bank = scene(tiny_model, "latents")
    with pytest.raises(MagicStyleError, match="every 5th level take .*give both DDIM Inversion nodes the MODEL"):
        sample(patch(changed, bank), content)


def test_a_recording_shows_progress_and_stops_within_a_step(tiny_model, monkeypatch, calls):
    content, bank = scene(tiny_model, "latents")
    changed, shown = with_lora(tiny_model), []

    def hook(value, total, *_, **__):
        shown.append((value, total))
        if len(shown) == 3:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    calls.clear()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(patch(changed, bank), content)
    assert shown == [(1, 10), (2, 10), (3, 10)] and len(calls) == 3
    assert not any(picture.source.resident for picture in bank.pictures)
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    again = sample(patch(changed, bank), content)
    _, features = scene(tiny_model, "features")
    assert difference(again, sample(patch(changed, features), content)) <= 1e-4


FLUX_LAYERS = {LayerId("single", number, 0): Grid((64, 64)) for number in range(38)}


@pytest.mark.parametrize(
    "free, expected",
    [
        (256 * GIB, (1, "cpu", 89.1)),
        (128 * GIB, (2, "cpu", 44.5)),
        (64 * GIB, (3, "cpu", 31.2)),
        (36 * GIB, (5, "cpu", 17.8)),
        (32 * GIB, (1, "disk", 89.1)),
    ],
)
def test_at_workflow_17s_shapes_a_recording_stays_within_autos_budget(free, expected):
    """Flux at 1024x1024: 38 single layers, 4096 tokens of 3072 channels, the portrait's q, k, v and a style's k, v."""
    widths = dict.fromkeys(FLUX_LAYERS, 3072)
    needs = [PictureNeed(20, feature_bytes(FLUX_LAYERS, widths, 1, 1, roles, torch.float16)) for roles in ("qkv", "kv")]
    float32 = sum(feature_bytes(FLUX_LAYERS, widths, 20, 1, roles, torch.float32) for roles in ("qkv", "kv"))
    assert round(float32 / 1e9) == 191  # what it was before there was a budget
    found = settle_recording(needs, free, 1000 * GIB)
    assert (found.every, found.place, round(found.estimate / GIB, 1)) == expected
    room = free if found.place == "cpu" else 1000 * GIB
    assert inversion_run.Free(room).fits(found.estimate)
    assert settle_recording(needs, free, 0) == (found if found.place == "cpu" else None)


# --- inputs that a replay cannot repeat ----------------------------------------------------------------------------


@pytest.fixture
def with_input(tiny_model, monkeypatch):
    """A conditioning whose model gets one more input."""
    original = type(tiny_model.model).extra_conds

    def give(name, cond):
        monkeypatch.setattr(
            type(tiny_model.model), "extra_conds", lambda self, **kw: {**original(self, **kw), name: cond}, raising=True
        )
        network = tiny_model.model.diffusion_model
        forward = network.forward
        monkeypatch.setattr(network, "forward", lambda *args, **kw: kw.pop(name, None) is None or forward(*args, **kw))
        return tiny_model

    return give


@pytest.mark.parametrize(
    "cond, kind",
    [
        (comfy.conds.CONDConstant({"boxes": [1]}), "dict"),
        (comfy.conds.CONDConstant((1, 2)), "tuple"),
        (comfy.conds.CONDRegular(torch.ones(1, 3)), "Tensor"),
    ],
)
def test_an_input_that_no_replay_repeats_is_named_when_the_inversion_runs_and_auto_avoids_it(with_input, cond, kind):
    model = with_input("of_tomorrow", cond)
    with pytest.raises(MagicStyleError, match=rf"the model takes of_tomorrow \({kind}\).*choose storage features"):
        inversion(model, picture(), storage="latents")
    assert isinstance(inversion(model, picture(), storage="features").features, StoredFeatures)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(inversion_run, "free_memory", lambda: 1)  # where auto would take latents
        found = inversion(model, picture(), storage="auto")
    assert isinstance(found.features, StoredFeatures) and found.features.header.every == 5


@pytest.mark.skipif(not NEW_HOST, reason="this ComfyUI has no Z-Image")
def test_references_of_a_newer_family_are_kept_replayed_and_saved(tmp_path):
    """Z-Image's reference pictures, each with a caption, stand between its caption and the picture."""
    generator = torch.Generator().manual_seed(5)
    captions = [torch.randn(1, tokens, TEXT, generator=generator) for tokens in (5, 40)]
    references = [family_latent("z-image", size, seed=12) for size in ((8, 8), (4, 6))]
    told = {"reference_latents": references, "reference_latents_text_embeds": captions}
    prompt, results = family_prompt("z-image", **told), []
    for storage in ("features", "latents"):
        pictures = [
            family_scene.inverted("z-image", latent, prompt, layers="all", storage=storage)
            for latent in (family_scene.content_latent("z-image"), family_scene.style_latent("z-image"))
        ]
        bank = FeatureBank(pictures[0].features, (StyleEntry(pictures[1].features),))
        results.append(family_scene.sample(family_scene.patched("z-image", bank), pictures[0], 1.0, prompt))
    assert family_scene.difference(results[1], results[0]) <= 1e-4
    plain = family_scene.sample(family_scene.starting("z-image"), pictures[0], 1.0, prompt)
    assert family_scene.difference(results[0], plain) > 1e-3
    assert {"ref_latents", "ref_contexts"} <= set(bank.content.inputs)
    assert bank.content.header.constants["num_tokens"] == 7
    save_bank(bank, tmp_path / "bank.safetensors", content=True)
    loaded = load_bank(tmp_path / "bank.safetensors")
    again = family_scene.sample(family_scene.patched("z-image", loaded), pictures[0], 1.0, prompt)
    assert family_scene.difference(again, results[1]) <= 1e-4


def test_gligens_boxes_are_named_as_a_controlnet_is(tiny_model):
    boxed = [[tiny_conditioning()[0][0], {"gligen": ("position", object(), [])}]]
    with pytest.raises(MagicStyleError, match="conditioning carries GLIGEN's boxes, which a replay of latents"):
        inversion(tiny_model, picture(), storage="latents", conditioning=boxed)


# --- budgets look at the memory that will be used ------------------------------------------------------------------


@pytest.mark.parametrize(
    "place, free, said",
    [
        (
            "gpu",
            {"free_on_device": 1},
            "every 5th level, the finest that fits a quarter of the free GPU memory",
        ),
        ("gpu", {"free_on_device": 10**9, "free_memory": 1}, "storage features of every level: "),
        ("disk", {"free_on_disk": 1}, "every 5th level, the finest that fits half of the free disk space"),
        ("disk", {"free_on_disk": 10**9, "free_memory": 1}, "storage features of every level: "),
        (
            "cpu",
            {"free_memory": 1, "free_on_device": 10**9},
            "every 5th level, the finest that fits half of the free memory",
        ),
    ],
)
def test_auto_looks_at_the_memory_where_features_will_lie(tiny_model, monkeypatch, place, free, said):
    for name, count in free.items():
        monkeypatch.setattr(inversion_run, name, lambda *_, count=count: count)
    found = inversion(tiny_model, picture(), storage="auto", storage_device=place)
    assert said in found.report


def test_eight_bits_are_half_of_the_estimate(tiny_model, monkeypatch):
    """What fits in fp8 alone: five levels of 33.75 KiB each, where two pictures come."""
    monkeypatch.setattr(inversion_run, "free_memory", lambda: math.ceil(2 * 5 * 33.75 * 1024))
    chosen = [inversion(tiny_model, picture(), storage="auto", precision=precision) for precision in ("fp16", "fp8")]
    assert [made.features.header.every for made in chosen] == [3, 1]

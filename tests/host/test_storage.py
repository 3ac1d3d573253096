"""The two representations of a bank, `features` and `latents`, are the same to the sampler."""

import gc
import weakref
from contextlib import suppress

import comfy.controlnet
import comfy.hooks
import folder_paths
import psutil
import pytest
import torch
from magicstyle.attention_patches.architectures import find
from magicstyle.attention_patches.entry import Entry
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.stored_features import StoredFeatures
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.host_cache import ram_usage
from magicstyle.nodes.inversion import run as inversion_run
from magicstyle.nodes.inversion.run import invert
from magicstyle.nodes.report import bank_summary
from magicstyle.tests.host.neighbours import HalvedQueries
from magicstyle.tests.host.scene import difference, patch, picture, sample
from magicstyle.tests.host.test_methods import lora_file
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_model, tiny_sigmas
from safetensors import safe_open

FUSIONS = [{"method": "ffa"}, {"method": "styleid"}]


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def inversion(model, samples, storage, precision="fp32", **more):
    arguments = {"conditioning": tiny_conditioning(), "steps": 5, "scheduler": "ddim_uniform", **more}
    arguments = {"layers": "output.6-11", **arguments}
    return invert("content", model, {"samples": samples}, storage=storage, precision=precision, **arguments)


def scene(model, storage, *, batch=1, **more):
    content = inversion(model, picture(batch=batch), storage, **more)
    style = inversion(model, picture(10, 7, seed=9), storage, **more)
    return content, FeatureBank(content.features, (StyleEntry(style.features),))


class Control(comfy.controlnet.ControlBase):
    """A ControlNet as the host sees it: a residual for the middle block, on the rows that it is called with."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        self.rows.append(x_noisy.shape[0])
        height, width = (-(-size // 8) for size in x_noisy.shape[2:])
        return {"output": [], "middle": [2.0 * torch.ones(x_noisy.shape[0], 64, height, width)], "input": []}

    def get_models(self):
        return []

    def pre_run(self, model, percent_to_timestep_function):
        pass

    def cleanup(self):
        pass

    def copy(self):
        return self


@pytest.mark.parametrize("cfg", [1.0, 5.0])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("knobs", FUSIONS, ids=lambda knobs: knobs["method"])
def test_latents_and_features_give_the_same_picture(tiny_model, knobs, batch, cfg):
    content, features = scene(tiny_model, "features", batch=batch)
    _, latents = scene(tiny_model, "latents", batch=batch)
    assert isinstance(latents.content, Trajectory) and isinstance(features.content, StoredFeatures)
    prompts = tiny_conditioning(), tiny_conditioning(seed=4)
    results = [sample(patch(tiny_model, bank, **knobs), content, cfg, *prompts) for bank in (features, latents)]
    assert difference(*results) <= 1e-4
    assert difference(results[0], sample(tiny_model, content, cfg, *prompts)) > 1e-2


def test_latents_and_features_give_the_same_picture_on_another_schedule(tiny_model):
    content, features = scene(tiny_model, "features")
    _, latents = scene(tiny_model, "latents")
    arguments = content.noise["samples"], tiny_sigmas(tiny_model, 4, "karras")
    results = [run_sampler(patch(tiny_model, bank), *arguments) for bank in (features, latents)]
    assert difference(*results) <= 1e-4
    assert difference(results[0], run_sampler(tiny_model, *arguments)) > 1e-3


def test_one_picture_as_content_and_as_style_is_replayed_with_what_both_ask(tiny_model):
    """StyleID reads the content's queries and the style's keys and values."""
    results = []
    for storage in ("features", "latents"):
        content = inversion(tiny_model, picture(), storage)
        bank = FeatureBank(content.features, (StyleEntry(content.features),))
        results.append(sample(patch(tiny_model, bank, method="styleid"), content))
    assert difference(*results) <= 1e-4


def test_latents_are_replayed_without_the_hooks_of_the_sampling_run(tiny_model):
    """A LoRA that a hook puts on for some model calls would be on for the replays, too."""
    content, features = scene(tiny_model, "features")
    _, latents = scene(tiny_model, "latents")
    lora = comfy.hooks.create_hook_lora(lora_file(tiny_model, 7), 1.0, 0.0)
    hooked = comfy.hooks.set_conds_props([tiny_conditioning()], 1.0, "default", None, lora)[0]
    results = [sample(patch(tiny_model, bank), content, positive=hooked) for bank in (features, latents)]
    assert difference(*results) <= 1e-4
    assert difference(results[0], sample(patch(tiny_model, features), content)) > 1e-3


def test_latents_are_replayed_with_the_override_of_the_model_that_made_them(tiny_model):
    other = tiny_model.clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = HalvedQueries()
    content, features = scene(other, "features")
    _, latents = scene(other, "latents")
    results = [sample(patch(tiny_model, bank), content) for bank in (features, latents)]
    assert difference(*results) <= 1e-4
    _, plain = scene(tiny_model, "features")
    assert difference(sample(patch(tiny_model, plain), content), results[0]) > 1e-3


@pytest.mark.parametrize("knobs", FUSIONS, ids=lambda knobs: knobs["method"])
def test_controlnet_sees_only_the_users_rows_and_both_act(tiny_model, knobs):
    content, features = scene(tiny_model, "features", batch=2)
    _, latents = scene(tiny_model, "latents", batch=2)
    results = []
    for bank in (features, latents):
        control = Control()
        guided = [[tiny_conditioning()[0][0], {"control": control, "control_apply_to_uncond": False}]]
        results.append(sample(patch(tiny_model, bank, **knobs), content, 1.0, guided, guided))
        assert control.rows == [2] * 5
    assert difference(results[1], results[0]) <= 1e-4
    assert difference(results[0], sample(patch(tiny_model, features, **knobs), content)) > 1e-3


def test_two_patchers_in_series_replay_without_fusing_each_others_replay(tiny_model):
    content, features = scene(tiny_model, "features")
    _, latents = scene(tiny_model, "latents")
    results = [
        sample(patch(patch(tiny_model, bank, "output.6-8"), bank, "output.9-11", method="styleid"), content)
        for bank in (features, latents)
    ]
    assert difference(results[1], results[0]) <= 1e-4


def with_lora(model, strength=0.5):
    """What a LoRA loader makes of a model: other weights on the same modules."""
    key = "diffusion_model.output_blocks.9.1.transformer_blocks.0.attn1.to_k.weight"
    weight = model.model.get_parameter(key)
    diff = strength * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7))
    patched = model.clone()
    assert patched.add_patches({key: ("diff", (diff,))})
    return patched


def test_a_lora_that_comes_after_the_inversion_does_not_change_the_features(tiny_model):
    content, features = scene(tiny_model, "features")
    _, latents = scene(tiny_model, "latents")
    lora = with_lora(tiny_model)
    results = [sample(patch(lora, bank), content) for bank in (features, latents)]
    assert difference(results[1], results[0]) <= 1e-4
    _, own = scene(lora, "features")
    assert difference(sample(patch(lora, own), content), results[0]) > 1e-3


def test_another_nodes_override_on_the_sampling_model_is_not_asked_for_replays_of_the_plain_inversion(tiny_model):
    content, latents = scene(tiny_model, "latents")
    calls = []

    def override(func, q, k, v, *args, **kwargs):
        calls.append(1)
        return func(q, k, v, *args, **kwargs)

    model = tiny_model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    sample(patch(model, latents), content)
    assert len(calls) == 32 * 5


@pytest.mark.parametrize(
    "precision, storage, bound",
    [
        ("fp16", "features", 2e-3),
        ("fp16", "latents", 2e-3),
        ("bf16", "features", 2e-2),
        ("bf16", "latents", 2e-2),
        ("fp8", "features", 0.1),
        ("fp8", "latents", 2e-3),
    ],
)
def test_reduced_precisions_stay_within_their_bound(tiny_model, storage, precision, bound):
    content, exact = scene(tiny_model, "features")
    _, half = scene(tiny_model, storage, precision=precision)
    result = sample(patch(tiny_model, half), content)
    assert difference(result, sample(patch(tiny_model, exact), content)) < bound


def test_content_queries_and_style_keys_and_values_are_all_that_styleid_reads(tiny_model):
    content, whole = scene(tiny_model, "features")
    queries = inversion(tiny_model, picture(), "features", roles="queries").features
    style = inversion(tiny_model, picture(10, 7, seed=9), "features", roles="keys and values").features
    lean = FeatureBank(queries, (StyleEntry(style),))
    results = [sample(patch(tiny_model, bank, method="styleid"), content) for bank in (whole, lean)]
    assert torch.equal(*results)
    assert lean.nbytes < 0.52 * whole.nbytes
    with pytest.raises(MagicStyleError, match="method 'ffa' reads the content's keys and values.*set roles to all"):
        patch(tiny_model, lean, method="ffa")
    with pytest.raises(MagicStyleError, match="reads the style 1's keys and values"):
        patch(tiny_model, FeatureBank(whole.content, (StyleEntry(queries),)), method="styleid")


@pytest.mark.parametrize("method", ["styleid", "sac"])
def test_the_contents_keys_and_values_are_asked_for_where_a_style_may_leave_tokens_to_the_content(tiny_model, method):
    queries = inversion(tiny_model, picture(), "features", roles="queries").features
    style = inversion(tiny_model, picture(10, 7, seed=9), "features", roles="keys and values").features
    everywhere, nowhere = (FeatureBank(queries, (StyleEntry(style, weight),)) for weight in (1.0, 0.0))
    somewhere = FeatureBank(queries, (StyleEntry(style, 1.0, torch.ones(1, 8, 12)),))
    patch(tiny_model, everywhere, method=method)
    for bank, style_weight in ((everywhere, 0.0), (nowhere, 1.0), (somewhere, 1.0)):
        with pytest.raises(MagicStyleError, match=f"'{method}' reads the content's keys and values"):
            patch(tiny_model, bank, method=method, style_weight=style_weight)


def test_features_on_disk_are_the_same_and_their_files_go_with_the_bank(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    content, memory = scene(tiny_model, "features")
    disk = scene(tiny_model, "features", storage_device="disk")[1]
    files = list((tmp_path / "temp").rglob("*.safetensors"))
    assert len(files) == 2 * 6 * 3
    for picture_in_memory, picture_on_disk in zip(memory, disk, strict=True):
        for name, stack in picture_in_memory.tensors.items():
            assert torch.equal(stack, picture_on_disk.tensors[name])
    with safe_open(str(next(path for path in files if path.stem == "output.9.0.k")), "pt") as file:
        shapes = {picture_on_disk.tensors["output.9.0.k"].shape for picture_on_disk in disk}
        assert file.get_tensor("output.9.0.k").shape in shapes
    assert torch.equal(*(sample(patch(tiny_model, bank), content) for bank in (memory, disk)))
    assert "on disk" in bank_summary(disk) and ram_usage(disk) < ram_usage(memory) / 10
    del disk, picture_on_disk, file
    gc.collect()
    assert not list((tmp_path / "temp").rglob("*.safetensors"))


def test_a_full_disk_is_said_in_one_sentence(tiny_model, tmp_path, monkeypatch):
    """A process that may write 16 KiB to a file meets the same refusal as on a full disk."""
    resource = pytest.importorskip("resource", reason="no limits for files on this system")
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, limits[1]))
    try:
        with pytest.raises(
            MagicStyleError, match="storage_device disk: no room for .*File too large.*choose storage latents"
        ):
            inversion(tiny_model, picture(), "features", storage_device="disk")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    gc.collect()
    assert not list((tmp_path / "temp").rglob("*.safetensors"))


def test_a_trajectory_is_a_thousandth_of_the_features_at_genuine_widths():
    """SD1.5 at 512x512, 50 steps: counted, not run."""
    grids = {}
    for number in range(6, 12):
        grids[number] = (32, 32, 640) if number < 9 else (64, 64, 320)
    features = sum(h * w * c for h, w, c in grids.values()) * 50 * 3 * 4 * 2
    latents = 2 * 50 * 4 * 64 * 64 * 2
    assert latents * 1000 <= features


def test_reported_bytes_are_the_bytes_of_the_storages(tiny_model):
    for storage in ("features", "latents"):
        _, bank = scene(tiny_model, storage)
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for f in bank for t in f.tensors.values()
        }
        assert bank.nbytes == ram_usage(bank) == sum(storages.values())
        assert "together" in bank_summary(bank)


@pytest.mark.parametrize("layers", ["output.3-11", "all", "middle"])
@pytest.mark.parametrize("size", [(8, 12), (17, 23)])
def test_the_estimate_and_the_grids_are_known_before_the_run(tiny_model, layers, size):
    result = inversion(tiny_model, picture(*size), "features", layers=layers, precision="fp16")
    every = find(tiny_model).grids(size)
    assert list(every) == list(find(tiny_model).widths)
    assert dict(result.features.header.grids) == {layer: every[layer] for layer in result.features.header.layers}
    grids, widths = result.features.header.grids, find(tiny_model).widths
    assert (
        inversion_run.feature_bytes(grids, widths, 5, 1, "qkv", torch.float16)
        == result.features.nbytes - result.features.noise_pair.noise.nbytes
    )


def test_auto_takes_features_while_they_fit_and_says_why(tiny_model, monkeypatch):
    assert isinstance(inversion(tiny_model, picture(), "auto").features, StoredFeatures)
    monkeypatch.setattr(inversion_run, "free_memory", lambda: 100_000)
    result = inversion(tiny_model, picture(), "auto")
    assert isinstance(result.features, Trajectory)
    sizes = "features of every level were estimated at 675.0 KiB, 97.7 KiB of memory were free"
    assert "storage latents of every 3rd level, the finest that fits half of the free memory" in result.report
    assert sizes in result.report


@pytest.mark.parametrize(
    "free, every, chosen, said",
    [
        (1350, 1, ("features", 1), "storage features of every level: "),
        (1349, 1, ("features", 2), "storage features of every 2nd level, the finest"),
        (809, 1, ("features", 3), "storage features of every 3rd level, the finest"),
        (539, 1, ("features", 5), "storage features of every 5th level, the finest"),
        (269, 1, ("latents", 3), "storage latents of every 3rd level, the finest"),
        (4, 1, ("latents", 5), "storage latents of every 5th level, the finest"),
        (1349, 3, ("features", 3), "storage features of every 3rd level: features of every 3rd level were estimated"),
        (269, 4, ("latents", 4), "storage latents of every 4th level, the finest"),
    ],
)
def test_auto_takes_the_finest_that_fits_half_of_the_free_memory(tiny_model, monkeypatch, free, every, chosen, said):
    """Five levels of 135 KiB each; their latents take 1.5 KiB each."""
    monkeypatch.setattr(inversion_run, "free_memory", lambda: free * 1024)
    result = inversion(tiny_model, picture(), "auto", precision="fp32", level_stride=every)
    assert (result.features.representation, result.features.header.every) == chosen
    assert said in result.report


def test_a_controlled_inversion_takes_features_of_fewer_levels_before_none_fits(tiny_model, monkeypatch):
    controlled = [[tiny_conditioning()[0][0], {"control": Control(), "control_apply_to_uncond": False}]]
    monkeypatch.setattr(inversion_run, "free_memory", lambda: 1)
    found = inversion(tiny_model, picture(), "auto", conditioning=controlled).features
    assert isinstance(found, StoredFeatures) and found.header.every == 5


@pytest.mark.parametrize("sampler, share", [("euler", 1), ("heun", 2), ("dpm_2", 2)])
def test_latents_of_every_second_level_are_replayed_when_their_group_begins(tiny_model, sampler, share):
    """Also by samplers that visit a level twice or levels in between; the picture is that of stored features."""
    content, features = scene(tiny_model, "features", level_stride=2)
    _, latents = scene(tiny_model, "latents", level_stride=2)
    seen = []

    def count(executor, *args, **kwargs):
        seen.append(Entry.of(args[5]).replaying)
        return executor(*args, **kwargs)

    results = []
    for bank in (features, latents):
        seen.clear()
        model = patch(tiny_model, bank)
        model.add_wrapper_with_key("apply_model", "spy", count)
        results.append(sample(model, content, sampler=sampler))
    assert difference(results[1], results[0]) <= 1e-4
    assert seen.count(True) == 2 * content.features.header.groups.count == 6
    assert seen.count(False) >= share * 5 - 1


def test_other_weights_are_recorded_once_a_group(tiny_model):
    """A LoRA that comes after the inversion: latents become features of the inversion's model first."""
    content, features = scene(tiny_model, "features", level_stride=3)
    _, latents = scene(tiny_model, "latents", level_stride=3)
    changed = with_lora(tiny_model)
    results = [sample(patch(changed, bank), content) for bank in (features, latents)]
    assert difference(results[1], results[0]) <= 1e-4


def test_every_that_makes_no_groups_is_refused(tiny_model):
    with pytest.raises(MagicStyleError, match="level_stride is 0: choose a number from 1"):
        inversion(tiny_model, picture(), "features", level_stride=0)


def test_report_and_summary_say_how_many_levels_are_kept(tiny_model):
    content, bank = scene(tiny_model, "features", level_stride=2)
    assert "3 of 5 steps, every 2nd, of q, k, v in float32" in content.report
    assert "3 of 5 steps, every 2nd, of q, k, v in float32" in bank_summary(bank)


def test_replay_of_a_controlled_inversion_is_refused_and_auto_avoids_it(tiny_model, monkeypatch):
    controlled = [[tiny_conditioning()[0][0], {"control": Control(), "control_apply_to_uncond": False}]]
    with pytest.raises(MagicStyleError, match="conditioning carries a ControlNet.*choose storage features"):
        inversion(tiny_model, picture(), "latents", conditioning=controlled)
    monkeypatch.setattr(inversion_run, "free_memory", lambda: 1)
    assert isinstance(inversion(tiny_model, picture(), "auto", conditioning=controlled).features, StoredFeatures)


def test_replay_of_an_inversion_under_hooks_is_refused(tiny_model):
    with pytest.raises(MagicStyleError, match="conditioning carries hooks, which a replay.*choose storage features"):
        inversion(tiny_model, picture(), "latents", conditioning=[[tiny_conditioning()[0][0], {"hooks": object()}]])


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_run_outlives_it(tiny_model, storage, fails):
    content, bank = scene(tiny_model, storage)
    lora = with_lora(tiny_model)
    for model in (tiny_model, lora):
        patched = patch(model, bank)

        def callback(step, *_):
            if fails and step == 2:
                raise RuntimeError

        def run(patched=patched, callback=callback):
            with suppress(RuntimeError):
                sample(patched, content, callback=callback)
            gc.collect()
            return sum(t.numel() for t in gc.get_objects() if type(t) is torch.Tensor)

        assert run() == run()


def test_a_dropped_bank_is_freed(tiny_model):
    content, bank = scene(tiny_model, "features")
    patched = patch(tiny_model, bank)
    sample(patched, content)
    gone = weakref.ref(bank.content)
    del content, bank, patched
    gc.collect()
    assert gone() is None


def test_the_hosts_memory_estimate_hears_of_the_fusion(tiny_model, monkeypatch):
    content, bank = scene(tiny_model, "latents")
    shapes = []
    monkeypatch.setattr(
        type(tiny_model.model),
        "memory_required",
        lambda self, input_shape, **_: shapes.append(input_shape[0]) or 1000.0,
    )
    sample(tiny_model, content)
    plain = max(shapes)
    shapes.clear()
    sample(patch(tiny_model, bank), content)
    assert max(shapes) > plain


def test_tiny_model_clones_share_weights_and_a_lora_is_taken_off_again():
    plain = tiny_model()
    # inverting loads the plain weights, whatever an earlier test has left in the shared model
    content, bank = scene(plain, "latents")
    before = {name: weight.clone() for name, weight in plain.model.named_parameters()}

    def changed():
        return [name for name, weight in plain.model.named_parameters() if not torch.equal(before[name], weight)]

    meanwhile = []
    sample(patch(with_lora(plain), bank), content, callback=lambda *_: meanwhile.append(changed()))
    assert all(len(names) == 1 for names in meanwhile) and meanwhile
    sample(plain, content)
    assert not changed()


@pytest.mark.long
@pytest.mark.parametrize("storage", ["features", "latents"])
def test_fifty_runs_leave_no_memory_behind(tiny_model, storage):
    process, resident = psutil.Process(), []
    for run in range(50):
        content, bank = scene(tiny_model, storage, steps=2)
        sample(patch(tiny_model, bank), content)
        if run % 10 == 9:
            gc.collect()
            resident.append(process.memory_info().rss)
    assert resident[-1] - resident[0] < 8 * 2**20, resident

"""What failure looks like: one test or more for every row of docs/failures.md."""

import re
import threading
import time

import pytest
import torch
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.bank import FeatureBankNode
from magicstyle.nodes.inversion import run as inversion_run
from magicstyle.nodes.inversion.run import invert
from magicstyle.tests import photographs
from magicstyle.tests.attention_patches.test_patches import GRID, STYLE_GRID, answer, live
from magicstyle.tests.attention_patches.test_patches import picture as stored
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.host.server import PromptInterrupted, PromptRejected
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_latent
from magicstyle.tests.workflows import graphs


def picture(height=8, width=8, seed=2):
    return tiny_latent(height, width, seed=seed) * 70


def inversion(model, samples, steps=4, layers="output.9-11", **more):
    arguments = {"conditioning": tiny_conditioning(), "scheduler": "ddim_uniform", **more}
    return invert("content", model, {"samples": samples}, steps=steps, layers=layers, **arguments)


def patch(model, content, style, layers="output.9-11", start=0.0, end=1.0, **knobs):
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    return install_fusion(model, bank, FusionSettings(**knobs), layers, start, end)


def sample(model, content, sigmas=None):
    return run_sampler(model, content.noise["samples"], content.sigmas if sigmas is None else sigmas)


def difference(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture
def pair(tiny_model):
    return inversion(tiny_model, picture()), inversion(tiny_model, picture(seed=9))


@pytest.fixture
def graph(server):
    """The portrait workflow, small, on the generated checkpoint."""
    for name, draw in (("portrait.png", photographs.portrait), ("style.png", photographs.style)):
        server.upload(name, draw((128, 128)))
    return graphs.substituted(
        graphs.with_pictures("portrait_stylization"), width=128, height=128, steps=3, ckpt_name="tiny_full.ckpt"
    )


# --- wrong wires, missing files, corrupted widgets -----------------------------------------------------------------


def test_wrong_socket_types_are_refused_before_anything_runs(server, graph):
    bank = graphs.only(graph, "MagicStyleFeatureBank")
    bank["inputs"]["style"] = graphs.only(graph, "VAEDecode")["inputs"]["samples"]
    with pytest.raises(PromptRejected, match="MagicStyleFeatureBank.*style.*LATENT.*MAGICSTYLE_FEATURES"):
        server.queue(graph)


def test_a_missing_checkpoint_is_named_before_anything_runs(server, graph):
    graph = graphs.substituted(graph, ckpt_name="not_downloaded.safetensors")
    with pytest.raises(PromptRejected, match="CheckpointLoaderSimple.*ckpt_name: 'not_downloaded.safetensors' not in"):
        server.queue(graph)


@pytest.mark.parametrize("name", ["method", "mode", "scheduler", "storage", "precision"])
def test_a_removed_choice_in_an_old_workflow_is_named_before_anything_runs(server, graph, name):
    """ComfyUI 0.3.64 lets any text through as a choice of a V3 node: our nodes look themselves."""
    with pytest.raises(PromptRejected, match=f"MagicStyle.*{name}: 'of_the_past' not in"):
        server.queue(graphs.substituted(graph, **{name: "of_the_past"}))


def test_a_missing_value_is_named_before_anything_runs(server, graph):
    del graphs.only(graph, "MagicStylePatchFFA")["inputs"]["temperature"]
    with pytest.raises(PromptRejected, match="MagicStylePatchFFA: Required input is missing: temperature"):
        server.queue(graph)


def test_a_workflow_from_before_the_newest_optional_inputs_still_runs(server, graph):
    removed = 0
    for node in graph.values():
        optional = server.object_info(node["class_type"])[node["class_type"]]["input"].get("optional", {})
        removed += sum(node["inputs"].pop(name, None) is not None for name in optional if name != "style")
    assert removed or not server.object_info("MagicStyleInvertContent")["MagicStyleInvertContent"]["input"]["optional"]
    assert server.images(server.run(graph))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"layers": "decoder.3"}, "layers: 'decoder.3' is not a layer"),
        ({"layers": ""}, "layers: '' is not a layer"),
    ],
)
def test_a_corrupted_text_is_named_before_anything_runs(server, graph, values, message):
    with pytest.raises(PromptRejected, match=message):
        server.queue(graphs.substituted(graph, **values))


# --- bad pictures --------------------------------------------------------------------------------------------------


def test_nan_latents_are_refused_with_the_cure(tiny_model):
    with pytest.raises(MagicStyleError, match="latent holds NaN.*--fp32-vae"):
        inversion(tiny_model, torch.full((1, 4, 8, 8), float("nan")))


def test_a_model_that_gives_nan_is_named_with_the_cure(tiny_model):
    broken = tiny_model.clone()
    broken.add_object_patch("diffusion_model.out.2.bias", torch.nn.Parameter(torch.full((4,), float("nan"))))
    with torch.inference_mode(), pytest.raises(MagicStyleError, match="model gave NaN.*--force-fp32"):
        invert("content", broken, {"samples": torch.ones(1, 4, 8, 8)}, tiny_conditioning(), 2, "normal", "output.9")


@pytest.mark.parametrize("shape", [(1, 4, 0, 8), (0, 4, 8, 8)])
def test_a_picture_of_no_size_is_refused(tiny_model, shape):
    with pytest.raises(MagicStyleError, match="latent is not a picture latent"):
        inversion(tiny_model, torch.zeros(shape))


def test_a_picture_of_a_few_pixels_is_stylized(tiny_model):
    content, style = (inversion(tiny_model, picture(5, 5, seed=seed), steps=2) for seed in (2, 9))
    assert torch.isfinite(sample(patch(tiny_model, content, style), content)).all()


def test_a_huge_picture_keeps_latents_instead_of_features_when_they_would_not_fit(tiny_model, monkeypatch):
    """640x384 pixels on a machine with a megabyte: what 4096x4096 is on a large one."""
    monkeypatch.setattr(inversion_run, "free_memory", lambda: 1_000_000)
    content = inversion(tiny_model, picture(48, 80), steps=1)
    assert content.features.representation == "latents"
    assert "storage latents of every 3rd level" in content.report and "were estimated at" in content.report


# --- few, many and unequal steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, pytest.param(1000, marks=[pytest.mark.timeout(300), pytest.mark.long])])
def test_the_fewest_and_the_most_steps_run(tiny_model, steps):
    content = inversion(tiny_model, picture(), steps)
    assert len(content.sigmas) >= min(steps, 999) + 1  # ddim_uniform leaves the cleanest of the 1000 levels out
    assert torch.isfinite(content.noise["samples"]).all()
    if steps == 1:
        assert torch.isfinite(sample(patch(tiny_model, content, content), content)).all()


def test_unequal_steps_are_said_in_the_summary_and_once_in_the_log(tiny_model, caplog):
    content, style = inversion(tiny_model, picture(), 4), inversion(tiny_model, picture(seed=9), 7)
    summary = FeatureBankNode.execute(content.features, style.features).result[1]
    assert "inverted on other noise levels than the content" in summary
    patched = patch(tiny_model, content, style)
    assert torch.isfinite(sample(patched, content)).all()
    assert len([record for record in caplog.records if record.name == "magicstyle"]) == 1


# --- interrupts ----------------------------------------------------------------------------------------------------


def test_an_interrupted_inversion_stops_within_a_step_and_the_next_run_is_complete(server, graph):
    expected = server.saved_images(server.run(graph))
    prompt_id = server.queue(graphs.substituted(graph, steps=500))
    time.sleep(3)  # pictures are encoded from the cache at once: this is in the midst of the first inversion
    server.interrupt()
    interrupted = time.monotonic()
    with pytest.raises(PromptInterrupted, match="MagicStyleInvert"):
        server.wait(prompt_id, patience=30)
    assert time.monotonic() - interrupted < 10
    server.free()  # so that the next run computes everything again
    again = server.saved_images(server.run(graph))
    assert len(again) == len(expected) == 1
    assert (again[0] == expected[0]).all()


# --- the same thing twice ------------------------------------------------------------------------------------------


def test_of_two_patchers_in_series_the_last_decides_where_both_act(tiny_model, pair):
    content, turned = pair[0], pair[::-1]
    both = sample(patch(patch(tiny_model, *pair), *turned), content)
    assert difference(both, sample(patch(tiny_model, *turned), content)) < 1e-5


def test_two_patchers_in_series_with_layers_of_their_own_both_act(tiny_model, pair):
    content = pair[0]
    first, second = (patch(tiny_model, *pair, layers=layers) for layers in ("output.9", "output.11"))
    both = sample(patch(first, *pair, layers="output.11"), content)
    for alone in (first, second, tiny_model):
        assert difference(both, sample(alone, content)) > 1e-4


def test_two_patchers_in_series_with_parts_of_the_steps_of_their_own_both_act(tiny_model, pair):
    """One patcher has the steps before percent 0.5, the other the rest, whichever node comes first."""
    content = pair[0]
    early, late = {"end": 0.5, "query_preservation": 1.0}, {"start": 0.5, "query_preservation": 0.0}
    both = sample(patch(patch(tiny_model, *pair, **early), *pair, **late), content)
    assert difference(sample(patch(patch(tiny_model, *pair, **late), *pair, **early), content), both) < 1e-6
    for alone in (patch(tiny_model, *pair, **early), patch(tiny_model, *pair, **late), tiny_model):
        assert difference(both, sample(alone, content)) > 1e-4


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_two_patchers_in_series_have_each_their_own_bank(tiny_model, storage):
    """Whichever node comes first; with one bank in both places the picture is another."""
    content, one, two = (inversion(tiny_model, picture(seed=seed), storage=storage) for seed in (2, 9, 10))

    def sampled(*nodes):
        model = tiny_model
        for style, layers in nodes:
            model = patch(model, content, style, layers=layers)
        return sample(model, content)

    both = sampled((one, "output.9"), (two, "output.11"))
    assert difference(sampled((two, "output.11"), (one, "output.9")), both) < 1e-5
    for style in (one, two):
        assert difference(sampled((style, "output.9"), (style, "output.11")), both) > 1e-4


def test_the_same_bank_serves_two_patchers_of_one_graph(server, graph):
    first = graphs.substituted(graph)
    second = {f"1{key}": {**node, "inputs": dict(node["inputs"])} for key, node in graph.items()}
    for key, node in list(second.items()):
        for name, value in node["inputs"].items():
            if isinstance(value, list):  # share everything up to the bank
                shared = graph[value[0]]["class_type"] not in ("MagicStylePatchFFA", "SamplerCustom", "VAEDecode")
                node["inputs"][name] = value if shared else [f"1{value[0]}", value[1]]
        if node["class_type"] not in ("MagicStylePatchFFA", "SamplerCustom", "VAEDecode", "SaveImage"):
            del second[key]
    second = graphs.substituted(second, query_preservation=0.1)
    alone = server.saved_images(server.run(first)) + server.saved_images(
        server.run(graphs.substituted(graph, query_preservation=0.1))
    )
    server.free()
    together = server.saved_images(server.run({**first, **second}))
    assert len(together) == len(alone) == 2
    for image in together:
        assert sum((image == other).all() for other in alone) == 1


def test_the_same_bank_in_two_runs_at_once():
    """A bank is read, never written: threads that fuse from it get what each gets alone."""
    bank = FeatureBank(stored(1, GRID), (StyleEntry(stored(2, STYLE_GRID)),))
    q, k, v = live(1)
    weights, results = (1.0, 3.0), {}
    expected = {weight: answer(bank, q, k, v, style_weight=weight, content_weight=0.1) for weight in weights}

    def work(weight):
        results[weight] = [answer(bank, q, k, v, style_weight=weight, content_weight=0.1) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(weight,)) for weight in weights]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not torch.equal(*expected.values())
    for weight in weights:
        assert all(torch.equal(result, expected[weight]) for result in results[weight])


# --- the table -----------------------------------------------------------------------------------------------------


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_row_of_the_page_names_its_tests_and_they_exist():
    shown, _, tests = (PACK / "docs" / "failures.md").read_text(encoding="utf-8").partition("## Which test holds")
    tables = [re.findall(r"^\| .*(?:\n\| .*)*", part, re.MULTILINE) for part in (shown, tests)]
    # the first two lines of a table are its head
    users, held = ([cells(line) for table in part for line in table.splitlines()[2:]] for part in tables)
    assert len(held) >= 12
    assert [row[0] for row in users] == [row[0] for row in held]
    for row, names in held:
        assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", names), row
        for name in re.findall(r"`(test_\w+)`", names):
            assert any(
                f"def {name}(" in path.read_text(encoding="utf-8") for path in (PACK / "tests").rglob("test_*.py")
            ), name

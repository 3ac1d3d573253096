"""Nodes that answer model calls from a cache, before and after ours, in a real ComfyUI."""

import logging
from unittest import mock

import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.inversion.run import invert
from magicstyle.tests.host import family_scene
from magicstyle.tests.host.families import FAMILIES
from magicstyle.tests.host.neighbours import Tiles, stock, wrapped
from magicstyle.tests.host.scene import difference, inversion, own_lines, patch, picture, sample, scene
from magicstyle.tests.host.tiny import tiny_conditioning

STEPS = 12
NODES = {
    "EasyCache": "comfy_extras.nodes_easycache.EasyCacheNode",
    "LazyCache": "comfy_extras.nodes_easycache.LazyCacheNode",
}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def filled():
    """Fresh memory holds NaN, so that what was never written is seen."""
    deterministic, fill = (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill


def cached(model, name="EasyCache", threshold=0.2, start=0.15, end=0.95):
    settings = {"reuse_threshold": threshold, "start_percent": start, "end_percent": end, "verbose": False}
    return stock(NODES[name], model=model, **settings)[0]


def answering(model, every=2, wrapper="diffusion_model"):
    """Another node that lets each `every`th call through, and gives the last answer to the others."""
    calls, last = [0], [None]

    def run(executor, *args, **kwargs):
        calls[0] += 1
        if last[0] is None or every and calls[0] % every == 0:
            last[0] = executor(*args, **kwargs)
        return last[0]

    model = model.clone()
    model.add_wrapper_with_key(wrapper, "memory", run)
    return model


def skipping(model):
    """A function wrapper that calls the model every second time."""
    calls = [0]

    def run(apply_model, given):
        calls[0] += 1
        return given["input"] if calls[0] % 2 else apply_model(given["input"], given["timestep"], **given["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(run)
    return model


@pytest.mark.parametrize(
    "name, span, method, storage",
    [
        ("EasyCache", (0.15, 0.95), "ddim", "features"),
        ("EasyCache", (0.0, 1.0), "midpoint", "features"),
        ("EasyCache", (0.0, 1.0), "noising", "features"),
        ("EasyCache", (0.0, 1.0), "exact", "latents"),
        ("LazyCache", (0.15, 0.95), "ddim", "features"),
        ("LazyCache", (0.0, 1.0), "fixed_point", "latents"),
    ],
)
def test_a_cache_is_left_out_of_an_inversion_with_a_line_in_its_report(tiny_model, name, span, method, storage):
    plain, found = (
        inversion(model, picture(), STEPS, method=method, storage=storage)
        for model in (tiny_model, cached(tiny_model, name, 0.2, *span))
    )
    assert f"left out of the inversion: {name}" in found.report and "left out" not in plain.report
    assert torch.equal(found.noise["samples"], plain.noise["samples"])
    for key, tensor in plain.features.tensors.items():
        assert torch.equal(found.features.tensors[key], tensor) and torch.isfinite(tensor).all()


@pytest.mark.parametrize("family", [name for name in ("flux", "z-image") if name in FAMILIES])
@pytest.mark.parametrize("name", NODES)
def test_a_cache_is_left_out_of_a_transformers_inversion_too(family, name):
    latent = family_scene.content_latent(family)
    found = family_scene.inverted(family, latent, model=cached(family_scene.family_model(family), name))
    assert f"left out of the inversion: {name}" in found.report
    assert difference(found.noise["samples"], family_scene.inverted(family, latent).noise["samples"]) == 0.0


@pytest.mark.parametrize("node", [answering, skipping])
@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("method", ["ddim", "midpoint"])
def test_a_walk_in_which_another_node_answered_is_refused(tiny_model, node, storage, method):
    with pytest.raises(MagicStyleError, match=r"answered \d+ of \d+ .*take it off the inversion's model|came by for"):
        inversion(node(tiny_model), picture(), 8, storage=storage, method=method)


def test_a_node_that_answers_from_blocks_of_its_own_is_refused(tiny_model):
    """The network runs, and the chosen layers do not."""
    content = inversion(tiny_model, picture(), 4)
    calls, attention = [0], tiny_model.model.diffusion_model.output_blocks[9][1].transformer_blocks[0].attn1

    def sometimes(x, *args, **kwargs):
        calls[0] += 1
        return type(attention).forward(attention, x, *args, **kwargs) if calls[0] % 2 else torch.zeros_like(x)

    attention.forward = sometimes
    try:
        with pytest.raises(MagicStyleError, match=r"came by for \d of 4 noise levels alone"):
            inversion(tiny_model, picture(), 4)
    finally:
        del attention.forward
    assert content.features.tensors


@pytest.mark.parametrize(
    "storage, every, name, order",
    [
        ("features", 1, "EasyCache", "before"),
        ("features", 3, "EasyCache", "after"),
        ("latents", 1, "EasyCache", "before"),
        ("latents", 1, "EasyCache", "after"),
        ("latents", 2, "EasyCache", "after"),
        ("latents", 3, "EasyCache", "before"),
        ("latents", 5, "EasyCache", "after"),
        ("features", 1, "LazyCache", "before"),
        ("latents", 2, "LazyCache", "after"),
    ],
)
def test_beside_a_cache_the_style_acts_and_latents_give_what_features_give(
    tiny_model, caplog, storage, every, name, order
):
    """The cache decides on the run's own calls: that features are made anew in between makes no difference."""
    content, bank = scene(tiny_model, steps=STEPS, storage=storage, level_stride=every)
    features, kept = scene(tiny_model, steps=STEPS, storage="features", level_stride=every)

    def both(each):
        if order == "before":
            return patch(cached(tiny_model, name, 0.6), each)
        return cached(patch(tiny_model, each), name, 0.6)

    found = sample(both(bank), content, 2.0)
    assert difference(found, sample(both(kept), features, 2.0)) < 1e-5
    alone = sample(cached(tiny_model, name, 0.6), content, 2.0)
    ours = sample(patch(tiny_model, bank), content, 2.0)
    assert 0.3 < difference(found, alone) / difference(ours, sample(tiny_model, content, 2.0)) < 3.0
    assert not [
        record for record in caplog.records if record.name == "magicstyle" and record.levelno >= logging.WARNING
    ]


def test_the_cache_really_skips_calls_beside_ours(tiny_model, caplog):
    caplog.set_level(logging.INFO)
    for storage in ("features", "latents"):
        content, bank = scene(tiny_model, steps=STEPS, storage=storage)
        sample(cached(patch(tiny_model, bank), "EasyCache", 0.6), content)
    skipped = [record.getMessage() for record in caplog.records if "EasyCache - skipped" in record.getMessage()]
    assert len(skipped) == 2 and skipped[0] == skipped[1] and "skipped 0/" not in skipped[0]


def test_a_replay_of_latents_from_a_file_is_not_answered_by_the_runs_cache(tiny_model):
    content, bank = scene(tiny_model, steps=STEPS, storage="latents", level_stride=2)
    loaded = bank.with_pictures([_from_file(features) for features in bank.pictures])
    found, expected = (sample(cached(patch(tiny_model, each), "EasyCache", 1.0), content) for each in (loaded, bank))
    assert difference(found, expected) < 1e-5


def _from_file(trajectory):
    return type(trajectory)(trajectory.header, trajectory.latents, trajectory.inputs, trajectory.noise_pair)


def test_a_replay_that_another_node_answers_is_one_sentence(tiny_model):
    content, bank = scene(tiny_model, steps=4, storage="latents")
    bank = bank.with_pictures([_from_file(features) for features in bank.pictures])
    with pytest.raises(MagicStyleError, match="was to be run again .* take it off the sampling model"):
        sample(answering(patch(tiny_model, bank), every=3), content)


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_a_node_that_always_answers_by_itself_is_said_by_name(tiny_model, caplog, storage):
    content, bank = scene(tiny_model, steps=4, storage=storage)

    def zeros(executor, x, *args, **kwargs):
        return torch.zeros_like(x)

    model = patch(tiny_model, bank)
    model.add_wrapper_with_key("diffusion_model", "zeros", zeros)
    sample(model, content)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "nothing was fused in output.6-11" in warning and "(zeros)" in warning and "take it off" in warning


def test_a_window_between_two_noise_levels_is_said(tiny_model, caplog):
    content, bank = scene(tiny_model, steps=4)
    sample(patch(tiny_model, bank, start=0.4, end=0.42), content)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "between start_percent and end_percent" in warning


def test_a_run_outside_of_the_patchers_part_and_a_neutral_patcher_are_silent(tiny_model, caplog):
    content, bank = scene(tiny_model, steps=6)
    half = content._replace(sigmas=content.sigmas[:3])
    sample(patch(tiny_model, bank, start=0.8, end=1.0), half)
    sample(patch(tiny_model, bank, style_weight=0.0, query_preservation=0.0, temperature=1.0), content)
    assert not own_lines(caplog)


class MixtureOfDiffusers(Tiles):
    """Called as TiledDiffusion's class is."""


class TeaCache:
    """Called as the node is in which its wrapper is a closure."""

    @staticmethod
    def apply(model):
        def wrapper(apply_model, given):
            raise AssertionError("left in")

        return wrapped(model, wrapper)


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("name", ["Tiled Diffusion", "TeaCache"])
def test_what_is_known_by_name_is_left_out_of_an_inversion(tiny_model, name, storage):
    model = TeaCache.apply(tiny_model) if name == "TeaCache" else wrapped(tiny_model, MixtureOfDiffusers(8, 4))
    found, plain = (inversion(each, picture(16, 16), 3, storage=storage) for each in (model, tiny_model))
    assert f"left out of the inversion: {name}" in found.report
    assert all(torch.equal(found.features.tensors[key], value) for key, value in plain.features.tensors.items())


def test_a_function_that_hides_the_networks_methods_hides_nothing_from_a_replay(tiny_model):
    """As a first-block cache does it: for the time of the run's calls the network has a forward of another's."""
    network, seen = tiny_model.model.diffusion_model, []

    def run(apply_model, given):
        def forward(x, *args, **kwargs):
            seen.append(x.shape)
            return type(network)._forward(network, x, *args, **kwargs)

        with mock.patch.object(network, "_forward", forward):
            return apply_model(given["input"], given["timestep"], **given["c"])

    content, bank = scene(tiny_model, 8, 12, steps=3, style=(8, 8), storage="latents")
    expected = sample(patch(tiny_model, bank), content)
    assert difference(sample(patch(wrapped(tiny_model, run), bank), content), expected) == 0.0
    assert seen and {shape[-1] for shape in seen} == {12} and len(seen) == 3
    assert "_forward" not in network.__dict__


def test_a_round_trip_is_measured_without_the_cache(tiny_model):
    orders = [
        invert(
            "content", model, {"samples": picture()}, tiny_conditioning(), 6, "ddim_uniform", "output.9", measure=True
        )
        for model in (tiny_model, cached(tiny_model, "EasyCache", 3.0, 0.0, 1.0))
    ]
    lines = [[line for line in order.report.splitlines() if "round trip" in line] for order in orders]
    assert lines[0] == lines[1] and lines[0]

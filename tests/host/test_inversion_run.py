"""An inversion as the host sees it: progress, memory, and what is decided before it runs."""

import math
from types import SimpleNamespace

import comfy.model_management
import pytest
import torch
from magicstyle.attention_patches.architectures import find
from magicstyle.banks.placement import OnDisk, page_locked
from magicstyle.banks.stored_features import StoredFeatures
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.inversion import sampling_grid
from magicstyle.nodes.initial_latent import InitialLatent
from magicstyle.nodes.inversion import run as inversion_run
from magicstyle.nodes.inversion.order import InversionOrder, check_tokens
from magicstyle.tests.host.neighbours import stock
from magicstyle.tests.host.scene import difference, inversion, patch, picture, sample, scene
from magicstyle.tests.host.tiny import tiny_latent, tiny_sigmas


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


# --- progress ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [True, False], ids=["with a final zero", "without"])
@pytest.mark.parametrize("method", ["ddim", "fixed_point", "exact", "noising"])
def test_progress_counts_the_levels_up_to_their_number(tiny_model, monkeypatch, method, zero):
    told = []
    monkeypatch.setattr(
        inversion_run.latent_preview,
        "prepare_callback",
        lambda model, steps, *_: lambda step, x0, x, total: told.append((step, total)),
    )
    sigmas = tiny_sigmas(tiny_model, 5)
    inversion(tiny_model, picture(), sigmas=sigmas if zero else sigmas[:-1], method=method)
    assert told == [(step, 5) for step in range(5)]


def test_the_round_trip_is_measured_down_to_the_clean_picture_whether_the_schedule_ends_in_zero(tiny_model):
    sigmas = tiny_sigmas(tiny_model, 5)
    reports = [inversion(tiny_model, picture(), sigmas=given, measure=True).report for given in (sigmas, sigmas[:-1])]
    trips = [[line for line in report.splitlines() if "round trip" in line] for report in reports]
    assert trips[0] == trips[1] and len(trips[0]) == 1


@pytest.mark.parametrize("more", [{}, {"measure": True, "method": "exact"}, {"storage": "latents"}])
def test_an_inversion_looks_up_the_models_architecture_once(tiny_model, monkeypatch, more):
    kind, made = type(find(tiny_model)), []
    begin = kind.__init__
    monkeypatch.setattr(kind, "__init__", lambda self, *args: made.append(self) or begin(self, *args))
    inversion(tiny_model, picture(), **more)
    assert len(made) == 1


# --- memory --------------------------------------------------------------------------------------------------------

ROW = 1000.0  # bytes that the host reckons for a row of a batch, in these tests


@pytest.fixture
def batches(tiny_model, monkeypatch):
    """The batch sizes whose memory the host computes."""
    sizes = []
    monkeypatch.setattr(
        type(tiny_model.model),
        "memory_required",
        lambda self, input_shape, **_: sizes.append(input_shape[0]) or ROW * input_shape[0],
    )
    return sizes


def by_hand(tokens, width=32, roles=5):
    """Bytes of tokens in float32, by default those of q, k and v of the content and of k and v of the style."""
    return tokens * width * roles * 4


@pytest.mark.parametrize("batch, roles", [(1, 3 + 2), (4, 4 * 3 + 2)])
@pytest.mark.parametrize("storage", ["features", "latents"])
def test_the_host_is_told_of_the_largest_layer_or_of_all_that_a_replay_holds(
    tiny_model, batches, storage, batch, roles
):
    fine, coarse = by_hand(8 * 12, roles=roles), by_hand(4 * 6, roles=roles)
    bytes_held = fine if storage == "features" else 3 * fine + 3 * coarse
    content, bank = scene(tiny_model, storage=storage, batch=batch)
    batches.clear()
    sample(patch(tiny_model, bank), content)
    rows = batch + -(-bytes_held // int(ROW))
    assert max(batches) == 2 * rows  # the host itself doubles a batch, for the negative prompt


@pytest.mark.parametrize("method, together", [("ddim", 1), ("noising", 4)])
def test_the_host_is_told_of_the_rows_of_an_inversions_calls(tiny_model, batches, method, together):
    inversion(tiny_model, picture(), method=method)
    assert max(batches) == 2 * together


# --- budget --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "share, place, kept, every",
    [
        (2.0, "auto", StoredFeatures, 1),
        (1.99, "auto", StoredFeatures, 2),  # three of five levels
        (1.2, "cpu", StoredFeatures, 2),
        (1.19, "cpu", StoredFeatures, 3),
        (0.39, "auto", Trajectory, 3),
        (0.5, "disk", StoredFeatures, 1),
    ],
)
def test_auto_keeps_the_finest_features_that_take_half_of_the_free_memory_then_latents(
    tiny_model, monkeypatch, share, place, kept, every
):
    bytes_of_features = 5 * by_hand(3 * (8 * 12 + 4 * 6), roles=3)
    monkeypatch.setattr(inversion_run, "free_memory", lambda: math.ceil(share * bytes_of_features))
    features = inversion(tiny_model, picture(), storage="auto", storage_device=place).features
    assert isinstance(features, kept) and features.header.every == every


GIGABYTE = 2**30
CUDA = torch.device("cuda")


def allocate(monkeypatch, place, device=CUDA, *, free, on_device=0, model=0, estimate=GIGABYTE):
    memory = {CUDA.type: on_device, "cpu": free}
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: memory[device.type])
    stub = SimpleNamespace(load_device=device, model_size=lambda: model)
    return inversion_run.allocator(place, stub, estimate)


def device_of(allocate):
    """Where an allocator makes room, without a CUDA device to do it on."""
    made = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "empty", lambda *_, device=None, **__: made.append(torch.device(device).type))
        allocate("x", (1,), torch.float32)
    return made[0]


@pytest.mark.parametrize(
    "on_device, model, expected", [(8, 0, "cuda"), (7.9, 0, "cpu"), (10, 2, "cuda"), (10, 3, "cpu")]
)
def test_features_go_where_the_model_runs_while_they_take_an_eighth_of_what_it_leaves(
    monkeypatch, on_device, model, expected
):
    chosen = allocate(monkeypatch, "auto", free=0, on_device=on_device * GIGABYTE, model=model * GIGABYTE)
    assert device_of(chosen) == expected


@pytest.mark.parametrize("free, locked", [(4, True), (3.9, False)])
def test_main_memory_is_page_locked_while_features_take_a_quarter_of_it(monkeypatch, free, locked):
    chosen = allocate(monkeypatch, "cpu", free=free * GIGABYTE)
    assert (chosen is page_locked) == locked
    on_cpu = allocate(monkeypatch, "cpu", torch.device("cpu"), free=64 * GIGABYTE)
    assert on_cpu is not page_locked and device_of(on_cpu) == "cpu"


def test_a_place_that_was_asked_for_is_the_place(monkeypatch):
    assert device_of(allocate(monkeypatch, "gpu", free=0)) == "cuda"
    assert isinstance(allocate(monkeypatch, "disk", free=64 * GIGABYTE), OnDisk)


# --- the initial latent --------------------------------------------------------------------------------------------


def initial(content, style, mode="adain", strength=1.0, **masks):
    return InitialLatent.execute({"samples": content}, {"samples": style}, mode, strength, **masks).result[0]["samples"]


def test_the_initial_latent_moves_inside_the_region_to_the_style_inside_its_mask():
    content, style = tiny_latent(8, 12), 3.0 * tiny_latent(8, 12, seed=9) + 1.0
    left, top = torch.zeros(1, 64, 96), torch.zeros(1, 64, 96)
    left[:, :, :48] = 1.0
    top[:, :32] = 1.0
    result = initial(content, style, region=left, style_mask=top)
    assert torch.equal(result[..., 6:], content[..., 6:])
    moved, shown = result[..., :6], style[:, :, :4]
    torch.testing.assert_close(moved.mean((2, 3)), shown.mean((2, 3)), atol=1e-4, rtol=1e-4)
    spreads = (t.std((2, 3), correction=0) for t in (moved, shown))
    torch.testing.assert_close(*spreads, atol=1e-3, rtol=1e-3)


def test_the_initial_latent_without_colours_or_strength_is_the_contents():
    content, style = tiny_latent(8, 12), tiny_latent(8, 12, seed=9)
    assert torch.equal(initial(content, style, mode="content"), content)
    assert difference(initial(content, style, strength=0.0), content) < 1e-6
    assert difference(initial(content, style), content) > 0.1


@pytest.mark.parametrize("spread", [13.1 / 0.18215, 11.0 / 0.18215])
def test_white_noise_of_a_host_of_half_precision_gets_its_colours(spread):
    """--fp16-intermediates: at the larger spread it was refused as not finite, at the other a channel could go flat."""
    seeds = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    content, style = (spread * torch.randn(1, 4, 64, 64, generator=seed) for seed in seeds)
    half, single = initial(content.half(), style.half()), initial(content, style)
    assert half.dtype == torch.float16 and difference(half.float(), single) < 1e-3


@pytest.mark.parametrize("steps, made", [(6, 7), (5, 5), (50, 50), (48, 50)])
def test_steps_that_a_scheduler_adds_are_explained(tiny_model, steps, made):
    order = InversionOrder("content", tiny_model, {}, [], steps=steps)
    assert len(sampling_grid(order.schedule)) == made
    notes = order.count_note
    assert len(notes) == (steps != made)
    assert all(
        f"makes {made} steps where steps says {steps}: it takes every {1000 // steps}th" in note for note in notes
    )


@pytest.mark.parametrize("steps, words", [(60, "each of"), (40, "each of"), (24, "every 2nd of"), (15, "every 3rd of")])
def test_the_fifty_levels_of_an_lcm_are_counted_in_words_that_can_be(tiny_model, steps, words):
    model = stock(
        "comfy_extras.nodes_model_advanced.ModelSamplingDiscrete", model=tiny_model, sampling="lcm", zsnr=False
    )
    (note,) = InversionOrder("content", model[0], {}, [], steps=steps).count_note
    assert f"it takes {words} the model's 50 noise levels" in note


# --- sizes that cannot be computed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_latent_whose_attention_takes_a_cpu_minutes_is_refused_with_its_size(tiny_model, monkeypatch, device):
    """A photograph of 3000x4000: 187500 tokens where the model attends at the latent's own size."""
    monkeypatch.setattr(tiny_model, "load_device", torch.device(device))

    def grids(latent):
        return find(tiny_model).grids(tuple(latent.shape[2:])).values()

    latent = picture(375, 500)
    if device == "cpu":
        with pytest.raises(MagicStyleError, match="3000x4000 pixels: 187500 tokens.*Scale Image to Max Dimension"):
            check_tokens(tiny_model, grids(latent), latent)
    else:
        check_tokens(tiny_model, grids(latent), latent)
    check_tokens(tiny_model, grids(picture(128, 128)), picture(128, 128))

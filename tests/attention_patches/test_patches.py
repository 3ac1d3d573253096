"""Capture and fusion on the rows of a running batch, without a host."""

from dataclasses import replace

import pytest
import torch
from magicstyle.attention_patches.call import Call, RowPlan, TokenLayout
from magicstyle.attention_patches.capture import Recorder, TrajectoryRecorder
from magicstyle.attention_patches.fusion_patch import FusionPatch, SigmaWindow, coverage_warning
from magicstyle.attention_patches.replay import Held
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.image_features import FeatureHeader
from magicstyle.banks.level_groups import LevelGroups
from magicstyle.banks.stored_features import FeatureWriter, StoredFeatures
from magicstyle.core.controls import StyleControls
from magicstyle.core.features import AttentionFeatures, ModelId
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.grid import Grid, Window
from magicstyle.core.layers import LayerId
from magicstyle.tests.core.oracle import adain, dense_attention, kernel, randn
from torch.testing import assert_close

HEADS, C = 2, 16
LAYER = LayerId("output", 9, 0)
GRID, STYLE_GRID = Grid((3, 5)), Grid((4, 2))
SIGMAS = (8.0, 1.0)


def picture(seed, grid, batch=1, sigmas=SIGMAS):
    writer = FeatureWriter((LAYER,), len(sigmas), "qkv", torch.float32)
    for step in range(len(sigmas)):
        n = grid[0] * grid[1]
        qkv = (randn(100 * seed + 10 * step + role, batch, n, C) for role in range(3))
        writer.write(LAYER, grid, step, AttentionFeatures(*qkv))
    return writer.close(FeatureHeader(ModelId("SD15", "x"), "ddim", sigmas, (batch, 4, *grid), {}))


def call(q, k, v, *, layer=LAYER, grid=GRID, chunks=1, windows=()):
    plan = RowPlan(chunks, windows=windows)
    return Call(layer, TokenLayout(grid), plan, AttentionFeatures(q, k, v), kernel(HEADS, True))


def answer(bank, q, k, v, *, chunks=1, grid=GRID, layer=LAYER, sigma=8.0, **knobs):
    patch = FusionPatch(bank, FusionSettings(**knobs), [LAYER], SigmaWindow(9.0, 0.0))
    handlers = patch.handlers([features.view(sigma, None) for features in bank.pictures])
    return handlers.attention(call(q, k, v, layer=layer, grid=grid, chunks=chunks))


def live(rows, n=15):
    return [randn(900 + i, rows, n, C) for i in range(3)]


def test_recorder_keeps_steps_and_layers_that_it_was_asked_for_and_changes_nothing():
    writer = FeatureWriter((LAYER,), 2, "qkv", torch.float32)
    recorder, (q, k, v) = Recorder(writer), live(1)
    see = recorder.handlers.attention
    assert see(call(q, k, v)) is None  # the host's to answer
    for step in (1, 0):
        with recorder.recording((step,), q):
            see(call(q + step, k, v))
            see(call(q, k, v, layer=LayerId("middle", 0, 0)))
    # what comes after the last step, such as a round trip, is not recorded
    assert see(call(q, k, v)) is None  # the host's to answer
    see(call(9.0 * q, 9.0 * k, 9.0 * v))
    stored = writer.close(FeatureHeader(ModelId("SD15", "x"), "ddim", SIGMAS, (1, 4, *GRID), {}))
    assert stored.header.layers == (LAYER,)
    assert torch.equal(stored.at(LAYER, 1).q, q + 1) and torch.equal(stored.at(LAYER, 0).q, q)


def test_recorders_keep_the_middle_of_each_group_alone():
    """Also where several steps share a model call, and where a step is evaluated twice: the last one counts."""
    groups, sigmas = LevelGroups(5, 3), (9.0, 5.0, 3.0, 2.0, 1.0)
    header = FeatureHeader(ModelId("SD15", "x"), "ddim", sigmas, (1, 4, *GRID), {}, every=3)
    recorder = Recorder(FeatureWriter((LAYER,), groups.count, "qkv", torch.float32), groups.kept)
    latents = TrajectoryRecorder(groups.count, torch.float32, groups.kept)
    (q, k, v), x = live(1), randn(7, 1, 4, *GRID)
    for steps in ((3, 4), (1, 2), (0,), (1,)):
        rows = [torch.cat([t + step for step in steps]) for t in (q, k, v)]
        with recorder.recording(steps, x):
            recorder.handlers.attention(call(*rows))
        with latents.recording(steps, torch.cat([x + step for step in steps])):
            pass
    stored, trajectory = recorder.close(header), latents.close(header, None)
    assert [float((stored.at(LAYER, step).k - k).mean().round()) for step in range(5)] == [1, 1, 1, 3, 3]
    assert_close(trajectory.latents, torch.stack([x + 1, x + 3]))


def test_replayed_features_are_held_while_sampling_stays_in_a_group():
    held, made = Held(), []

    def make(picture, group):
        return held.view(picture, group, lambda: made.append((picture, group)) or (lambda layer, roles: group))

    for group in (0, 0, 1, 1, 0):
        assert [make(picture, group)(LAYER, "k") for picture in (0, 1)] == [group, group]
    assert made == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 0), (1, 0)]


@pytest.mark.parametrize("content_batch, style_batch, chunks", [(1, 1, 1), (1, 1, 2), (3, 1, 2), (3, 3, 1), (3, 3, 3)])
def test_pictures_lie_on_the_chunk_major_rows_of_the_batch(content_batch, style_batch, chunks):
    content, style = picture(1, GRID, content_batch), picture(2, STYLE_GRID, style_batch)
    rows = chunks * content_batch
    q, k, v = live(rows)
    knobs = {"method": "styleid", "query_preservation": 0.75, "temperature": 1.5}
    result = answer(FeatureBank(content, (StyleEntry(style),)), q, k, v, chunks=chunks, **knobs)
    for row in range(rows):
        c = content.at(LAYER, 0).q[[row % content_batch]]
        s = style.at(LAYER, 0)
        s_row = row % style_batch
        expected = dense_attention(0.75 * c + 0.25 * q[[row]], s.k[[s_row]], s.v[[s_row]], HEADS, tau=1.5)
        assert_close(result[[row]], expected, atol=1e-5, rtol=1e-5)


def over_tokens(x, y):
    """AdaIN of all rows of b n c together."""
    flat = adain(x.flatten(0, 1)[None], y)
    return flat[0].unflatten(0, x.shape[:2])


@pytest.mark.parametrize("style_batch", [1, 3])
def test_frames_together_have_one_mean_and_one_spread_in_each_chunk(style_batch):
    frames, chunks = 3, 2
    content, style = picture(1, GRID, frames), picture(2, STYLE_GRID, style_batch)
    q, k, v = live(chunks * frames)
    controls = StyleControls(frames_together=True)
    bank = FeatureBank(content, (StyleEntry(style),))
    result = answer(bank, q, k, v, chunks=chunks, method="style_aligned", controls=controls)
    s = style.at(LAYER, 0)
    shown = slice(None) if style_batch > 1 else [0] * frames
    for chunk, (cq, ck, cv) in enumerate(zip(*(x.chunk(chunks) for x in (q, k, v)), strict=True)):
        lent = [x.flatten(0, 1)[None] for x in (s.q, s.k)]
        cq, ck = (over_tokens(x, y) for x, y in zip((cq, ck), lent, strict=True))
        keys, values = torch.cat([s.k[shown], ck], 1), torch.cat([s.v[shown], cv], 1)
        rows = slice(chunk * frames, (chunk + 1) * frames)
        assert_close(result[rows], dense_attention(cq, keys, values, HEADS), atol=1e-5, rtol=1e-5)
    alone = answer(bank, q, k, v, chunks=chunks, method="style_aligned")
    assert not torch.allclose(result, alone, atol=1e-2)


@pytest.mark.parametrize(
    "plan, rows, together",
    [
        (RowPlan(2), 6, 3),
        (RowPlan(6, pictures=(4, 1, 2, 4, 1, 2)), 6, 3),  # a context window, both prompts
        (RowPlan(3, pictures=(0, 1, 2)), 3, 3),
        (RowPlan(2, pictures=(1, 1)), 2, 1),  # two tiles of one picture
        (RowPlan(3, pictures=(0, 1, 0)), 3, 1),
        (RowPlan(lost=True), 4, 1),
    ],
)
def test_rows_of_one_batch_are_known(plan, rows, together):
    assert plan.together(rows) == together


def test_the_features_of_the_nearest_noise_level_serve():
    bank = FeatureBank(picture(1, GRID), (StyleEntry(picture(2, STYLE_GRID)),))
    q, k, v = live(1)
    assert torch.equal(answer(bank, q, k, v, sigma=1.1), answer(bank, q, k, v, sigma=1.0))
    assert not torch.equal(answer(bank, q, k, v, sigma=1.1), answer(bank, q, k, v, sigma=8.0))


@pytest.mark.parametrize("other", [{"layer": LayerId("output", 8, 0)}, {"grid": Grid((5, 3))}])
def test_other_layers_and_other_grids_are_left_to_others(other):
    bank = FeatureBank(picture(1, GRID), (StyleEntry(picture(2, STYLE_GRID)),))
    q, k, v = live(2)
    assert answer(bank, q, k, v, chunks=2, **other) is None


def test_stored_half_precision_follows_the_running_tensors():
    bank = FeatureBank(picture(1, GRID), (StyleEntry(picture(2, STYLE_GRID)),))
    q, k, v = (t.double() for t in live(1))
    assert answer(bank, q, k, v).dtype == torch.float64


def test_masks_are_laid_on_the_grids_of_their_pictures():
    region = torch.zeros(1, 30, 50)
    region[:, :10] = 1.0  # the first of three rows of tokens
    bank = FeatureBank(picture(1, GRID), (StyleEntry(picture(2, STYLE_GRID), 1.0, region, torch.ones(1, 9, 9)),))
    q, k, v = live(2)
    styled = answer(bank, q, k, v, chunks=2, method="styleid")
    everywhere = answer(
        FeatureBank(bank.content, (StyleEntry(picture(2, STYLE_GRID)),)), q, k, v, method="styleid", chunks=2
    )
    assert_close(styled[:, :5], everywhere[:, :5], atol=1e-5, rtol=1e-5)
    assert (styled[:, 5:] - everywhere[:, 5:]).abs().max() > 0.1


def test_the_window_holds_its_ends():
    window = SigmaWindow(5.0, 1.0)
    assert [sigma in window for sigma in (5.1, 5.0, 3.0, 1.0, 0.9)] == [False, True, True, True, False]


@pytest.mark.parametrize("sigmas, warns", [((8.0, 1.0, 0.0), False), ((8.01, 0.999), False), ((8.0, 3.0, 1.0), True)])
def test_a_schedule_that_was_not_stored_is_warned_of_once_and_with_the_cure(sigmas, warns):
    bank = FeatureBank(picture(1, GRID), (StyleEntry(picture(2, STYLE_GRID)),))
    warning = coverage_warning(bank, torch.tensor(sigmas))
    assert (warning is not None) == warns
    assert not warns or "sigma 3.000" in warning and "sigmas output" in warning


def test_levels_of_a_group_are_covered_and_beyond_them_the_warning_speaks_of_groups():
    sigmas = (8.0, 4.0, 2.0, 1.0)
    whole = picture(1, GRID, sigmas=sigmas)
    stacks = {(LAYER, role): whole.tensors[f"{LAYER}.{role}"][[0, 2]] for role in "qkv"}
    bank = FeatureBank(StoredFeatures(replace(whole.header, every=2), stacks), (StyleEntry(whole),))
    assert coverage_warning(bank, torch.tensor(sigmas)) is None
    warning = coverage_warning(bank, torch.tensor([8.0, 6.0]))
    assert "sigma 6.000" in warning and "nearest of the 4 inverted noise levels" in warning
    assert "the features of the nearest group of 2 serve" in warning


def test_chunks_of_several_windows_have_each_their_part_of_the_content():
    """A latent of 3 x 5 with one token per pixel; the second chunk's window lies one column further right."""
    content, style = picture(1, GRID, 2), picture(2, STYLE_GRID)
    patch = FusionPatch(
        FeatureBank(content, (StyleEntry(style),)), FusionSettings(method="masactrl"), [LAYER], SigmaWindow(9.0, 0.0)
    )
    handlers = patch.handlers([features.view(8.0, None) for features in patch.bank.pictures])
    windows = (Window(1, 1, 2, 3), Window(1, 2, 2, 3))
    q, k, v = live(4, 6)
    result = handlers.attention(call(q, k, v, grid=Grid((2, 3)), chunks=2, windows=windows))
    columns = ((1, 2, 3), (2, 3, 4))
    for row in range(4):
        tokens = [5 * y + x for y in (1, 2) for x in columns[row // 2]]
        ck, cv = (t[[row % 2]][:, tokens] for t in content.at(LAYER, 0, "kv"))
        assert_close(result[[row]], dense_attention(q[[row]], ck, cv, HEADS), atol=1e-5, rtol=1e-5)


def test_a_window_that_the_model_sees_on_another_grid_is_left_to_others():
    bank = FeatureBank(picture(1, GRID), (StyleEntry(picture(2, STYLE_GRID)),))
    patch = FusionPatch(bank, FusionSettings(), [LAYER], SigmaWindow(9.0, 0.0))
    handlers = patch.handlers([features.view(8.0, None) for features in bank.pictures])
    assert handlers.attention(call(*live(1, 3), grid=Grid((1, 3)), windows=(Window(0, 0, 2, 3),))) is None


def test_a_picture_that_serves_twice_is_known_by_its_number():
    content, style = picture(1, GRID), picture(2, STYLE_GRID)
    bank = FeatureBank(content, (StyleEntry(style, 0.5), StyleEntry(content, 2.0), StyleEntry(style, 0.5)))
    assert [features is known for features, known in zip(bank.pictures, (content, style), strict=True)] == [True, True]
    assert bank.numbers == (1, 0, 1) and [bank.name(number) for number in (0, 1)] == ["content", "style 1"]
    patch = FusionPatch(bank, FusionSettings(method="styleid"), [LAYER], SigmaWindow(9.0, 0.0))
    assert patch.roles == ("qkv", "kv")
    other = picture(3, STYLE_GRID)
    changed = bank.with_pictures((content, other))
    assert [entry.features for entry in changed.styles] == [other, content, other]
    assert [entry.weight for entry in changed.styles] == [0.5, 2.0, 0.5]


def test_copies_of_a_style_in_a_soft_region_are_that_style_once():
    content, style, region = picture(1, GRID), picture(2, STYLE_GRID), torch.full((1, 4, 4), 0.5)
    once = answer(FeatureBank(content, (StyleEntry(style, 1.0, region),)), *live(1))
    twice = answer(FeatureBank(content, (StyleEntry(style, 0.5, region),) * 2), *live(1))
    assert_close(twice, once)

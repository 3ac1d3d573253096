"""Tiles and windows that another node cuts out of the latent, in a real ComfyUI: fused in place, or said to be not."""

import logging

import pytest
import torch
from magicstyle.attention_patches.placing import Placer
from magicstyle.attention_patches.tiles import found_tiles
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.tests.host import family_scene
from magicstyle.tests.host.families import FAMILIES, family_prompt
from magicstyle.tests.host.neighbours import Tiles, windows, wrapped
from magicstyle.tests.host.scene import difference, inversion, own_lines, patch, picture, sample, scene
from magicstyle.tests.host.tiny import tiny_conditioning

from nodes import ConditioningSetArea

FUSED = 1e-3  # of a picture: what the fusion moves at least


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def halves(model):
    def run(apply_model, given):
        parts = given["input"].chunk(2, -1)
        return torch.cat([apply_model(part.contiguous(), given["timestep"], **given["c"]) for part in parts], -1)

    return wrapped(model, run)


CUT = {
    "halves": halves,
    "tiles": lambda model: wrapped(model, Tiles(8, 4)),
    "odd tiles": lambda model: wrapped(model, Tiles(7, 3)),
    "rolled": lambda model: wrapped(model, Tiles(8, 2, shift=5)),
    "windows over rows": lambda model: windows(model, 8, 4, 2),
    "windows over columns": lambda model: windows(model, 8, 4, 3),
    "tiles in windows": lambda model: windows(wrapped(model, Tiles(8, 4)), 12, 4, 3),
}


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("cut", CUT)
def test_the_style_acts_in_tiles_and_windows(tiny_model, caplog, cut, storage, cfg=3.0):
    content, bank = scene(tiny_model, 16, 16, steps=3, storage=storage)
    plain, alone, ours = (sample(m, content, cfg) for m in (CUT[cut](tiny_model), tiny_model, patch(tiny_model, bank)))
    for order in (lambda model: CUT[cut](patch(model, bank)), lambda model: patch(CUT[cut](model), bank)):
        found = sample(order(tiny_model), content, cfg)
        assert difference(found, plain) > FUSED
        assert 0.3 < difference(found, plain) / difference(ours, alone) < 3.0
    assert not own_lines(caplog)


def first_call(model, content, cfg=1.0, positive=None):
    """(x, prompt, answer) of the first call of the model."""
    calls = []

    def spy(executor, x, t, concat, context, *args, **kwargs):
        out = executor(x, t, concat, context, *args, **kwargs)
        calls.append((x, context, out))
        return out

    model = model.clone()
    model.add_wrapper_with_key("apply_model", "spy", spy)
    sample(model, content, cfg, positive)
    return calls[0]


def one_tile(model, top, left, height, width):
    """The model called with one tile alone."""

    def run(apply_model, given):
        tile = given["input"][..., top : top + height, left : left + width]
        return given["input"] + 0 * apply_model(tile, given["timestep"], **given["c"]).mean()

    return wrapped(model, run)


@pytest.mark.parametrize("place", [(4, 8, 8, 8), (3, 5, 7, 9)], ids=["even", "odd"])
def test_a_tile_is_answered_as_an_area_of_the_same_place_is(tiny_model, place):
    content, bank = scene(tiny_model, 16, 16, steps=2)
    top, left, height, width = place
    area = ConditioningSetArea().append(tiny_conditioning(), 8 * width, 8 * height, 8 * left, 8 * top, 1.0)[0]
    patched = patch(tiny_model, bank, method="masactrl")
    (x, _, tile), (cut, _, expected) = (
        first_call(one_tile(patched, *place), content),
        first_call(patched, content, positive=area),
    )
    plain = first_call(one_tile(tiny_model, *place), content)[2]
    assert torch.equal(x, cut) and difference(tile - x, expected - x) < 1e-5 < difference(tile - x, plain - x)


def test_of_a_batch_of_frames_each_window_gets_its_own(tiny_model, caplog):
    frames, length, steps = 5, 3, 4  # an older ComfyUI compares one level for each frame with those of all steps
    content = inversion(tiny_model, picture(batch=frames), steps)
    style = inversion(tiny_model, picture(seed=9), steps)
    bank = FeatureBank(content.features, (StyleEntry(style.features),))
    whole = sample(patch(tiny_model, bank), content, 3.0)
    for order in (
        lambda model: windows(patch(model, bank), length, 1, 0),
        lambda model: patch(windows(model, length, 1, 0), bank),
    ):
        assert difference(sample(order(tiny_model), content, 3.0), whole) < 1e-5
    assert not own_lines(caplog)


def test_frames_share_their_statistics_also_in_windows_and_under_two_prompts(tiny_model):
    """Of equal frames each alone has the statistics of all; of others it has not."""
    frames, steps = 5, 4  # an older ComfyUI compares one level for each frame with those of all steps
    style = inversion(tiny_model, picture(seed=9), steps)
    equal = picture().expand(frames, -1, -1, -1).contiguous()
    for film, alike in ((equal, True), (picture(batch=frames), False)):
        content = inversion(tiny_model, film, steps)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        alone = patch(tiny_model, bank, method="style_aligned")
        shared = patch(tiny_model, bank, method="style_aligned", controls=StyleControls(frames_together=True))
        for around in (lambda model: model, lambda model: windows(model, 3, 1, 0)):
            off = difference(sample(around(shared), content, 3.0), sample(around(alone), content, 3.0))
            assert off < 1e-5 if alike else off > 1e-3


def test_a_batch_whose_pictures_are_sampled_one_by_one_gets_each_its_own(tiny_model, caplog):
    def one_by_one(apply_model, given):
        c = given["c"]
        rows = zip(given["input"].split(1), given["timestep"].split(1), c["c_crossattn"].split(1), strict=True)
        return torch.cat([apply_model(x, t, **{**c, "c_crossattn": context}) for x, t, context in rows])

    content = inversion(tiny_model, picture(batch=3), 3)
    bank = FeatureBank(content.features, (StyleEntry(inversion(tiny_model, picture(seed=9), 3).features),))
    whole = sample(patch(tiny_model, bank), content, 3.0)
    assert difference(sample(patch(wrapped(tiny_model, one_by_one), bank), content, 3.0), whole) < 1e-5
    assert not own_lines(caplog)


def test_a_region_is_where_it_was_in_every_tile(tiny_model):
    content, bank = scene(tiny_model, 16, 16, steps=2)
    mask = torch.zeros(1, 16, 16)
    mask[..., :8] = 1.0
    style = bank.styles[0].features
    left = FeatureBank(content.features, (StyleEntry(style, 1.0, mask),))
    plain = FeatureBank(content.features, (StyleEntry(style, 0.0),))
    tiled = halves(tiny_model)
    found, whole, none = (sample(patch(tiled, each, method="styleid"), content) for each in (left, bank, plain))
    assert difference(found[..., :8], whole[..., :8]) < 1e-4 < difference(found[..., :8], none[..., :8])
    assert difference(found[..., 8:], none[..., 8:]) < 1e-4 < difference(found[..., 8:], whole[..., 8:])


def test_rsa_leaves_the_negative_prompt_alone_in_tiles_too(tiny_model):
    content, bank = scene(tiny_model, 16, 16, steps=2)
    _, prompts, fused = first_call(CUT["tiles"](patch(tiny_model, bank, method="rsa")), content, 3.0)
    plain = first_call(CUT["tiles"](tiny_model), content, 3.0)[2]
    moved = {}
    for prompt, a, b in zip(prompts, fused, plain, strict=True):
        moved.setdefault(float(prompt.sum()), set()).add(bool((a - b).abs().max() > 1e-5))
    assert sorted(moved.values(), key=str) == [{False}, {True}]


def test_tiles_whose_place_cannot_be_known_are_said_once_by_name(tiny_model, caplog):
    def run(apply_model, given):
        parts = given["input"].chunk(2, -1)
        return torch.cat([apply_model(0.999 * part, given["timestep"], **given["c"]) for part in parts], -1)

    content, bank = scene(tiny_model, 16, 16, steps=3)
    model = wrapped(tiny_model, run)
    assert torch.equal(sample(patch(model, bank), content), sample(model, content))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "tiles, windows or another size" in record.getMessage() and "output.6.0, " in record.getMessage()
    assert "take the node off" in record.getMessage()


def test_a_tile_is_found_where_it_stands_and_nowhere_in_a_latent_that_is_even():
    even = torch.ones(1, 4, 8, 8)
    assert found_tiles(even[..., :4], even) is None
    latent = torch.randn(2, 4, 8, 8)
    (one,) = found_tiles(latent[1:, :, 2:6, 3:7], latent)
    assert (one.picture, tuple(one.window)) == (1, (2, 3, 4, 4))
    twins = latent[:1].expand(2, -1, -1, -1)
    assert [tile.picture for tile in found_tiles(twins, twins)] == [0, 1]
    assert found_tiles(torch.randn(1, 4, 9, 8), latent) is None


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize(
    "cut, name", [("windows over columns", "Context Windows"), ("windows over rows", "Context Windows")]
)
def test_context_windows_are_left_out_of_an_inversion_with_a_line_in_its_report(tiny_model, cut, name, storage):
    plain, found = (
        inversion(model, picture(16, 16), 3, storage=storage) for model in (tiny_model, CUT[cut](tiny_model))
    )
    assert f"left out of the inversion: {name}" in found.report
    assert all(torch.equal(found.features.tensors[key], value) for key, value in plain.features.tensors.items())


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("cut", ["halves", "tiles"])
def test_an_inversion_whose_picture_another_node_cuts_is_refused(tiny_model, cut, storage):
    with pytest.raises(MagicStyleError, match="cuts the picture into tiles or windows"):
        inversion(CUT[cut](tiny_model), picture(16, 16), 3, storage=storage)


@pytest.mark.parametrize("name", [name for name in ("flux", "chroma", "qwen-image", "wan") if name in FAMILIES])
def test_a_tile_of_a_transformer_gets_the_content_at_positions_of_its_own(name, monkeypatch):
    """In the first block a token has seen no other: what the whole picture keeps of it is what the tile makes of it."""
    content, bank = family_scene.scene(name)
    place = 2, 6, 4, 4

    def answered(model):
        rows = []

        def spy(executor, x, *args, **kwargs):
            rows.append(executor(x, *args, **kwargs))
            return rows[-1]

        model = one_tile(model, *place)
        model.add_wrapper_with_key("apply_model", "spy", spy)
        family_scene.sample(model, content, positive=family_prompt(name))
        return rows[0]

    patched = family_scene.patched(name, bank, "double.0", method="masactrl")
    own, plain = answered(patched), answered(family_scene.starting(name))
    assert difference(own, plain) < 1e-5
    monkeypatch.setattr(Placer, "cut", lambda self, features, heads, shifts: features)
    assert difference(answered(patched), plain) > 1e-4

"""Matched styles in a real ComfyUI: batches, sizes, masks, areas, LoRAs, and the picture of what took from where."""

import pytest
import torch
from magicstyle.attention_patches.correspondences import compared_layer, find_matches, stored_keys
from magicstyle.attention_patches.placing import Placer, Positions
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.layers import LayerId
from magicstyle.nodes.captions import STRIP
from magicstyle.nodes.correspondences import CorrespondencePreview, correspondence
from magicstyle.tests.core.oracle import best_matches
from magicstyle.tests.host.scene import difference, inversion, patch, picture, sample, scene
from magicstyle.tests.host.test_areas import EVEN
from magicstyle.tests.host.test_methods import with_lora
from magicstyle.tests.host.tiny import tiny_conditioning

KNOBS = {"method": "cocodiff", "query_preservation": 0.75, "temperature": 1.5}
UNMATCHED = StyleControls(match_weight=0.0)
STEPS = 3
HERE = Placer("SD", None, Positions())


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def bank_of(content, *styles, **more):
    return FeatureBank(content.features, tuple(StyleEntry(style.features, **more) for style in styles))


def test_without_a_match_weight_it_is_styleid_to_the_bit_for_a_style_of_any_size(tiny_model):
    content, bank = scene(tiny_model, style=(10, 6), steps=STEPS)
    styleid = sample(patch(tiny_model, bank, **{**KNOBS, "method": "styleid"}), content)
    assert torch.equal(sample(patch(tiny_model, bank, **KNOBS, controls=UNMATCHED), content), styleid)
    assert difference(sample(patch(tiny_model, bank, **KNOBS), content), styleid) > 1e-3


@pytest.mark.parametrize("storage", ["features", "latents"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_each_picture_of_a_batch_is_matched_by_itself(tiny_model, cfg, storage):
    """A batch of two with a batch of two styles is each pair alone, whatever rows the host joins."""
    contents, styles = picture(batch=2), picture(batch=2, seed=9)
    prompts = tiny_conditioning(seed=5), tiny_conditioning(seed=4)

    def painted(content, style):
        inverted = [inversion(tiny_model, latent, STEPS, storage=storage) for latent in (content, style)]
        return sample(patch(tiny_model, bank_of(*inverted), **KNOBS), inverted[0], cfg, *prompts)

    both = painted(contents, styles)
    for row in range(2):
        assert difference(both[row : row + 1], painted(contents[row : row + 1], styles[row : row + 1])) < 1e-4


def test_two_styles_side_by_side_are_each_matched(tiny_model):
    content = inversion(tiny_model, picture(), STEPS)
    one, two = (inversion(tiny_model, picture(*size, seed=seed), STEPS) for size, seed in (((8, 12), 9), ((6, 6), 3)))
    left = torch.zeros(1, 8, 12)
    left[..., :6] = 1.0
    entries = StyleEntry(one.features, 1.0, left), StyleEntry(two.features, 1.0, 1.0 - left)
    results = [
        sample(patch(tiny_model, FeatureBank(content.features, styles), **KNOBS), content)
        for styles in (entries, entries[::-1], entries[:1], entries[1:])
    ]
    assert difference(*results[:2]) < 1e-5
    assert min(difference(results[0], alone) for alone in results[2:]) > 1e-3


def test_a_style_mask_is_all_that_is_matched(tiny_model):
    content, style = (inversion(tiny_model, picture(seed=seed), STEPS) for seed in (0, 9))
    right = torch.zeros(1, 8, 12)
    right[..., 6:] = 1.0
    found = find_matches(bank_of(content, style, style_mask=right), content.features.header.layers, HERE, stored_keys)
    assert [grid.tokens for grid in found[0]] == [24, 96]
    for grid, matched in found[0].items():
        assert bool((matched.places % grid.width >= grid.width // 2).all())


def test_the_decoders_first_layer_of_the_second_finest_grid_is_compared(tiny_model):
    content, style = (inversion(tiny_model, picture(seed=seed), STEPS, "all") for seed in (0, 9))
    layers = content.features.header.layers
    assert {layer.block for layer in layers} == {"input", "middle", "output"}
    assert compared_layer(content.features.header, layers) == LayerId("output", 6, 0)
    assert compared_layer(content.features.header, layers[-2:]) == layers[-1]
    (found,) = find_matches(bank_of(content, style), layers[-6:], HERE, stored_keys)
    keys = [each.features.at(LayerId("output", 6, 0), 1).k for each in (content, style)]
    coarse = min(found, key=lambda grid: grid.tokens)
    assert torch.equal(found[coarse].places, best_matches(*keys)[0])


def test_an_area_sees_the_style_that_the_whole_picture_matches(tiny_model):
    size, one, two = EVEN
    content, style = (inversion(tiny_model, picture(*size, seed=seed), STEPS) for seed in (0, 9))
    prompts = [tiny_conditioning(seed=seed) for seed in (5, 6, 7)]
    positive = prompts[0] + one.limit(prompts[1]) + two.limit(prompts[2])
    ours, styleid = (
        sample(patch(tiny_model, bank_of(content, style), **{**KNOBS, **more}), content, 1.0, positive)
        for more in ({}, {"method": "styleid"})
    )
    assert torch.isfinite(ours).all() and difference(ours, styleid) > 1e-4


@pytest.mark.parametrize("storage", ["features", "latents"])
def test_a_later_lora_leaves_what_is_matched(tiny_model, storage):
    """Its latents are recorded with the model of the inversion, whose keys are compared."""
    content, bank = scene(tiny_model, steps=STEPS, storage=storage)
    _, features = scene(tiny_model, steps=STEPS)
    lora = with_lora(tiny_model)
    results = [sample(patch(lora, each, **KNOBS), content) for each in (bank, features)]
    assert difference(*results) < 1e-4
    assert difference(results[0], sample(patch(tiny_model, bank, **KNOBS), content)) > 1e-3


# --- the picture -----------------------------------------------------------------------------------------------------


def style_pixels():
    """A picture whose colour tells the place: red the column, green the row."""
    ramp = [torch.linspace(0, 1, side) for side in (64, 96)]
    red, green = ramp[1].expand(64, 96), ramp[0].unsqueeze(1).expand(64, 96)
    return torch.stack([red, green, torch.zeros(64, 96)], 2).unsqueeze(0)


def shown(model, bank, **more):
    given = {"style_image": style_pixels(), "style": 1, "layers": "auto", **more}
    return CorrespondencePreview.execute(model, bank, **given).args[0]


def test_each_place_of_the_portrait_is_painted_with_the_pixels_that_it_matches(tiny_model):
    content, bank = scene(tiny_model, steps=STEPS)
    found, grid = correspondence(tiny_model, bank, "auto", 1)
    image = shown(tiny_model, bank)
    side = 384 // 8
    assert grid == (8, 12) and image.shape[:2] == (1, 384 + STRIP) and image.shape[2] == 3 * 12 * side + 2 * 16
    painted = image[0, STRIP:, 12 * side + 16 : 24 * side + 16]
    centres = painted[side // 2 :: side, side // 2 :: side]
    assert torch.allclose(centres[..., 0] * 12, found.places[0].reshape(8, 12) % 12 + 0.5, atol=0.2)
    assert torch.allclose(centres[..., 1] * 8, found.places[0].reshape(8, 12) // 12 + 0.5, atol=0.2)
    assert shown(tiny_model, bank, content_image=style_pixels()).shape[2] > image.shape[2]
    assert correspondence(tiny_model, bank, "output.6-8", 1)[1] == (4, 6)


def test_latents_and_their_file_show_the_same(tiny_model):
    _, bank = scene(tiny_model, steps=STEPS)
    _, latents = scene(tiny_model, steps=STEPS, storage="latents")
    loaded = latents.with_pictures([Trajectory(f.header, f.latents, f.inputs) for f in latents.pictures])
    expected = correspondence(tiny_model, bank, "auto", 1)[0].places
    for each in (latents, loaded):
        assert torch.equal(correspondence(tiny_model, each, "auto", 1)[0].places, expected)


def test_what_cannot_be_shown_is_refused_in_one_sentence(tiny_model):
    content, bank = scene(tiny_model, steps=2)
    with pytest.raises(MagicStyleError, match="style is 2, but the bank has 1: choose one of these"):
        shown(tiny_model, bank, style=2)
    for without in (FeatureBank(content.features, ()), FeatureBank(None, bank.styles)):
        with pytest.raises(MagicStyleError, match="no portrait or no style, .*: connect both to the Feature Bank"):
            shown(tiny_model, without)
    lean = inversion(tiny_model, picture(), 2, roles="queries")
    with pytest.raises(MagicStyleError, match="set roles to all"):
        shown(tiny_model, bank_of(lean, lean))

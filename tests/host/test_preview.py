import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.captions import STRIP, captioned
from magicstyle.nodes.preview import BY_PERCENT, FeaturePreview, preview
from magicstyle.tests.host.test_storage import scene


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def test_features_and_their_replay_look_the_same(tiny_model):
    (_, features), (_, latents) = (scene(tiny_model, storage) for storage in ("features", "latents"))
    pictures = [preview(bank, "output.9", 2) for bank in (features, latents)]
    assert pictures[0].shape[0] == 1 and pictures[0].shape[1] == 384 + STRIP and pictures[0].shape[3] == 3
    assert (pictures[0] - pictures[1]).abs().max() < 0.02
    assert pictures[0].std() > 0.1
    assert (preview(features, "output.9", 0) - pictures[0]).abs().max() > 0.1


@pytest.mark.parametrize(
    "layer, step, message",
    [
        ("output.9", 5, "step is 5, but the bank has 5 steps.* set step to -1"),
        ("output.3", 0, r"selects no .* it has output\.6-11"),
    ],
)
def test_a_layer_or_step_that_is_not_there_is_named(tiny_model, layer, step, message):
    with pytest.raises(MagicStyleError, match=message):
        preview(scene(tiny_model, "features")[1], layer, step)


def test_latents_from_a_file_need_a_model(tiny_model):
    _, bank = scene(tiny_model, "latents")
    loaded = [Trajectory(f.header, f.latents, f.inputs) for f in bank]
    with pytest.raises(MagicStyleError, match="holds latents from a file"):
        preview(FeatureBank(loaded[0], (StyleEntry(loaded[1]),)), "output.9", 0)


def test_the_defaults_look_at_the_middle_of_a_bank_of_any_length(tiny_model):
    inputs = {entry.id: getattr(entry, "default", None) for entry in FeaturePreview.define_schema().inputs}
    for steps in (1, 4, 5):
        _, bank = scene(tiny_model, "features", steps=steps)
        shown = preview(bank, inputs["layer"], inputs["step"], inputs["percent"])
        assert torch.equal(shown, preview(bank, "output.9", round(0.5 * (steps - 1))))


def test_percent_goes_from_noise_to_clean_and_a_chosen_step_goes_before_it(tiny_model):
    _, bank = scene(tiny_model, "features")
    first, last = (preview(bank, "output.9", BY_PERCENT, percent) for percent in (0.0, 1.0))
    assert torch.equal(first, preview(bank, "output.9", 0)) and torch.equal(last, preview(bank, "output.9", 4))
    assert torch.equal(preview(bank, "output.9", 2, 0.0), preview(bank, "output.9", 2, 1.0))


def test_a_portrait_without_a_style_shows_alone(tiny_model):
    _, bank = scene(tiny_model, "features")
    alone = preview(FeatureBank(bank.content, ()), "output.9", 2)
    assert alone.shape[2] == 384 * 12 // 8


def test_captions_are_drawn_above_and_fit_into_the_width():
    for width in (60, 200, 600):
        picture = torch.full((10, width, 3), 0.5)
        shown = captioned(picture, "attention to styles", "output.9.0, step 13 of 26")
        assert shown.shape == (10 + STRIP, width, 3) and torch.equal(shown[STRIP:], picture)
        for half in (shown[: STRIP // 2], shown[STRIP // 2 : STRIP]):
            assert half.min() < 0.5, "nothing is drawn"
            assert half[:, -1].min() > 0.9 or width < 80, "text is cut off"

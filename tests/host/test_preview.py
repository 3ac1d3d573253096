import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.captions import STRIP, captioned
from magicstyle.nodes.preview import FeaturePreview, preview
from magicstyle.tests.host.test_storage import scene


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def seen_at(bank, step, steps=5):
    """The preview of a bank that has the features of one step at all of its steps."""

    def alone(picture):
        tensors = {
            name: t[step : step + 1].expand_as(t) if t.shape[0] == steps else t for name, t in picture.tensors.items()
        }
        return picture.of_tensors(picture.header, tensors, picture.noise_pair)

    return preview(bank.with_pictures([alone(p) for p in bank.pictures]), "output.9", step / max(steps - 1, 1))


def test_features_and_their_replay_look_the_same(tiny_model):
    (_, features), (_, latents) = (scene(tiny_model, storage) for storage in ("features", "latents"))
    pictures = [preview(bank, "output.9", 0.5) for bank in (features, latents)]
    assert pictures[0].shape[0] == 1 and pictures[0].shape[1] == 384 + STRIP and pictures[0].shape[3] == 3
    assert (pictures[0] - pictures[1]).abs().max() < 0.02
    assert pictures[0].std() > 0.1
    assert (preview(features, "output.9", 0.0) - pictures[0]).abs().max() > 0.1


def test_a_layer_that_is_not_there_is_named(tiny_model):
    with pytest.raises(MagicStyleError, match=r"selects no .* it has output\.6-11"):
        preview(scene(tiny_model, "features")[1], "output.3", 0.0)


def test_latents_from_a_file_need_a_model(tiny_model):
    _, bank = scene(tiny_model, "latents")
    loaded = [Trajectory(f.header, f.latents, f.inputs) for f in bank]
    with pytest.raises(MagicStyleError, match="holds latents from a file"):
        preview(FeatureBank(loaded[0], (StyleEntry(loaded[1]),)), "output.9", 0.0)


def test_the_defaults_look_at_the_middle_of_a_bank_of_any_length(tiny_model):
    inputs = {entry.id: getattr(entry, "default", None) for entry in FeaturePreview.define_schema().inputs}
    for steps in (1, 4, 5):
        _, bank = scene(tiny_model, "features", steps=steps)
        shown = preview(bank, inputs["layer"], inputs["percent"])
        assert torch.equal(shown, seen_at(bank, round(0.5 * (steps - 1)), steps))


def test_percent_goes_from_noise_to_clean(tiny_model):
    _, bank = scene(tiny_model, "features")
    shown = [preview(bank, "output.9", percent) for percent in (0.0, 0.3, 0.7, 1.0)]
    assert all(torch.equal(seen, seen_at(bank, step)) for seen, step in zip(shown, (0, 1, 3, 4), strict=True))
    assert (shown[0] - shown[-1]).abs().max() > 0.1


def test_a_portrait_without_a_style_shows_alone(tiny_model):
    _, bank = scene(tiny_model, "features")
    alone = preview(FeatureBank(bank.content, ()), "output.9", 0.5)
    assert alone.shape[2] == 384 * 12 // 8


def test_captions_are_drawn_above_and_fit_into_the_width():
    for width in (60, 200, 600):
        picture = torch.full((10, width, 3), 0.5)
        shown = captioned(picture, "attention to styles", "output.9.0, step 13 of 26")
        assert shown.shape == (10 + STRIP, width, 3) and torch.equal(shown[STRIP:], picture)
        for half in (shown[: STRIP // 2], shown[STRIP // 2 : STRIP]):
            assert half.min() < 0.5, "nothing is drawn"
            assert half[:, -1].min() > 0.9 or width < 80, "text is cut off"

import pytest
import torch
from magicstyle.core.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.trajectory import Trajectory
from magicstyle.nodes.preview import preview
from magicstyle.tests.host.test_storage import scene


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def test_features_and_their_replay_look_the_same(tiny_model):
    (_, features), (_, latents) = (scene(tiny_model, storage) for storage in ("features", "latents"))
    pictures = [preview(bank, "output.9", 2) for bank in (features, latents)]
    assert pictures[0].shape[0] == 1 and pictures[0].shape[1] == 384 and pictures[0].shape[3] == 3
    assert (pictures[0] - pictures[1]).abs().max() < 0.02
    assert pictures[0].std() > 0.1
    assert (preview(features, "output.9", 0) - pictures[0]).abs().max() > 0.1


@pytest.mark.parametrize(
    "layer, step, message",
    [("output.9", 5, "step is 5, but the bank has 5 steps"), ("output.3", 0, r"selects no .* it has output\.6-11")],
)
def test_a_layer_or_step_that_is_not_there_is_named(tiny_model, layer, step, message):
    with pytest.raises(MagicStyleError, match=message):
        preview(scene(tiny_model, "features")[1], layer, step)


def test_latents_from_a_file_need_a_model(tiny_model):
    _, bank = scene(tiny_model, "latents")
    loaded = [Trajectory(f.header, f.latents, f.inputs) for f in bank]
    with pytest.raises(MagicStyleError, match="holds latents from a file"):
        preview(FeatureBank(loaded[0], (StyleEntry(loaded[1]),)), "output.9", 0)

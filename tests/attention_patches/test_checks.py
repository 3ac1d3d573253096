"""Does the bank fit the model, and the run fit the bank?"""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from magicstyle.attention_patches.architectures.base import LayerFacts
from magicstyle.attention_patches.checks import check_bank, check_roles, check_run, stored_layers
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.stored_features import StoredFeatures
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import ModelId
from magicstyle.tests.core.test_bank_file import trajectory
from magicstyle.tests.core.test_features import LAYERS, features


def model(width=8, heads=2, layers=LAYERS):
    """A model of class SD15, of which the checks see its layers alone."""
    facts = {layer: LayerFacts(width, heads) for layer in layers}
    return SimpleNamespace(name="SD15", id=ModelId.of("SD15", dict.fromkeys(layers, width)), layers=facts)


def bank(style=None):
    return FeatureBank(features(), (StyleEntry(trajectory() if style is None else style),))


def test_a_bank_of_this_model_passes_and_one_of_the_same_class_with_other_widths_does_not():
    check_bank(model(), bank())
    for other in (model(width=16), model(layers=LAYERS[:1])):
        with pytest.raises(MagicStyleError, match=r"features of another model \(SD15\) than the one to patch \(SD15\)"):
            check_bank(other, bank())


def test_chosen_layers_are_those_that_the_bank_holds_and_what_it_lacks_is_named():
    running = model()
    running.fused_layers = "output.9"
    assert stored_layers(running, bank(), "auto") == stored_layers(running, bank(), " Auto ") == LAYERS[1:]
    assert stored_layers(running, bank(), "output.6-9") == LAYERS
    few = FeatureBank(features(LAYERS[1:]), ())
    assert stored_layers(running, few, "auto") == LAYERS[1:]
    with pytest.raises(MagicStyleError, match="layers 'all' includes output.6.0, which the bank does not hold"):
        stored_layers(running, few, "all")


def test_auto_of_the_other_patcher_is_what_is_held_of_the_layers_that_auto_leaves_out():
    running = model()
    running.fused_layers = "output.9"
    assert stored_layers(running, bank(), "auto", others=True) == LAYERS[:1]
    assert stored_layers(running, bank(), "output.9", others=True) == LAYERS[1:]
    with pytest.raises(MagicStyleError, match="layers auto means for this method .*: set layers to all on both"):
        stored_layers(running, FeatureBank(features(LAYERS[1:]), ()), "auto", others=True)
    running.fused_layers = "all"
    assert stored_layers(running, bank(), "auto", others=True) == LAYERS


def test_features_that_only_say_that_they_are_of_this_model_are_refused():
    honest = features()
    wide = {
        (layer, role): torch.zeros(5, 1, 15 if layer is LAYERS[0] else 60, 16) for layer in LAYERS for role in "qkv"
    }
    liar = StoredFeatures(honest.header, wide)
    with pytest.raises(MagicStyleError, match=r"features for output\.6\.0 that do not fit SD15"):
        check_bank(model(), bank(liar))
    many_heads = StoredFeatures(replace(honest.header, heads=dict.fromkeys(LAYERS, 4)), {})
    with pytest.raises(MagicStyleError, match=r"features for output\.6\.0 that do not fit SD15"):
        check_bank(model(), bank(many_heads))


@pytest.mark.parametrize(
    "shape, message",
    [
        ((1, 4, 6, 16), "latent_image is 16x6 latent pixels but the content was inverted at 10x6"),
        ((1, 4, 16, 10), "latent_image is 10x16 latent pixels but the content was inverted at 10x6"),
        ((1, 16, 6, 10), "latent_image has 16 channels but the content was inverted with 4"),
        ((1, 4, 1, 6, 10), "latent_image is not a picture latent"),
    ],
)
def test_a_latent_that_the_content_does_not_lie_on_is_refused(shape, message):
    check_run(bank(), torch.zeros(2, 4, 6, 10))
    with pytest.raises(MagicStyleError, match=message):
        check_run(bank(), torch.zeros(shape))


def test_a_film_of_one_frame_is_a_picture_and_one_of_two_is_not():
    still = trajectory()
    frames = replace(still.header, latent_shape=(1, 4, 1, 6, 10))
    one = FeatureBank(StoredFeatures(frames, features()._stacks), ())
    check_run(one, torch.zeros(1, 4, 1, 6, 10))
    for latent in (torch.zeros(1, 4, 2, 6, 10), torch.zeros(1, 4, 6, 10), SimpleNamespace(is_nested=True)):
        with pytest.raises(MagicStyleError, match="latent_image is not a picture latent"):
            check_run(one, latent)


def test_a_content_of_two_pictures_asks_for_two():
    two = FeatureBank(features(batch=2), ())
    check_run(two, torch.zeros(2, 4, 6, 10))
    with pytest.raises(MagicStyleError, match="holds 1 pictures but the content features hold 2"):
        check_run(two, torch.zeros(1, 4, 6, 10))


def test_missing_roles_are_named_with_their_picture():
    queries = features(roles="q")
    check_roles(FeatureBank(queries, (StyleEntry(trajectory()),)), ["q", "kv"], "styleid")
    with pytest.raises(MagicStyleError, match="method 'ffa' reads the content's keys and values, which"):
        check_roles(FeatureBank(queries, ()), ["qkv"], "ffa")
    bank = FeatureBank(features(), (StyleEntry(features()), StyleEntry(queries), StyleEntry(queries)))
    with pytest.raises(MagicStyleError, match="method 'ffa' reads the style 2's keys and values, which"):
        check_roles(bank, ["qkv", "kv", "kv"], "ffa")

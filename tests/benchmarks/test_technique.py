"""The drawings in techniques, the classifier that names them, and the ends of the quality benchmark."""

import numpy as np
import pytest
from magicstyle.benchmarks import quality
from magicstyle.benchmarks.technique import WEIGHTS, techniques, to_tensor
from magicstyle.tools.demo_model.techniques import NAMES, TECHNIQUES, drawing, technique_of


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_repeats_and_scales(name):
    small, again = (drawing(11, name, size=96) for _ in range(2))
    assert np.array_equal(small.image, again.image) and small.technique == name
    assert small.image.shape == (96, 96, 3) and small.image.std() > 8
    assert sum(mask.sum() for mask in small.masks.values()) == 96 * 96


def test_technique_and_portrait_are_independent_draws():
    seeds = range(1200)
    counts = np.bincount([NAMES.index(technique_of(seed)) for seed in seeds], minlength=len(NAMES))
    assert len(TECHNIQUES) >= 10 and counts.min() > 60 and counts.max() < 140
    ink, flat = drawing(5, "ink", size=64), drawing(5, "flat", size=64)
    assert all(np.array_equal(ink.masks[name], flat.masks[name]) for name in flat.masks)
    assert not np.array_equal(ink.image, flat.image)


def test_the_classifier_names_held_out_drawings():
    drawn = [drawing(9_000_000 + i, NAMES[i % len(NAMES)]) for i in range(2 * len(NAMES))]
    found = techniques(to_tensor(np.stack([one.image for one in drawn])))
    assert sum(a == one.technique for a, one in zip(found, drawn, strict=True)) >= 0.9 * len(drawn)
    assert WEIGHTS.stat().st_size < 1_000_000


def test_the_ends_of_the_benchmark_are_where_they_belong():
    pairs = quality.prepare(len(quality.OTHERS))
    plain, style = (quality.measure("", shown, pairs) for shown in (pairs.contents, pairs.styles))
    assert plain.technique <= 0.1 and style.technique >= 0.9
    assert plain.structure > 0.99 and style.structure < 0.5
    assert plain.style == pytest.approx(1.0) and style.style < 0.1

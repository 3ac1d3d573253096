"""Style guidance as it is measured: at scale 0 nothing is added, and elsewhere something."""

import pytest
import torch
from magicstyle.benchmarks.photo_ways import Album
from magicstyle.benchmarks.photographs_guidance import ROWS, Guided, Painter
from magicstyle.core.guidance import GUIDANCES, StyleGuidance
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.tools.demo_model.portraits import portrait
from PIL import Image


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    folder, files = tmp_path_factory.mktemp("pictures"), []
    for seed in (1, 2):
        files.append(folder / f"{seed}.png")
        Image.fromarray(portrait(6_000_000 + seed).image).save(files[-1])
    return Painter(load_demo_model(), Album((files[0],), (files[1],)), folder, size=64)


def test_guidance_of_scale_0_is_none(painter):
    style, group = painter.album.order[0]
    plain = painter.guided(ROWS["no guidance"], style, group)
    assert torch.equal(painter.guided(Guided(StyleGuidance("nvqg", 0.0)), style, group), plain)
    unstyled = painter.guided(Guided(StyleGuidance("spg", 0.0)), style, group)
    towards = painter.guided(Guided(StyleGuidance("spg", 1.0)), style, group)
    assert torch.allclose(towards, plain, atol=1e-4)  # at 1 what is guided towards is reached
    assert (unstyled - plain).abs().mean() > 0.01


def test_every_row_adds_something(painter):
    style, group = painter.album.order[0]
    plain, *others = (painter.guided(row, style, group) for row in ROWS.values())
    assert all((other - plain).abs().mean() > 0.01 for other in others)
    assert {row.guidance.kind for row in ROWS.values() if row.guidance} == set(GUIDANCES)

"""The transformer's rows are painted a few pairs at a time, kept, and shown beside the UNet's."""

import time

import pytest
import torch
from magicstyle.benchmarks import quality_transformer as quality
from magicstyle.benchmarks.transformer import FlowRecipe

COUNT, RECIPE, FIRST = 8, FlowRecipe(steps=2), slice(0, 6)


class Painter:
    """Stands for the host's: adds what tells rows apart to the contents, and counts."""

    made = 0

    def __init__(self, recipe):
        assert recipe == RECIPE

    def inverted(self, pictures, role):
        return pictures

    def reconstructed(self, content):
        Painter.made += 1
        return content

    def painted(self, content, style, settings, adain):
        Painter.made += 1
        return (content + style) / 2


@pytest.fixture
def pairs(monkeypatch):
    monkeypatch.setattr(quality, "FlowPainter", Painter)
    monkeypatch.setattr(quality, "DEMO_TRANSFORMER", quality.UNET_TABLE)  # any file: its digest names the weights
    monkeypatch.setattr(Painter, "made", 0)
    contents = torch.rand(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return quality.Pairs(contents, contents.flip(0), contents, [], [], [], [])


def test_what_is_painted_is_kept_and_a_rerun_goes_on(pairs, tmp_path):
    rows = quality.ROWS
    assert quality.sample(pairs, rows, RECIPE, tmp_path, time.monotonic()) == {}
    found = quality.sample(pairs, rows[:2], RECIPE, tmp_path, time.monotonic() + 100)
    assert Painter.made == 2 * 2  # two rows of two batches
    assert torch.allclose(found[rows[0]], pairs.contents, atol=0.5 / 255 + 1e-6)
    assert torch.allclose(found[rows[1]], (pairs.contents + pairs.styles) / 2, atol=0.5 / 255 + 1e-6)
    again = quality.sample(pairs, rows, RECIPE, tmp_path, time.monotonic() + 100)
    assert Painter.made == 3 * 2 and list(again) == list(rows)


def test_other_weights_and_settings_have_other_files(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "DEMO_TRANSFORMER", quality.UNET_TABLE)
    row = quality.ROWS[2]
    places = {quality.place(tmp_path, row, RECIPE, FIRST), quality.place(tmp_path, row, RECIPE, slice(6, 12))}
    places |= {quality.place(tmp_path, row, FlowRecipe(steps=3), FIRST)}
    places |= {quality.place(tmp_path, row._replace(settings=quality.STYLEID), RECIPE, FIRST)}
    monkeypatch.setattr(quality, "DEMO_TRANSFORMER", tmp_path / "other")
    (tmp_path / "other").write_bytes(b"other weights")
    assert len(places | {quality.place(tmp_path, row, RECIPE, FIRST)}) == 5


def test_the_unets_rows_stand_below_when_its_table_is_of_as_many_pairs():
    lines = quality.beside(quality.UNET_TABLE.read_text(encoding="utf-8"), 66)
    assert [line.split(" | ")[0] for line in lines] == [f"| UNet: {row.label}" for row in quality.ROWS]
    assert quality.beside(quality.UNET_TABLE.read_text(encoding="utf-8"), 65) == []

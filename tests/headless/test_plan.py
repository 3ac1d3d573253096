"""What is to be made, under which name; no model is needed to know it."""

import itertools
import json
import os
from dataclasses import replace

import pytest
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.pairs.plan import Order, Picture, file_record, find_missing, record_of, short_name
from magicstyle.headless.pictures.png import inspect, write_png
from magicstyle.headless.pictures.sizes import Frame
from PIL import Image

ORDER = Order(Recipe(), Frame((64, 64), fixed=True), "model 0")
CHANGES = {
    "method": {"recipe": Recipe(FusionSettings("styleid"))},
    "style_weight": {"recipe": Recipe(FusionSettings(style_weight=0.5))},
    "content_weight": {"recipe": Recipe(FusionSettings(content_weight=0.5))},
    "query_preservation": {"recipe": Recipe(FusionSettings(query_preservation=0.25))},
    "temperature": {"recipe": Recipe(FusionSettings(temperature=1.0))},
    "controls": {"recipe": Recipe(FusionSettings(controls=StyleControls(mix=0.5)))},
    "steps": {"recipe": Recipe(steps=7)},
    "layers": {"recipe": Recipe(layers="output.7")},
    "adain": {"recipe": Recipe(adain=0.5)},
    "inversion": {"recipe": Recipe(inversion=InversionSettings("exact"))},
    "every": {"recipe": Recipe(every=5)},
    "corrections": {"recipe": Recipe(inversion=InversionSettings(corrections=3))},
    "gamma": {"recipe": Recipe(inversion=InversionSettings(gamma=0.7))},
    "checkpoint": {"checkpoint": "model 1"},
}


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """Two portraits and a style of different colours, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "b.png", "s.png")):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / name)
    return [tmp_path / name for name in ("a.png", "b.png", "s.png")]


def planned(inputs, out, order=ORDER, **more):
    return find_missing(inputs[:-1], inputs[-1:], out, order, one_file=more.get("one_file", False))


def finish(found, order=ORDER):
    """Write what a plan names."""
    for job in found.missing:
        write_png(job.result, Image.new("RGB", (8, 8)), job.record)
        if order.sheet:
            write_png(job.sheet, Image.new("RGB", (8, 8)), file_record(job.record, "sheet"))


def test_records_differ_in_everything_that_changes_the_picture():
    picture = Picture(None, "0" * 16, (64, 64), (64, 64))
    others = [picture._replace(digest="1" * 16), picture._replace(size=(72, 64))]
    records = [record_of(picture, picture, replace(ORDER, **change)) for change in ({}, *CHANGES.values())]
    records += [record_of(*pair, ORDER) for other in others for pair in ((picture, other), (other, picture))]
    assert all(one != other for one, other in itertools.combinations(records, 2))
    assert all(json.loads(record) for record in records)


def test_records_do_not_depend_on_how_a_run_is_told(inputs):
    quiet = replace(ORDER, quiet=True, sheet=True, overwrite=True)
    picture = Picture(None, "0" * 16, (64, 64), (64, 64))
    assert record_of(picture, picture, quiet) == record_of(picture, picture, ORDER)


@pytest.mark.parametrize("change", CHANGES)
def test_any_changed_setting_is_neither_finished_nor_written_over(tmp_path, inputs, change):
    first = planned(inputs, tmp_path / "out")
    finish(first)
    order = replace(ORDER, **CHANGES[change])
    again = planned(inputs, tmp_path / "out", order)
    assert not again.finished and not {job.result for job in again.missing} & {job.result for job in first.missing}
    finish(again)
    for settings in (ORDER, order):
        found = planned(inputs, tmp_path / "out", settings)
        assert len(found.finished) == 2 and not found.missing and not found.notes


def test_a_run_in_parts_gives_the_names_of_a_run_at_once(tmp_path, inputs):
    whole = {job.result.name for job in planned(inputs, tmp_path / "one").missing}
    for part in ([inputs[1], inputs[2]], [inputs[0], inputs[2]]):
        finish(planned(part, tmp_path / "two"))
    assert {path.name for path in (tmp_path / "two").iterdir()} == whole
    assert len(planned(inputs, tmp_path / "two").finished) == 2


@pytest.mark.parametrize("sheet, missing", [(True, "result"), (True, "sheet"), (False, "result")])
def test_what_lacks_one_of_its_files_is_not_finished(tmp_path, inputs, sheet, missing):
    order = replace(ORDER, sheet=sheet)
    first = planned(inputs, tmp_path / "out", order)
    finish(first, order)
    getattr(first.missing[0], missing).unlink()
    again = planned(inputs, tmp_path / "out", order)
    assert [job.result for job in again.missing] == [first.missing[0].result] and len(again.finished) == 1


def test_a_sheet_is_not_taken_for_the_result_of_the_pair_that_has_its_name(tmp_path, inputs):
    style = tmp_path / "s-sheet.png"
    Image.new("RGB", (64, 64), "red").save(style)
    order = replace(ORDER, sheet=True)
    found = find_missing(inputs[:1], [inputs[2], style], tmp_path / "out", order, one_file=False)
    files = [path for job in found.missing for path in (job.result, job.sheet)]
    assert len(set(files)) == 4
    finish(found, order)
    assert len(find_missing(inputs[:1], [inputs[2], style], tmp_path / "out", order, one_file=False).finished) == 2


def test_a_result_of_an_older_version_is_no_reason_to_stop(tmp_path, inputs):
    write_png(tmp_path / "out" / "a--s.png", Image.new("RGB", (8, 8)), "not json")
    found = planned(inputs, tmp_path / "out")
    assert found.missing[0].result.name.startswith("a--s-") and not found.bad


def test_several_pairs_in_one_file_are_refused(tmp_path, inputs):
    with pytest.raises(MagicStyleError, match="is one file but there are several pairs"):
        planned(inputs, tmp_path / "r.png", one_file=True)


def test_where_both_names_are_taken_the_pair_is_refused(tmp_path, inputs):
    job = planned(inputs, tmp_path / "out").missing[0]
    os.mkdir(tmp_path / "out")
    Image.new("RGB", (8, 8)).save(job.result)
    second = planned(inputs, tmp_path / "out").missing[0].result
    second.mkdir()
    with pytest.raises(MagicStyleError, match="is not a result of this program: it stays as it is"):
        planned(inputs, tmp_path / "out")


@pytest.mark.parametrize("name, short", [
    ("me.jpg", "me"), ("me.JPEG", "me"), ("me.v2.png", "me.v2"), ("me", "me"), ("v1.2", "v1.2"), ("a\nb.png", "a_b"),
    ("a:b?.png", "a_b_"), ("x" * 300 + ".png", "x" * 100), ("\u96ea" * 90 + ".png", "\u96ea" * 33),
])  # fmt: skip
def test_short_names(tmp_path, name, short):
    assert short_name(tmp_path / name) == short


def test_inspection_tells_whole_cut_blank_and_foreign_files(tmp_path):
    path = tmp_path / "r.png"
    write_png(path, Image.effect_noise((64, 64), 90), "how")
    data = path.read_bytes()
    pixels = data.index(b"IDAT") + 4
    seen = {}
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        seen[length] = inspect(path)
    assert seen[len(data)] == ("how", True, False)
    assert not any(found.whole for length, found in seen.items() if length < len(data))
    assert all(found.blank == (length <= pixels) for length, found in seen.items())
    noted = data.index(b"IDAT") - 4
    assert all((found.record == "how") == (length >= noted) for length, found in seen.items())

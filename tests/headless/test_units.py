"""Units over a store: what is missing, under which names, and what is finished."""

import json
import os
from dataclasses import replace

import pytest
from magicstyle.core.controls import StyleControls
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.headless.campaign.names import DIGEST, StyleName, fitting, output_name
from magicstyle.headless.campaign.spec import RunSpec
from magicstyle.headless.campaign.store import FolderStore, StoreEntry, open_store
from magicstyle.headless.campaign.units import (
    Failure,
    Report,
    Shard,
    Unit,
    finished_report,
    manifest,
    missing_units,
    read_manifests,
)
from magicstyle.headless.digest import digest
from magicstyle.headless.engine.blocks import BlockShape
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.pictures.sizes import Frame
from magicstyle.headless.uris import is_uri

SPEC = RunSpec("photos", "library", "out", Recipe(), Frame((64, 64), fixed=True), "model 0")
CHANGES = {
    "method": {"recipe": Recipe(FusionSettings("styleid"))},
    "temperature": {"recipe": Recipe(FusionSettings(temperature=1.0))},
    "controls": {"recipe": Recipe(FusionSettings(controls=StyleControls(mix=0.5)))},
    "layers": {"recipe": Recipe(layers="output.7")},
    "adain": {"recipe": Recipe(adain=0.5)},
    "steps": {"recipe": Recipe(steps=7)},
    "inversion": {"recipe": Recipe(inversion=InversionSettings("exact"))},
    "checkpoint": {"identity": "model 1"},
    "size": {"frame": Frame((72, 64), fixed=True)},
}
AFTER_INVERSION = {"method", "temperature", "controls", "layers", "adain"}
SHAPE = BlockShape(2, 3)


def portraits(*names, tag="1"):
    return [StoreEntry(name, tag) for name in names]


STYLES = [StyleName(f"s{number}.png", digest(bytes([number]), DIGEST)) for number in range(5)]


def planned(entries, styles=STYLES, made=None, shape=SHAPE, read=None):
    return list(missing_units(entries, styles, made or {}, shape, read or (lambda name: pytest.fail("was read"))))


def pairs(units):
    return sorted((p.name, s.name) for unit in units for p in unit.portraits for s in unit.styles)


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path)


def finish(store, units, lost=()):
    """Leave the manifests of units whose portraits have the digests of their names."""
    for unit in units:
        gone = tuple(one for one in lost if one.portrait in {p.name for p in unit.portraits})
        digests = {p.name: digest(p.name.encode(), DIGEST) for p in unit.portraits}
        store.put(f"done/{unit.name}.json", manifest(unit, Report(unit.name, len(unit) - len(gone), gone), digests))
    return read_manifests(store, "done")


@pytest.mark.parametrize("change", CHANGES)
def test_changed_settings_have_another_folder(change):
    other = replace(SPEC, **CHANGES[change])
    assert other.key != SPEC.key and other.manifests != SPEC.manifests
    assert (other.library_key == SPEC.library_key) == (change in AFTER_INVERSION)


def test_what_changes_no_picture_changes_no_folder():
    other = replace(SPEC, portraits="s3://a", device="cuda", block=SHAPE, batch=7, overwrite=True)
    assert (other.key, other.library_key) == (SPEC.key, SPEC.library_key)


def test_units_hold_every_pair_once():
    units = planned(portraits(*"abcde"))
    assert pairs(units) == [(p, s.name) for p in "abcde" for s in STYLES]
    assert all(len(unit.portraits) <= 2 and len(unit.styles) <= 3 for unit in units) and len(units) == 6
    assert [Unit.of(unit.text) for unit in units] == units and len({unit.name for unit in units}) == 6


def test_a_portrait_and_a_style_that_are_added_leave_what_is_finished(store):
    made = finish(store, planned(portraits(*"bcd"), STYLES[:4]))
    assert planned(portraits(*"bcd"), STYLES[:4], made) == []
    added = planned(portraits(*"abcd"), STYLES, made)
    assert pairs(added) == [("a", s.name) for s in STYLES] + [(p, "s4.png") for p in "bcd"]


def test_missing_units_another_shape_count_too(store):
    made = finish(store, planned(portraits(*"abc"), shape=BlockShape(3, 1)))
    assert planned(portraits(*"abc"), made=made) == []


def test_what_failed_is_tried_again_and_nothing_else(store):
    lost = (Failure("a", "s1.png", "why"), Failure("b", None, "why"))
    made = finish(store, planned(portraits(*"abc"), STYLES[:3], shape=BlockShape(3, 3)), lost)
    assert pairs(planned(portraits(*"abc"), STYLES[:3], made)) == [
        ("a", "s1.png"),
        *(("b", s.name) for s in STYLES[:3]),
    ]


def test_a_portrait_is_read_only_where_its_file_is_not_as_it_was(store):
    made = finish(store, planned(portraits(*"ab")))
    touched, read = [StoreEntry("a", "1"), StoreEntry("b", "2")], []

    def same(name):
        read.append(name)
        return digest(name.encode(), DIGEST)

    assert planned(touched, made=made, read=same) == [] and set(read) == {"b"}
    assert pairs(planned(touched, made=made, read=lambda name: digest(b"other", DIGEST))) == [
        ("b", s.name) for s in STYLES
    ]


def test_a_style_whose_picture_changed_is_painted_anew(store):
    made = finish(store, planned(portraits(*"ab")))
    changed = [*STYLES[:4], StyleName("s4.png", digest(b"new", DIGEST))]
    assert pairs(planned(portraits(*"ab"), changed, made)) == [("a", "s4.png"), ("b", "s4.png")]


def test_shards_share_all_portraits_and_do_not_move_them():
    names = [f"{number}.png" for number in range(200)]
    parts = [{name for name in names if name in Shard(number, 4)} for number in range(1, 5)]
    assert (
        set.union(*parts) == set(names) and sum(map(len, parts)) == 200 and all(20 < len(part) < 80 for part in parts)
    )
    more = [*names, "a.png", "0/b.png"]
    assert {name for name in more if name in Shard(2, 4)} >= parts[1]


def test_a_manifest_that_is_none_counts_for_nothing(store):
    for number, data in enumerate((b"", b"{", b"[]", b'{"styles": []}')):
        store.put(f"done/{number}.json", data)
        assert finished_report(store, f"done/{number}.json") is None
    assert read_manifests(store, "done") == {} and finished_report(store, "done/none.json") is None


def test_a_report_travels_and_says_that_it_was_there(store):
    report = Report("u", 3, (Failure("a", None, "b\u00fc"),), 7, 0.5)
    assert Report.of(report.text) == report
    unit = planned(portraits("a"))[0]
    store.put("u.json", manifest(unit, report, {}))
    assert finished_report(store, "u.json") == report._replace(skipped=True)


# --- names and stores ----------------------------------------------------------------------------------------------


def test_output_names_follow_from_paths_alone():
    assert output_name("k", "team/a.jpg", "dutch/b.png") == "k/team/a.jpg/dutch/b.png.png"
    long = "n" * 250 + ".jpg"
    assert fitting(long) != fitting("n" * 250 + ".png") and len(fitting(f"a/{long}").split("/")[1]) <= 240
    assert StyleName.of(StyleName("a/b.png", digest(b"x", DIGEST)).file) == StyleName("a/b.png", digest(b"x", DIGEST))
    assert StyleName.of("b.png.safetensors") is None and StyleName.of("x.txt") is None


def test_a_folder_lists_reads_and_puts_whole_files(tmp_path, store):
    store.put("a/b.txt", b"one")
    store.put("a/b.txt", b"two")
    (tmp_path / "a" / ".b.1234.magicstyle.part").write_bytes(b"tw")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "c.txt").write_bytes(b"")
    assert [entry.name for entry in store.entries()] == ["a/b.txt"] == [entry.name for entry in store.entries("a")]
    assert store.read("a/b.txt") == b"two" and list(store.entries("none")) == []
    with pytest.raises(FileNotFoundError):
        store.read("none")
    before = {entry.tag for entry in store.entries()}
    store.put("a/b.txt", b"three")
    assert {entry.tag for entry in store.entries()} != before
    store.remove("a/b.txt")
    assert list(store.entries("a")) == []


def test_a_store_inside_another_is_known():
    assert open_store("x/out").within(open_store("x")) == "out" and open_store("x").within(open_store("x")) == "."
    assert open_store("y").within(open_store("x")) is None
    assert open_store(f"file://{os.getcwd()}/x/out").within(open_store("x")) == "out"


def test_pages_of_the_web_are_no_stores():
    assert is_uri("s3://b/x") and is_uri("gs://b") and not is_uri("https://x.y/a.png") and not is_uri("a/b")
    assert not is_uri(None)


def test_an_address_without_its_packages_says_what_to_install(monkeypatch):
    import sys

    from magicstyle.core.errors import MagicStyleError

    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MagicStyleError, match=r"s3://b/x is reached with fsspec and s3fs, .*\.\[ray\]"):
        open_store("s3://b/x")


def test_an_object_store_does_what_a_folder_does():
    pytest.importorskip("fsspec")
    store = open_store("memory://magicstyle-test")
    store.put("a/b.json", json.dumps({}).encode())
    (entry,) = store.entries("a")
    assert entry.name == "a/b.json" and store.read("a/b.json") == b"{}" and list(store.entries("none")) == []
    store.remove("a/b.json")
    with pytest.raises(FileNotFoundError):
        store.read("a/b.json")

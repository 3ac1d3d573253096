"""A machine that cannot paint stops itself; what fails for a moment is tried again; what is there is not held."""

import errno
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from magicstyle.headless import cli
from magicstyle.headless.campaign import patience, store, worker
from magicstyle.headless.campaign import ray as ray_run
from magicstyle.headless.campaign.library import Library
from magicstyle.headless.campaign.names import StyleName, fitting, output_name
from magicstyle.headless.campaign.run import find_missing
from magicstyle.headless.campaign.spec import RunSpec
from magicstyle.headless.campaign.store import FolderStore, leaves, local_path, open_store
from magicstyle.headless.campaign.units import Report, Shard, Unit
from magicstyle.headless.engine.blocks import BlockShape
from magicstyle.headless.engine.checkpoints import model_file
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.failure import Failure
from magicstyle.headless.pictures.sizes import Frame

FAST = ["--steps", "2", "--size", "64", "--quiet"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, loads):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(patience, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def spec(pictures):
    """A run of two portraits and two styles, one portrait a unit."""
    pictures("photos/a.png", "photos/b.png", "styles/x.png", "styles/y.png")
    assert cli.main(["invert-styles", "styles", "--library", "lib", *FAST]) == cli.OK
    identity, frame = model_file(None).identity, Frame((64, 64), fixed=True)
    places = [str(Path(name).absolute()) for name in ("photos", "lib", "out")]
    found = RunSpec(*places, Recipe(steps=2), frame, identity, block=BlockShape(1, 9))
    open_store(found.out).put(found.settings_file, found.settings)  # as run_units does
    return found


def units(spec):
    return find_missing(spec, Shard()).missing


# --- a wrong machine -------------------------------------------------------------------------------------------------


def wrong(spec, kind):
    """A worker on a machine that lacks something."""
    if kind == "no file":
        spec = replace(spec, checkpoint="/nowhere/sd15.safetensors")
    if kind == "another file":
        spec = replace(spec, identity="magicstyle_demo.safetensors 0123456789abcdef")
        open_store(spec.out).put(spec.settings_file, spec.settings)
    if kind == "a device that does not compute":
        spec = replace(spec, device="cuda:99")
    if kind == "a model that does not load":
        return worker.Worker(spec, load=lambda *args: 1 / 0)
    return worker.Worker(spec)


MODEL = {
    "no file": "/nowhere/sd15.safetensors does not exist",
    "another file": "and not magicstyle_demo.safetensors 0123456789abcdef, which this run paints with: copy the same",
    "a device that does not compute": "--device 'cuda:99' cannot be used",
    "a model that does not load": "ZeroDivisionError",
}


@pytest.mark.parametrize("kind", MODEL)
def test_a_machine_without_the_runs_model_says_so_and_makes_nothing(spec, kind):
    found = wrong(spec, kind)
    report = found.paint(units(spec)[0])
    assert report.made == 0 and MODEL[kind] in report.unfit and not report.stop
    with pytest.raises(worker.UnfitMachineError) as caught:
        found.check()
    assert str(caught.value) == report.unfit and not list(Path("out").rglob("*.png"))


PLACES = {
    "photos": "does not see the portraits",
    "lib": "does not see the library",
    "out": "what the driver has put into",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_machine_that_has_not_mounted_a_place_says_so(spec, loads, place):
    """It would make the folder, and its pictures would be nowhere."""
    worker.Worker(spec, load=loads.load).check()
    Path(place).rename("elsewhere")
    with pytest.raises(worker.UnfitMachineError, match=PLACES[place]):
        worker.Worker(spec, load=loads.load).check()


def test_on_one_machine_the_run_stops_with_one_sentence(spec, monkeypatch, capsys):
    loads = []

    def broken(*args):
        loads.append(args)
        raise RuntimeError("CUDA driver is too old")

    monkeypatch.setattr("magicstyle.headless.engine.model.load_model", broken)
    places = ["photos", "--library", "lib", "-o", "out", "--block", "1x1"]
    assert cli.main(["stylize", *places, *FAST]) == cli.SOME_FAILED
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert "CUDA driver is too old" in line and len(loads) == 1


# --- a crew of actors, without Ray -----------------------------------------------------------------------------------


class RayError(Exception):
    """What Ray raises of an actor that has died."""


class FakeRay:
    """As much of Ray as a crew uses; actors answer at once, in the order in which they were called."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self):
        self.answers, self.killed = {}, []

    def actor(self, check, paint):
        def remote(what):
            def remote(*args):
                ref = object()
                self.answers[ref] = lambda: what(*args)
                return ref

            return SimpleNamespace(remote=remote)

        class Actor(SimpleNamespace):
            __hash__ = object.__hash__
            __eq__ = object.__eq__

        return Actor(check=remote(check), paint=remote(lambda text: paint(Unit.of(text)).text))

    def wait(self, refs, num_returns, timeout):
        return refs[:1], refs[1:]

    def get(self, ref):
        return self.answers.pop(ref)()

    def kill(self, actor):
        self.killed.append(actor)


@pytest.fixture
def ray(monkeypatch):
    import sys

    found = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", found)
    monkeypatch.setattr(ray_run, "PAUSE", 0.0)
    return found


UNITS = [Unit(((f"{number}.png", "1"),), (StyleName("x.png", "0"),)) for number in range(9)]


def made(unit):
    return Report(unit.name, 1)


def raising(error):
    def fail(*args):
        raise error

    return fail


def reports(*actors):
    crew = ray_run.Crew(actors, UNITS)
    found = list(crew.reports())
    crew.dismiss()
    assert sorted(report.unit for report in found) == sorted(unit.name for unit in UNITS)
    return found


def test_a_wrong_machine_gets_no_units_and_the_others_make_all(ray, caplog):
    wrong = ray.actor(lambda: "node7: another file.", raising(AssertionError("was handed a unit")))
    with caplog.at_level(logging.WARNING, "magicstyle"):
        found = reports(wrong, ray.actor(lambda: "", made))
    assert all(report.made for report in found) and ray.killed[0] is wrong
    assert "node7: another file. It gets no units, the others go on." in caplog.text


def test_a_machine_that_fails_later_hands_its_unit_back(ray):
    unfit = ray.actor(lambda: "", lambda unit: Report(unit.name, 0, (Failure(None, None, "why"),), unfit="why"))
    found = reports(unfit, ray.actor(lambda: "", made))
    assert all(report.made for report in found) and ray.killed[0] is unfit


def test_a_worker_that_loses_unit_after_unit_gets_no_more_and_they_are_made_by_others(ray):
    """Such as one whose GPU has failed: it is the fastest of all."""
    losing = ray.actor(lambda: "", lambda unit: Report(unit.name, 0, (Failure(None, None, "CUDA error"),)))
    found = reports(losing, ray.actor(lambda: "", made))
    assert all(report.made for report in found) and ray.killed[0] is losing


def test_where_no_machine_can_paint_the_run_stops_and_says_so(ray):
    found = reports(*(ray.actor(lambda: "no model", made) for _ in range(2)))
    assert all(report.stop == ray_run.NONE_LEFT for report in found)


def test_a_unit_that_kills_its_workers_is_given_up_and_a_worker_that_comes_back_goes_on(ray):
    back, deaths = [], []

    def check():
        back.append(1)
        if len(back) in (2, 3):
            raise RayError("restarting")
        return ""

    def paint(unit):
        if unit is not None and unit.portraits[0][0] == "3.png":
            deaths.append(1)
            raise RayError("killed")
        return made(unit)

    found = reports(ray.actor(check, paint))
    (lost,) = [report for report in found if not report.made]
    assert len(deaths) == ray_run.TRIES and "died 4 times" in lost.failed[0].reason


def test_a_worker_that_never_comes_back_is_given_up(ray, monkeypatch):
    monkeypatch.setattr(ray_run, "PATIENCE", -1.0)
    found = reports(ray.actor(raising(RayError("gone")), made), ray.actor(lambda: "", made))
    assert all(report.made for report in found)


# --- what fails for a moment -----------------------------------------------------------------------------------------


def failing(monkeypatch, times, part, error=errno.EIO):
    """Let the first reads of a file fail -> the reads that were tried."""
    tried, read = [], FolderStore.read

    def failing_first(self, name):
        if part in name:
            tried.append(name)
            if len(tried) <= times:
                raise OSError(error, "Input/output error")
        return read(self, name)

    monkeypatch.setattr(FolderStore, "read", failing_first)
    return tried


@pytest.mark.parametrize("name", ["x.png.", "a.png"])
def test_a_read_that_fails_for_a_moment_costs_nothing(spec, loads, monkeypatch, name):
    found = units(spec)
    tried = failing(monkeypatch, 2, name)
    painter = worker.Worker(spec, load=loads.load)
    for unit in found:
        assert not painter.paint(unit).failed
    assert len(tried) == 3 and len(list(Path("out").rglob("*/?.png/*.png"))) == 4


def test_a_style_that_could_not_be_read_is_read_again_for_the_next_unit(spec, loads, monkeypatch):
    found = units(spec)
    failing(monkeypatch, 4, "x.png.")
    painter = worker.Worker(spec, load=loads.load)
    first, second = (painter.paint(unit) for unit in found)
    assert [lost.style for lost in first.failed] == ["x.png"] and first.made == 1
    assert not second.failed and second.made == 2


def test_what_no_wait_changes_is_not_waited_for(monkeypatch):
    tried = []

    def read():
        tried.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        patience.patiently(read)
    assert len(tried) == 1


def test_a_manifest_that_cannot_be_read_is_not_said_to_be_unwritable(spec, loads, monkeypatch):
    (unit, _) = units(spec)
    assert worker.Worker(spec, load=loads.load).paint(unit).made == 2
    failing(monkeypatch, 99, f"{unit.name}.json")
    report = worker.Worker(spec, load=loads.load).paint(unit)
    assert "cannot be read" in report.failed[0].reason and not report.stop


# --- invert-styles ---------------------------------------------------------------------------------------------------


def test_one_picture_is_held_at_a_time_and_none_that_the_library_has(pictures, monkeypatch):
    pictures(*(f"styles/{number}.png" for number in range(5)))
    held, order, read = [], [], FolderStore.read

    class Data(bytes):
        def __del__(self):
            held.remove(id(self))

    def read_watched(self, name):
        data = Data(read(self, name))
        held.append(id(data))
        order.append((name, len(held)))
        return data

    monkeypatch.setattr(FolderStore, "read", read_watched)
    inverted = []
    monkeypatch.setattr(worker.Worker, "invert_style", lambda self, style, data: inverted.append(style.name))
    assert cli.main(["invert-styles", "styles", "--library", "lib", *FAST]) == cli.OK
    assert len(inverted) == 5 and max(count for _, count in order) <= 2  # the last one, and the one before until then


def test_a_picture_that_cannot_be_read_fails_alone(pictures, monkeypatch, capsys):
    pictures("styles/a.png", "styles/b.png", "styles/c.png")
    failing(monkeypatch, 99, "b.png")
    assert cli.main(["invert-styles", "styles", "--library", "lib", *FAST]) == cli.SOME_FAILED
    assert "b.png failed: it cannot be read (Input/output error)" in capsys.readouterr().err
    assert sorted(path.name[:5] for path in Path("lib").rglob("*.safetensors")) == ["a.png", "c.png"]


def test_two_folders_are_inverted_into_one_library_and_what_is_skipped_is_counted(pictures, capsys):
    pictures("a/x.png", "b/y.png")
    Path("b/notes.txt").write_text("notes")
    assert cli.main(["invert-styles", "a", "b", "--library", "lib", *FAST[:-1]]) == cli.OK
    assert "2 styles inverted, 0 there before, 1 skipped (notes.txt): " in capsys.readouterr().out


def test_the_library_is_listed_once_however_many_styles_are_added(pictures, monkeypatch, model):
    pictures(*(f"styles/{number}.png" for number in range(4)))
    listed, entries = [], FolderStore.entries

    def counted(self, under=""):
        listed.append(under)
        return entries(self, under)

    monkeypatch.setattr(FolderStore, "entries", counted)
    assert cli.main(["invert-styles", "styles", "--library", "lib", *FAST]) == cli.OK
    assert len(listed) <= 3  # the styles, what the library has, what the worker's library has


def test_a_changed_style_takes_the_place_of_the_earlier_one_in_the_same_process(tmp_path, monkeypatch):
    monkeypatch.setattr("magicstyle.headless.campaign.library.to_bytes", lambda features: b"bank")
    monkeypatch.setattr("magicstyle.headless.campaign.library._scaled", lambda features, factor: features)
    library = Library(FolderStore(tmp_path), "k")
    for digest in ("0" * 12, "1" * 12, "2" * 12):
        library.put(StyleName("x.png", digest), None, 1.0)
        library.put(StyleName("y.png", digest), None, 1.0)
    assert library.styles() == [StyleName("x.png", "2" * 12), StyleName("y.png", "2" * 12)]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


# --- names on Windows ------------------------------------------------------------------------------------------------


def test_a_name_has_no_letter_that_windows_does_not_take_and_two_names_stay_two():
    names = [
        r"team\a.png",
        r"..\..\a.png",
        "a:b.png",
        "con",
        "CON.png",
        "nul.txt",
        "a. ",
        "a?.png",
        "a*.png",
        "x\ny.png",
    ]
    found = [fitting(name) for name in names]
    for name in found:
        assert not set(name) & set('<>:"\\|?*\n') and name[-1] not in ". "
        assert name.split(".")[0].lower() not in ("con", "nul")
        assert fitting(name) == name
    assert len(set(found)) == len(names) and fitting("team/a b.png") == "team/a b.png"


def test_a_key_of_an_object_store_leads_a_windows_worker_nowhere_else():
    from pathlib import PureWindowsPath

    for name in (r"..\..\evil.png", r"a\..\..\evil.png", r"\windows\evil.png", "C:evil.png", r"C:\evil.png"):
        assert leaves(name, PureWindowsPath)
        assert not leaves(output_name("key", name, name), PureWindowsPath)
    assert not leaves("team/a.png", PureWindowsPath)


def test_a_folder_store_writes_nothing_outside_of_its_folder(tmp_path):
    from magicstyle.core.errors import MagicStyleError

    with pytest.raises(MagicStyleError, match="names a place outside"):
        FolderStore(tmp_path / "in").put("../out.png", b"x")
    assert not (tmp_path / "out.png").exists()


def test_a_file_address_of_a_windows_drive_is_its_path():
    assert local_path("file:///C:/photos") == "C:/photos" and local_path("file:///photos") == "/photos"


def test_litter_is_cleared_once_for_a_folder_and_not_for_each_file(tmp_path, monkeypatch):
    cleared = []
    monkeypatch.setattr(store, "clear_litter", lambda folder: cleared.append(folder.name))
    own = FolderStore(tmp_path)
    for name in ("a/0", "a/1", "a/2", "b/0", "a/3"):
        own.put(name, b"x")
    assert cleared == ["a", "b"]

"""What the command makes, skips, reports and returns."""

import re

import numpy as np
import pytest
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.headless import cli, jobs
from magicstyle.headless.pictures import read_record
from PIL import Image

FAST = ["--steps", "2", "--size", "64", "--quiet"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def inversions(monkeypatch):
    """The inversions that a run does, by their number of kept roles."""
    seen, invert = [], jobs.invert

    def counting(*args, **kwargs):
        seen.append(kwargs["roles"])
        return invert(*args, **kwargs)

    monkeypatch.setattr(jobs, "invert", counting)
    return seen


def stylize(*arguments):
    return cli.main(["stylize", *map(str, arguments), *FAST])


def made(folder):
    return sorted(path.name for path in folder.iterdir())


def test_without_pictures_the_shipped_pair_is_made(tmp_path):
    assert stylize("--sheet") == cli.OK
    folder = tmp_path / "magicstyle-output"
    assert made(folder) == ["demo_content--demo_style-sheet.png", "demo_content--demo_style.png"]
    assert Image.open(folder / "demo_content--demo_style.png").size == (64, 64)
    assert Image.open(folder / "demo_content--demo_style-sheet.png").size == (4 * 264 + 8, 32 + 264)


def test_every_pair_is_made_and_each_picture_inverted_once(tmp_path, pictures, inversions):
    pictures("photos/a.png", "photos/b.png", "x.png", "y.png")
    assert stylize("photos", "x.png", "y.png", "-o", "out") == cli.OK
    assert made(tmp_path / "out") == ["a--x.png", "a--y.png", "b--x.png", "b--y.png"]
    assert sorted(inversions) == ["kv", "kv", "qkv", "qkv"]


def test_options_may_stand_between_the_pictures(tmp_path, pictures):
    pictures("a.png", "x.png", "y.png")
    assert cli.main(["stylize", "a.png", "-o", "out", "x.png", *FAST, "y.png"]) == cli.OK
    assert made(tmp_path / "out") == ["a--x.png", "a--y.png"]


def test_a_rerun_skips_what_is_finished_and_makes_what_changed(tmp_path, pictures, inversions, capsys):
    pictures("a.png", "x.png")
    command = ("a.png", "x.png", "-o", "out/r.png")
    assert stylize(*command) == cli.OK
    assert stylize(*command) == cli.OK
    assert len(inversions) == 2 and "1 finished earlier" in capsys.readouterr().out
    assert stylize(*command, "--sheet") == cli.OK
    assert stylize(*command, "--sheet", "--temperature", "1.25") == cli.OK
    assert len(inversions) == 6
    pictures("x.png")  # another picture under the same name
    jobs._digest.cache_clear()
    assert stylize(*command, "--sheet", "--temperature", "1.25") == cli.OK
    assert len(inversions) == 8
    assert stylize(*command, "--sheet", "--temperature", "1.25", "--overwrite") == cli.OK
    assert len(inversions) == 10


def test_a_finished_run_does_not_load_the_model(tmp_path, pictures, monkeypatch):
    pictures("a.png", "x.png")
    assert stylize("a.png", "x.png") == cli.OK
    monkeypatch.setattr("magicstyle.headless.model.load_model", lambda *_: pytest.fail("loaded"))
    assert stylize("a.png", "x.png") == cli.OK


def test_a_failed_pair_is_reported_at_the_end_and_does_not_stop_the_others(tmp_path, pictures, capsys):
    pictures("photos/a.png", "photos/c.png", "x.png", "z.png")
    (tmp_path / "photos" / "b.png").write_text("not a picture")
    (tmp_path / "y.png").write_bytes(b"")
    assert stylize("photos", "x.png", "y.png", "z.png", "-o", "out") == cli.SOME_FAILED
    assert made(tmp_path / "out") == ["a--x.png", "a--z.png", "c--x.png", "c--z.png"]
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 5 and all(
        re.match(r"magicstyle: \w\.png \+ \w\.png failed: \w\.png is ", line) for line in lines
    )


def test_an_unexpected_error_fails_its_pair_only(tmp_path, pictures, monkeypatch, capsys):
    pictures("a.png", "x.png", "y.png")
    paint = jobs.stylize
    results = iter([RuntimeError("out of\nmemory")])

    def failing_once(*args):
        for error in results:
            raise error
        return paint(*args)

    monkeypatch.setattr(jobs, "stylize", failing_once)
    assert stylize("a.png", "x.png", "y.png", "-o", "out") == cli.SOME_FAILED
    assert made(tmp_path / "out") == ["a--y.png"]
    assert "a.png + x.png failed: RuntimeError: out of memory" in capsys.readouterr().err


def test_a_file_of_other_origin_is_never_replaced_unasked(tmp_path, pictures, capsys):
    pictures("a.png", "x.png", "precious.png")
    before = (tmp_path / "precious.png").read_bytes()
    assert stylize("a.png", "x.png", "-o", "precious.png") == cli.SOME_FAILED
    assert (tmp_path / "precious.png").read_bytes() == before
    assert "is not a result of this program" in capsys.readouterr().err


def test_an_interrupt_ends_the_run_with_its_own_code(pictures, monkeypatch):
    pictures("a.png", "x.png")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "invert", interrupted)
    assert stylize("a.png", "x.png") == cli.INTERRUPTED


UNUSABLE = {
    "a.png": "there is no style",
    "nowhere.png x.png": "nowhere.png does not exist",
    "a.png nowhere.png": "nowhere.png does not exist",
    "empty x.png": "holds no pictures",
    "a.png x.png -o out.jpg": "results are PNG",
    "a.png x.png b.png -o out.png": "several pairs",
    "a.png x.png --size 100": "multiples of 8 from 64 to 2048",
    "a.png x.png --size big": "--size is 'big'",
    "a.png x.png --size 8192": "multiples of 8 from 64 to 2048",
    "a.png x.png --steps 0": "--steps is 0",
    "a.png x.png --temperature 0": "temperature is 0.0",
    "a.png x.png --query-preservation 2": "query_preservation is 2.0",
    "a.png x.png --adain 2": "--adain is 2.0",
    "a.png x.png --layers outer.3": "'outer.3' is not a layer",
    "a.png x.png --device nonsense": "--device 'nonsense' cannot be used",
    "a.png x.png --checkpoint none.safetensors": "none.safetensors does not exist",
    "a.png x.png --checkpoint a.png": "a.png is not a readable .safetensors file",
}


@pytest.mark.parametrize("arguments", UNUSABLE)
def test_unusable_arguments_end_with_one_line(tmp_path, pictures, capsys, arguments):
    pictures("a.png", "b.png", "x.png")
    (tmp_path / "empty").mkdir()
    assert cli.main(["stylize", "--quiet", *arguments.split()]) == cli.UNUSABLE
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("magicstyle: ") and UNUSABLE[arguments] in line
    assert not (tmp_path / "magicstyle-output").exists()


@pytest.mark.parametrize("arguments", [[], ["paint"], ["stylize", "--method", "none"], ["stylize", "--steps", "many"]])
def test_arguments_that_cannot_be_parsed_end_with_the_same_code(arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == cli.UNUSABLE


def test_defaults_are_those_of_the_settings():
    given, default = cli.parser().parse_args(["stylize"]), FusionSettings()
    assert {name: getattr(given, name) for name in cli.KNOBS} == {name: getattr(default, name) for name in cli.KNOBS}
    assert given.method == default.method


@pytest.mark.parametrize("text, size", [(None, (128, 128)), ("512", (512, 512)), ("384x512", (384, 512))])
def test_sizes(text, size):
    assert cli.parse_size(text, 128) == size


def test_names_that_clash_stay_apart(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "a.jpg", "b/a.png", "c.png")]
    pairs = jobs.plan_pairs(paths, [tmp_path / "c.png"], tmp_path / "out", sheet=False)
    names = [pair.result.name for pair in pairs]
    assert len(set(names)) == 4 and names[1] == "a_jpg--c.png" and names[3] == "c--c.png"


def test_the_record_says_how_a_picture_was_made(tmp_path, pictures):
    pictures("a.png", "x.png")
    assert stylize("a.png", "x.png", "-o", "r.png", "--method", "styleid") == cli.OK
    record = read_record(tmp_path / "r.png")
    assert '"method": "styleid"' in record and '"steps": 2' in record and str(tmp_path) not in record


def test_the_inversion_is_chosen_and_recorded(tmp_path, pictures, capsys):
    pictures("a.png", "x.png")
    command = ("a.png", "x.png", "-o", "r.png")
    assert stylize(*command) == cli.OK
    plain = np.asarray(Image.open(tmp_path / "r.png"))
    assert stylize(*command, "--inversion", "fixed_point", "--corrections", "1") == cli.OK
    assert '"inversion": {"corrections": 1, "method": "fixed_point"}' in read_record(tmp_path / "r.png")
    assert not np.array_equal(plain, np.asarray(Image.open(tmp_path / "r.png")))
    assert stylize(*command, "--inversion", "fixed_point", "--corrections", "99") == cli.UNUSABLE
    assert "corrections is 99: choose a number from 0 to 20" in capsys.readouterr().err


def test_other_sizes_and_aspects_work(tmp_path, pictures):
    pictures("a.png", "x.png")
    arguments = ["stylize", "a.png", "x.png", "-o", "r.png", "--steps", "2", "--quiet", "--size", "72x104"]
    assert cli.main(arguments) == cli.OK
    assert np.asarray(Image.open(tmp_path / "r.png")).shape == (104, 72, 3)


def test_a_model_that_does_not_load_is_unusable(monkeypatch, pictures, capsys):
    pictures("a.png", "x.png")

    def broken(*_):
        raise MagicStyleError("the demo model is broken.")

    monkeypatch.setattr("magicstyle.headless.model.load_model", broken)
    assert stylize("a.png", "x.png") == cli.UNUSABLE
    assert capsys.readouterr().err == "magicstyle: the demo model is broken.\n"

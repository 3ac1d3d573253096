"""What the command makes, skips, reports and returns."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion_methods import INVERSIONS
from magicstyle.core.presets import PRESETS
from magicstyle.headless import choices, cli, option_table, options
from magicstyle.headless.engine import model as model_module
from magicstyle.headless.engine import session
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.pairs import jobs, memory
from magicstyle.headless.pictures.png import read_record, write_png
from magicstyle.headless.pictures.sizes import Frame
from magicstyle.headless.version import version
from magicstyle.picture_files import kinds
from magicstyle.tests.host.locate import PACK
from PIL import Image

FAST = ["--steps", "2", "--size", "64"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, loads):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def inversions(loads, model):
    """The pictures that a run inverts: each is encoded once."""
    seen = []
    loads.change(encode=lambda picture: seen.append(picture) or model.encode(picture))
    return seen


def stylize(*arguments):
    return cli.main(["stylize", *map(str, arguments), *FAST])


def quiet(*arguments):
    return stylize(*arguments, "--quiet")


def made(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what is made --------------------------------------------------------------------------------------------------


def test_without_pictures_the_shipped_pair_is_made(tmp_path):
    assert quiet("--sheet") == cli.OK
    folder = tmp_path / "magicstyle-output"
    assert made(folder) == ["demo_content--demo_style-sheet.png", "demo_content--demo_style.png"]
    assert Image.open(folder / "demo_content--demo_style.png").size == (64, 64)
    assert Image.open(folder / "demo_content--demo_style-sheet.png").size == (4 * 264 + 8, 32 + 264)


def test_every_pair_is_made_and_each_picture_inverted_once(tmp_path, pictures, inversions):
    pictures("photos/a.png", "photos/b.png", "x.png", "y.png")
    assert quiet("photos", "x.png", "y.png", "-o", "out") == cli.OK
    assert made(tmp_path / "out") == ["a--x.png", "a--y.png", "b--x.png", "b--y.png"]
    assert len(inversions) == 4


def test_options_may_stand_between_the_pictures(tmp_path, pictures):
    pictures("a.png", "x.png", "y.png")
    assert cli.main(["stylize", "a.png", "-o", "out", "x.png", *FAST, "y.png"]) == cli.OK
    assert made(tmp_path / "out") == ["a--x.png", "a--y.png"]


def test_the_record_says_how_a_picture_was_made(tmp_path, pictures):
    pictures("a.png", "x.png")
    assert quiet("a.png", "x.png", "-o", "r.png", "--method", "styleid") == cli.OK
    record = read_record(tmp_path / "r.png")
    facts = json.loads(record)
    assert facts["settings"]["method"] == "styleid" and facts["steps"] == 2 and str(tmp_path) not in record
    assert facts["size"] == facts["style_size"] == [64, 64]


def test_the_inversion_is_chosen_and_recorded(tmp_path, pictures, capsys):
    pictures("a.png", "x.png")
    assert quiet("a.png", "x.png", "-o", "plain.png") == cli.OK
    fixed = ("--inversion", "fixed_point", "--corrections")
    assert quiet("a.png", "x.png", "-o", "r.png", *fixed, "1") == cli.OK
    assert json.loads(read_record(tmp_path / "r.png"))["inversion"] == {"corrections": 1, "method": "fixed_point"}
    assert not np.array_equal(pixels(tmp_path / "plain.png"), pixels(tmp_path / "r.png"))
    assert quiet("a.png", "x.png", "-o", "r.png", *fixed, "99") == cli.UNUSABLE
    assert "corrections is 99: choose a number from 0 to 20" in capsys.readouterr().err


def test_a_preset_chooses_steps_and_inversion_and_what_is_given_besides_holds():
    def recipe(*arguments):
        return options.read_request(options.parse(["stylize", *arguments])).order.recipe

    for name, preset in PRESETS.items():
        assert (recipe("--preset", name).steps, recipe("--preset", name).inversion) == (preset.steps, preset.inversion)
    own = recipe("--steps", "7", "--preset", "fast", "--inversion", "exact")
    assert own.steps == 7 and own.inversion.method == "exact"
    assert recipe() == Recipe()


def test_other_sizes_and_aspects_work(tmp_path, pictures):
    pictures("a.png", "x.png")
    arguments = ["stylize", "a.png", "x.png", "-o", "r.png", "--steps", "2", "--quiet", "--size", "72x104"]
    assert cli.main(arguments) == cli.OK
    assert pixels(tmp_path / "r.png").shape == (104, 72, 3)


def pixels(path):
    return np.asarray(Image.open(path))


def test_a_free_frame_keeps_the_aspect_of_each_picture(tmp_path, monkeypatch, capsys):
    demo = choices.model_file(None)
    monkeypatch.setattr(choices, "model_file", lambda path: demo._replace(frame=Frame((192, 192), fixed=False)))
    Image.effect_noise((100, 200), 60).save("a.png")
    Image.effect_noise((200, 100), 60).save("x.png")
    arguments = ["stylize", "a.png", "x.png", "--steps", "2", "--quiet", "--sheet", "-o", "r.png"]
    assert cli.main(arguments) == cli.OK
    assert pixels(tmp_path / "r.png").shape == (256, 128, 3)
    facts = json.loads(read_record(tmp_path / "r.png"))
    assert facts["size"] == [128, 256] and facts["style_size"] == [256, 128]
    assert "cropped" not in capsys.readouterr().err
    style = pixels(tmp_path / "r-sheet.png")[32:-8, 272:528]  # shown whole: between white bars
    assert (style[:100] == 255).all() and (style[-100:] == 255).all() and not (style[250:260] == 255).all()


def test_defaults_are_those_of_the_settings():
    given, default = options.parse(["stylize"]), FusionSettings()
    knobs = {name: getattr(given, name) for name in choices.KNOBS}
    assert knobs == {name: getattr(default, name) for name in choices.KNOBS}
    controls = {name: getattr(given, name) for name in choices.CONTROLS}
    assert controls == {name: getattr(default.controls, name) for name in choices.CONTROLS}
    assert given.method == default.method


# --- nothing that exists is lost -----------------------------------------------------------------------------------


def test_a_rerun_skips_what_is_finished_and_says_where_it_lies(tmp_path, pictures, inversions, loads, capsys):
    pictures("a.png", "x.png")
    assert stylize("a.png", "x.png", "-o", "out/r.png") == cli.OK
    assert stylize("a.png", "x.png", "-o", "out/r.png") == cli.OK
    assert len(inversions) == 2 and len(loads) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-2:] == [
        "out/r.png (finished earlier)",
        f"1 finished earlier (--overwrite makes them again): {tmp_path / 'out' / 'r.png'}",
    ]
    assert stylize("a.png", "x.png", "-o", "out/r.png", "--sheet") == cli.OK  # the sheet was missing
    assert made(tmp_path / "out") == ["r-sheet.png", "r.png"] and len(inversions) == 4
    assert stylize("a.png", "x.png", "-o", "out/r.png", "--sheet", "--overwrite") == cli.OK
    assert made(tmp_path / "out") == ["r-sheet.png", "r.png"] and len(inversions) == 6


def test_changed_settings_get_a_name_of_their_own(tmp_path, pictures, inversions, capsys):
    pictures("a.png", "x.png")
    assert quiet("a.png", "x.png", "-o", "out") == cli.OK
    first = (tmp_path / "out" / "a--x.png").read_bytes()
    assert quiet("a.png", "x.png", "-o", "out", "--temperature", "1.25") == cli.OK
    assert "stays, made of the same pictures with other settings" in capsys.readouterr().err
    second = made(tmp_path / "out")[0]
    assert re.fullmatch(r"a--x-[0-9a-f]{8}\.png", second)
    assert (tmp_path / "out" / "a--x.png").read_bytes() == first
    for settings in ([], ["--temperature", "1.25"]):  # both are finished
        assert quiet("a.png", "x.png", "-o", "out", *settings) == cli.OK
    assert len(made(tmp_path / "out")) == 2 and len(inversions) == 4
    assert quiet("a.png", "x.png", "-o", "out", "--temperature", "1.75", "--overwrite") == cli.OK
    assert len(made(tmp_path / "out")) == 2 and '"temperature": 1.75' in read_record(tmp_path / "out" / "a--x.png")


def test_two_pictures_of_one_name_from_two_folders_keep_their_results(tmp_path, pictures):
    pictures("a/x.png", "b/x.png", "s.png")
    assert quiet("a/x.png", "s.png", "-o", "out") == cli.OK
    first = (tmp_path / "out" / "x--s.png").read_bytes()
    for more in ([], ["--overwrite"]):
        assert quiet("b/x.png", "s.png", "-o", "out", *more) == cli.OK
        assert (tmp_path / "out" / "x--s.png").read_bytes() == first and len(made(tmp_path / "out")) == 2


def test_names_that_clash_in_one_run_stay_apart_and_are_found_again(tmp_path, pictures, inversions):
    pictures("in/a.png", "in/a.bmp", "s.png")
    assert quiet("in", "s.png", "-o", "out") == cli.OK
    assert len(made(tmp_path / "out")) == 2
    assert quiet("in", "s.png", "-o", "out") == cli.OK
    assert len(inversions) == 3


def test_adding_a_portrait_and_a_style_renames_nothing(tmp_path, pictures):
    pictures("in/b.png", "s.png", "t.png")
    assert quiet("in", "s.png", "-o", "out") == cli.OK
    before = (tmp_path / "out" / "b--s.png").stat()
    pictures("in/b.png", "s.png", "t.png", "in/b.bmp", "in/a.png")
    assert quiet("in", "t.png", "s.png", "-o", "out") == cli.OK
    assert (tmp_path / "out" / "b--s.png").stat().st_mtime_ns == before.st_mtime_ns
    assert len(made(tmp_path / "out")) == 6


def test_a_picture_named_twice_is_made_once(tmp_path, pictures):
    pictures("a.png", "x.png")
    assert quiet("a.png", "x.png", "./x.png", tmp_path / "x.png", "-o", "out") == cli.OK
    assert made(tmp_path / "out") == ["a--x.png"]


def test_a_file_named_by_the_user_is_replaced_at_his_word_alone(tmp_path, pictures):
    pictures("a.png", "x.png", "y.png")
    assert quiet("a.png", "x.png", "-o", "r.png") == cli.OK
    first = (tmp_path / "r.png").read_bytes()
    assert quiet("a.png", "y.png", "-o", "r.png") == cli.OK
    assert (tmp_path / "r.png").read_bytes() == first and len(list(tmp_path.glob("r-*.png"))) == 1
    assert quiet("x.png", "y.png", "-o", "r.png", "--overwrite") == cli.OK
    assert (tmp_path / "r.png").read_bytes() != first and len(list(tmp_path.glob("r*.png"))) == 2


PRECIOUS = {
    "a.png x.png -o a.png": "a.png is an input",
    "a.png x.png -o a.png --overwrite": "a.png is an input",
    "a.png x.png -o ./x.png --overwrite": "x.png is an input",
    "a.png x.png -o link.png --overwrite": "link.png is an input",
    "own.png x.png -o own.png --overwrite": "own.png is an input",
    "a.png x.png -o precious.png": "precious.png is not a result of this program",
    "a.png x.png -o precious.png --overwrite": "precious.png is not a result of this program",
    "a.png x.png -o text.png --overwrite": "text.png is not a result of this program",
    "a.png x.png -o new.png --sheet --overwrite": "new-sheet.png is not a result of this program",
}


@pytest.mark.parametrize("arguments", PRECIOUS)
def test_inputs_and_pictures_of_other_origin_are_never_replaced(tmp_path, pictures, capsys, loads, arguments):
    pictures("a.png", "x.png", "precious.png", "new-sheet.png")
    (tmp_path / "text.png").write_text("a diary")
    write_png(tmp_path / "own.png", Image.new("RGB", (64, 64)), "{}")  # a result that is stylized once more
    (tmp_path / "link.png").symlink_to("a.png")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert quiet(*arguments.split()) == cli.UNUSABLE
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before and not loads
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{PRECIOUS[arguments]}: it stays as it is" in line


def test_in_a_folder_a_picture_of_other_origin_stays_and_the_result_gets_another_name(tmp_path, pictures, capsys):
    pictures("a.png", "x.png", "out/a--x.png")
    before = (tmp_path / "out" / "a--x.png").read_bytes()
    assert quiet("a.png", "x.png", "-o", "out", "--overwrite") == cli.OK
    assert (tmp_path / "out" / "a--x.png").read_bytes() == before and len(made(tmp_path / "out")) == 2
    assert "stays, not a result of this program" in capsys.readouterr().err


def test_a_name_that_another_run_took_meanwhile_is_not_taken_from_it(tmp_path, pictures, loads, model):
    pictures("a.png", "x.png", "y.png")
    assert quiet("a.png", "y.png", "-o", "other.png") == cli.OK

    def decode_while_another_run_writes(latents):
        (tmp_path / "out").mkdir(exist_ok=True)
        shutil.copy("other.png", tmp_path / "out" / "a--x.png")
        return model.decode(latents)

    loads.change(decode=decode_while_another_run_writes)
    assert quiet("a.png", "x.png", "-o", "out") == cli.OK
    assert (tmp_path / "out" / "a--x.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert len(made(tmp_path / "out")) == 2


@pytest.mark.parametrize("left", [0.0, 0.02, 0.3, 0.6, 0.999])
def test_a_result_that_was_cut_short_is_made_again(tmp_path, pictures, capsys, left):
    pictures("a.png", "x.png")
    assert quiet("a.png", "x.png", "-o", "r.png") == cli.OK
    whole = (tmp_path / "r.png").read_bytes()
    (tmp_path / "r.png").write_bytes(whole[: int(left * len(whole))])
    assert quiet("a.png", "x.png", "-o", "r.png") == cli.OK
    assert "r.png is damaged: it is made again" in capsys.readouterr().err
    assert (tmp_path / "r.png").read_bytes() == whole


def test_a_flipped_bit_in_a_result_is_noticed(tmp_path, pictures):
    pictures("a.png", "x.png")
    assert quiet("a.png", "x.png", "-o", "r.png") == cli.OK
    whole = (tmp_path / "r.png").read_bytes()
    (tmp_path / "r.png").write_bytes(whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:])
    assert quiet("a.png", "x.png", "-o", "r.png") == cli.OK
    assert (tmp_path / "r.png").read_bytes() == whole


def test_results_in_the_input_folder_are_not_taken_for_portraits(tmp_path, pictures, capsys):
    pictures("photos/a.png", "x.png")
    for _ in range(2):
        assert quiet("photos", "x.png", "-o", "photos", "--sheet") == cli.OK
        assert made(tmp_path / "photos") == ["a--x-sheet.png", "a--x.png", "a.png"]
    assert quiet("photos/a--x.png", "x.png", "-o", "again.png") == cli.OK  # named, it is taken
    (tmp_path / "photos" / "a.png").unlink()
    assert quiet("photos", "x.png") == cli.UNUSABLE
    assert "holds nothing but results of this program" in capsys.readouterr().err


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path, pictures):
    pictures("a.png", "x.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".a--x.0a1b2c3d.magicstyle.part").write_bytes(b"half")
    assert quiet("a.png", "x.png", "-o", "out") == cli.OK
    assert made(tmp_path / "out") == ["a--x.png"]


# --- what fails ----------------------------------------------------------------------------------------------------


def test_a_bad_picture_is_named_once_and_before_the_model_is_loaded(tmp_path, pictures, capsys, loads):
    pictures("photos/a.png", "photos/c.png", "x.png", "z.png")
    (tmp_path / "photos" / "b.png").write_text("not a picture")
    (tmp_path / "y.png").write_bytes(b"")
    cut = tmp_path / "photos" / "d.png"
    cut.write_bytes((tmp_path / "x.png").read_bytes()[:3000])
    assert quiet("photos", "x.png", "y.png", "z.png", "-o", "out") == cli.SOME_FAILED
    assert made(tmp_path / "out") == ["a--x.png", "a--z.png", "c--x.png", "c--z.png"]
    told = [line for line in capsys.readouterr().err.splitlines() if "demo model" not in line]
    assert len(told) == 3 and all(re.match(r"magicstyle: [\w/]+\.png is \w+", line) for line in told)
    assert quiet("photos/b.png", "x.png", "z.png", "-o", "out") == cli.UNUSABLE
    assert quiet("photos/d.png", "x.png", "z.png", "-o", "out") == cli.UNUSABLE
    assert len(loads) == 1


@pytest.mark.parametrize("error, told", [
    (RuntimeError("went\nwrong"), "RuntimeError: went wrong"),
    (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), "there is not enough memory: choose a smaller"),
    (MemoryError(), "there is not enough memory: choose a smaller"),
])  # fmt: skip
def test_an_unexpected_error_fails_its_pair_only(tmp_path, pictures, loads, model, capsys, error, told):
    pictures("a.png", "x.png", "y.png")
    calls = []

    def failing_once(*args):
        calls.append(1)
        if len(calls) == 7:  # after the two inversions, while the first pair is painted
            raise error
        return model.denoised(*args)

    loads.change(denoised=failing_once)
    assert quiet("a.png", "x.png", "y.png", "-o", "out") == cli.SOME_FAILED
    assert made(tmp_path / "out") == ["a--y.png"]
    assert f"a.png + x.png failed: {told}" in capsys.readouterr().err


@pytest.mark.parametrize("calls", [0, 6, 8], ids=["inverting", "painting", "reconstructing"])
def test_what_is_no_number_is_never_saved_as_a_picture(tmp_path, pictures, loads, model, capsys, calls):
    """From so many model calls on nothing is a number: at two steps an inversion takes three, sampling two."""
    pictures("a.png", "x.png")
    seen = []

    def overflowing(x, sigma):
        seen.append(1)
        return model.denoised(x, sigma) * (float("nan") if len(seen) > calls else 1.0)

    loads.change(denoised=overflowing)
    assert quiet("a.png", "x.png", "-o", "out", "--sheet") == cli.SOME_FAILED
    assert not (tmp_path / "out").exists()
    assert "holds NaN or infinite values: set temperature" in capsys.readouterr().err


def test_a_disk_that_fills_up_ends_the_run_at_once(tmp_path, pictures, loads, model, monkeypatch, capsys):
    pictures("photos/a.png", "photos/b.png", "photos/c.png", "x.png")
    painted, write = [], jobs.write_png
    loads.change(decode=lambda latents: painted.append(1) or model.decode(latents))

    def write_once(path, *args):
        if len(painted) > 1:
            raise OSError(28, "No space left on device")
        write(path, *args)

    monkeypatch.setattr(jobs, "write_png", write_once)
    assert quiet("photos", "x.png", "-o", "out") == cli.SOME_FAILED
    assert len(painted) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    assert "photos/b.png + x.png and 1 more failed: out/b--x.png cannot be written (No space left" in line


def test_an_interrupt_ends_the_run_with_its_own_code(pictures, loads, capsys):
    pictures("a.png", "x.png")

    def interrupted(*args):
        raise KeyboardInterrupt

    loads.change(denoised=interrupted)
    assert quiet("a.png", "x.png") == cli.INTERRUPTED
    assert capsys.readouterr().err.splitlines()[-1] == "magicstyle: interrupted; a rerun continues"


def test_a_model_that_does_not_load_is_unusable(monkeypatch, pictures, capsys):
    pictures("a.png", "x.png")

    def broken(*_):
        raise MagicStyleError("the demo model is broken.")

    monkeypatch.setattr(model_module, "load_model", broken)
    assert quiet("a.png", "x.png") == cli.UNUSABLE
    assert capsys.readouterr().err.splitlines()[-1] == "magicstyle: the demo model is broken."


LONG = "9" * 5000
UNUSABLE = {
    "a.png": "there is no style",
    "nowhere.png x.png": "nowhere.png does not exist",
    "a.png nowhere.png": "nowhere.png does not exist",
    "https://x.y/a.png x.png": "does not exist: the command reads files, so download it first",
    "a.png x.png --checkpoint https://x.y/sd15.safetensors": "download it first",
    "- x.png": "reads files, not standard input",
    "/dev/null x.png": "/dev/null is neither a picture file nor a folder",
    "pipe x.png": "pipe is neither a picture file nor a folder",
    "empty x.png": "holds no pictures",
    "deep x.png": "folders inside it are not searched",
    f"{'n' * 300}.png x.png": "File name too long",
    "-me.png x.png": "a name that begins with a dash is written ./-me.png",
    "a.png x.png -o out.jpg": "results are PNG",
    "a.png x.png -o notes": "-o notes is a file",
    "a.png x.png -o notes/out": "notes is a file, so that notes/out cannot be a folder",
    "a.png x.png -o notes/r.png": "notes is a file, so that notes cannot be a folder",
    "a.png x.png -o /dev/null": "-o /dev/null is no folder",
    "a.png x.png -o /dev/null/r.png": "/dev/null is a file, so that",
    "a.png x.png -o /proc/nothing": "no picture can be written to /proc/nothing",
    "a.png x.png -o -": "not written to standard output",
    f"a.png x.png -o {'n' * 300}.png": "File name too long",
    "a.png x.png b.png -o out.png": "several pairs",
    "a.png x.png --size 100": "multiples of 8 from 64 to 2048",
    "a.png x.png --size big": "--size is 'big'",
    "a.png x.png --size 512x": "--size is '512x'",
    "a.png x.png --size 64x64x64": "--size is '64x64x64'",
    f"a.png x.png --size {LONG}": "--size is '9999",
    "a.png x.png --size 8192": "multiples of 8 from 64 to 2048",
    "a.png x.png --block 16": "--block is '16': write portraits x styles",
    "a.png x.png --block 0x5": "--block is '0x5'",
    "a.png x.png --batch 0": "--batch is 0",
    "a.png x.png --steps 0": "--steps is 0",
    "a.png x.png --steps 1e3": "invalid int value",
    f"a.png x.png --steps {LONG}": "invalid int value",
    "a.png x.png --temperature 0": "temperature is 0.0",
    "a.png x.png --temperature inf": "temperature is inf",
    "a.png x.png --temperature nan": "temperature is nan",
    "a.png x.png --temperature 1e30": "temperature is 1e+30",
    "a.png x.png --style-weight inf": "style_weight is inf",
    "a.png x.png --style-weight nan": "style_weight is nan",
    "a.png x.png --content-weight 1e300": "content_weight is 1e+300",
    "a.png x.png --content-weight -1": "content_weight is -1.0",
    "a.png x.png --query-preservation 2": "query_preservation is 2.0",
    "a.png x.png --query-preservation nan": "query_preservation is nan",
    "a.png x.png --gamma 1.5": "gamma is 1.5: choose a value from 0 to 1",
    "a.png x.png --key-scale 5": "key_scale is 5.0: choose a value from 0 to 4",
    "a.png x.png --align 2": "align is 2.0: choose a value from 0 to 1",
    "a.png x.png --mix nan": "mix is nan: choose a value from 0 to 1",
    "a.png x.png --style-weight-end -1": "style_weight_end is -1.0",
    "a.png x.png --method masactrl --mix 0.5": "method masactrl attends to no style",
    "a.png x.png --level-stride 0": "--level-stride is 0: choose a number from 1",
    "a.png x.png --adain 2": "--adain is 2.0",
    "a.png x.png --adain nan": "--adain is nan",
    "a.png x.png --layers outer.3": "'outer.3' is not a layer",
    "a.png x.png --layers output.1": "selects no self-attention layer",
    "a.png x.png --layers ,": "layers is empty",
    "a.png x.png --device nonsense": "--device 'nonsense' cannot be used",
    "a.png x.png --device meta": "--device 'meta' cannot be used",
    "a.png x.png --device cuda:99": "--device 'cuda:99' cannot be used",
    "a.png x.png --method none": "invalid choice: 'none'",
    "a.png x.png --inversion none": "invalid choice: 'none'",
    "a.png x.png --steps": "expected one argument",
    "a.png x.png --nonsense": "unrecognized arguments: --nonsense",
    "a.png x.png --checkpoint none.safetensors": "none.safetensors does not exist",
    "a.png x.png --checkpoint a.png": "a.png is not a readable .safetensors file",
    "a.png x.png --checkpoint empty": "--checkpoint empty is a folder",
    "a.png x.png --checkpoint old.ckpt": "old.ckpt is a pickle, which can run any program",
    "a.png x.png --checkpoint pointer.safetensors": "is a Git LFS pointer",
    "a.png x.png --checkpoint page.safetensors": "is not a readable .safetensors file",
    "a.png x.png --checkpoint demo.safetensors": "demo.safetensors is the demo model: leave --checkpoint out",
    "dot.png x.png": "dot.png has 1x1 pixels",
    "a.png dot.png": "dot.png has 1x1 pixels",
    "strip.png x.png": "strip.png has 10000x40 pixels, a strip 250 times as long as wide",
    "small.bmp x.png": "small.bmp has 10000x20 pixels",
}


@pytest.fixture
def hostile(tmp_path):
    """A folder with everything that a hostile command line may name."""
    (tmp_path / "deep" / "inside").mkdir(parents=True)
    for name in ("a.png", "b.png", "x.png", "deep/inside/c.png", "-me.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").write_text("notes")
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (tmp_path / "page.safetensors").write_text("<!doctype html><html>404</html>")
    (tmp_path / "demo.safetensors").symlink_to(PACK / "assets" / "magicstyle_demo.safetensors")
    os.mkfifo(tmp_path / "pipe")
    for name, size in (("dot.png", (1, 1)), ("strip.png", (10000, 40)), ("small.bmp", (10000, 20))):
        Image.new("RGB", size).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("arguments", UNUSABLE, ids=lambda text: text[:60])
def test_unusable_arguments_end_with_one_line_before_anything_is_loaded(hostile, capsys, loads, arguments):
    assert cli.main(["stylize", "--quiet", *arguments.split()]) == cli.UNUSABLE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("magicstyle: ") and UNUSABLE[arguments] in line and len(line) < 500
    assert not (hostile / "magicstyle-output").exists() and not loads


@pytest.mark.parametrize("arguments, name", [
    (["", "x.png"], "CONTENT"), (["a.png", ""], "STYLE"), (["a.png", "x.png", "-o", ""], "--out"),
    (["a.png", "x.png", "--size", ""], "--size"), (["a.png", "x.png", "--checkpoint", ""], "--checkpoint"),
    (["a.png", "x.png", "--device", ""], "--device"), (["a.png", "x.png", "--layers", ""], "--layers"),
])  # fmt: skip
def test_an_empty_value_is_a_slip(hostile, capsys, loads, arguments, name):
    assert cli.main(["stylize", "--quiet", *arguments]) == cli.UNUSABLE
    assert f"magicstyle: {name} is empty" in capsys.readouterr().err and not loads


@pytest.mark.parametrize("arguments, told", [
    ([], "name a command: `magicstyle stylize` paints the shipped pair"),
    (["paint"], "'paint' is no command"), (["--quiet", "paint"], "--quiet stands before the command"),
    ([""], "'' is no command"),
    (["me.jpg", "monet.jpg"], "'me.jpg' is no command: write magicstyle stylize me.jpg monet.jpg"),
    (["--nonsense"], "--nonsense stands before the command"),
])  # fmt: skip
def test_a_command_that_is_missing_or_unknown_is_told_in_one_sentence(capsys, arguments, told):
    assert cli.main(arguments) == cli.UNUSABLE
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_help_and_version_are_for_people(capsys):
    assert cli.main(["--version"]) == cli.OK
    assert capsys.readouterr().out == f"magicstyle {version()}\n" and re.fullmatch(r"\d+\.\d+\.\d+", version())
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == cli.OK and "Exit code: 0" in text and "130 interrupted" in text
    assert all(f"magicstyle {command}" in text for command in option_table.COMMANDS)
    with pytest.raises(SystemExit):
        cli.main(["stylize", "--help"])
    text = capsys.readouterr().out
    described = text.partition("\ninversion:")[2].partition("--corrections")[0]
    assert all(f"{name}:" in described for name in INVERSIONS)


def test_diffstyler_keeps_the_contents_resnet(pictures, loads, model):
    pictures("a.png", "x.png")
    seen = []

    def denoised(*args):
        seen.append(model.hooks.handlers.resnet is not None)
        return model.denoised(*args)

    loads.change(denoised=denoised)
    assert quiet("a.png", "x.png", "--method", "diffstyler") == cli.OK
    assert seen[:6] == [False] * 3 + [True] * 3  # of the style nothing is kept of it


def test_guidance_makes_another_picture_of_twice_the_calls(tmp_path, pictures, loads, model):
    pictures("a.png", "x.png")
    calls = []

    def denoised(*args):
        calls.append(args[0].shape[0])
        return model.denoised(*args)

    loads.change(denoised=denoised)
    made_with = {}
    for name, chosen in (("plain", ()), ("nvqg", ("--guidance", "nvqg")), ("spg", ("--guidance", "spg"))):
        calls.clear()
        assert quiet("a.png", "x.png", "-o", f"{name}.png", *chosen) == cli.OK
        made_with[name] = (len(calls), (tmp_path / f"{name}.png").read_bytes())
    assert made_with["nvqg"][0] == made_with["spg"][0] == 4 * made_with["plain"][0] // 3  # of three walks one
    assert len({picture for _, picture in made_with.values()}) == 3


def test_a_style_scale_out_of_range_and_a_method_of_guidance_alone_are_refused(pictures, capsys):
    pictures("a.png", "x.png")
    assert quiet("a.png", "x.png", "--guidance", "spg", "--style-scale", "21") == cli.UNUSABLE
    assert "style_scale is 21" in capsys.readouterr().err
    assert quiet("a.png", "x.png", "--style-scale", "2") == cli.UNUSABLE
    assert "--style-scale is for style guidance" in capsys.readouterr().err
    assert quiet("a.png", "x.png", "--method", "nvqg") == cli.UNUSABLE
    assert "invalid choice: 'nvqg'" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["v1.2", "photos.2024", "out.png/", "there.png"])
def test_a_folder_may_have_a_dot_in_its_name(tmp_path, pictures, out):
    pictures("a.png", "x.png")
    (tmp_path / "there.png").mkdir()
    assert quiet("a.png", "x.png", "-o", out) == cli.OK
    assert made(tmp_path / out) == ["a--x.png"]


SNOW = "\u96ea"
HOSTILE = ["-dash.png", "two\nlines.png", f"caf\u00e9 {SNOW}.png", "n" * 240 + ".png", SNOW * 80 + ".png", "a--b.png"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_any_file_name_is_taken_and_printed_in_one_line(tmp_path, pictures, capsys, name):
    pictures("in/" + name, "x.png")
    assert stylize("in", "x.png", "-o", "out") == cli.OK
    (result,) = made(tmp_path / "out")
    assert result.isprintable() and len(result.encode()) < 255
    assert capsys.readouterr().out.splitlines()[0] == f"out/{result}"


def test_a_name_that_is_no_text_is_taken(tmp_path, pictures):
    (path,) = pictures("x.png")
    os.mkdir("in")
    shutil.copy(path, b"in/bad\xff.png")
    assert quiet("in", "x.png", "-o", "out") == cli.OK
    assert made(tmp_path / "out") == ["bad_--x.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="may not mount")
@pytest.mark.parametrize("kind, told", [("ro", "Read-only file system"), ("size=8k", "No space left on device")])
def test_a_full_or_read_only_disk_is_noticed_before_the_model_is_loaded(tmp_path, pictures, capsys, loads, kind, told):
    pictures("a.png", "x.png")
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", kind, "tmpfs", str(tmp_path / "disk")]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        assert quiet("a.png", "x.png", "-o", "disk/out") == cli.UNUSABLE
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)
    assert f"no picture can be written to disk/out ({told})" in capsys.readouterr().err and not loads


def test_styles_that_do_not_fit_into_memory_are_inverted_again(tmp_path, pictures, inversions, monkeypatch, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png", "y.png")
    assert quiet("photos", "x.png", "y.png", "-o", "plenty") == cli.OK
    assert len(inversions) == 4 and "memory" not in capsys.readouterr().err
    (tmp_path / "meminfo").write_text("MemAvailable: 1 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    assert quiet("photos", "x.png", "y.png", "-o", "short") == cli.OK
    assert len(inversions) == 4 + 6 and capsys.readouterr().err.count("memory is short") == 1
    for path in (tmp_path / "plenty").iterdir():
        assert path.read_bytes() == (tmp_path / "short" / path.name).read_bytes()


def test_free_memory_is_what_the_system_and_the_container_leave(tmp_path, monkeypatch):
    files = {"MEMINFO": "MemTotal: 9 kB\nMemAvailable:    2000 kB\n", "LIMIT": "max\n", "USED": "50000\n"}
    files["USED_FOR"] = "anon 20000\nfile 29000\nactive_file 9000\ninactive_file 20000\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, name, tmp_path / name)
    assert memory.free_bytes() == 2000 * 1024
    (tmp_path / "LIMIT").write_text("150000\n")
    assert memory.free_bytes() == 120000  # what a checkpoint that was read has left in the cache is free
    (tmp_path / "USED_FOR").unlink()
    assert memory.free_bytes() == 100000
    (tmp_path / "USED").unlink()
    assert memory.free_bytes() == 2000 * 1024
    (tmp_path / "MEMINFO").unlink()
    assert memory.free_bytes() == float("inf")


# --- what is said --------------------------------------------------------------------------------------------------


def test_progress_names_the_model_each_pair_and_one_absolute_path(tmp_path, pictures, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png")
    assert stylize("photos", "x.png", "-o", "out") == cli.OK
    told = capsys.readouterr()
    assert told.out.splitlines() == ["out/a--x.png", "out/b--x.png", f"2 made: {tmp_path / 'out'}"]
    lines = [line for line in told.err.splitlines() if line.startswith("magicstyle: ")]
    assert lines[0] == "magicstyle: starting" and "magicstyle: loading the demo model" in lines
    assert lines[-2:] == ["magicstyle: 1 of 2: photos/a.png + x.png", "magicstyle: 2 of 2: photos/b.png + x.png"]


def test_what_a_folder_holds_besides_pictures_is_named_and_counted_in_the_last_line(tmp_path, pictures, capsys):
    (plain,) = pictures("photos/plain.png")
    pictures("styles/x.png")
    for name, kind in (("new.avif", "AVIF"), ("old.jfif", "JPEG"), ("film.jp2", "JPEG2000"), ("scan.tiff", "TIFF")):
        Image.open(plain).save(tmp_path / "photos" / name, kind)
    for name in ("photos/iphone.heic", "photos/raw.cr2", "styles/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    heif = kinds.reads_heif()
    assert stylize("photos", "styles", "-o", "photos/out") == (cli.SOME_FAILED if heif else cli.OK)
    assert made(tmp_path / "photos" / "out") == [f"{name}--x.png" for name in ("film", "new", "old", "plain", "scan")]
    told = capsys.readouterr()
    skipped = "2 skipped (raw.cr2, notes.txt)" if heif else "3 skipped (iphone.heic, raw.cr2, notes.txt)"
    assert told.out.splitlines()[-1] == f"5 made, {skipped}: {tmp_path / 'photos' / 'out'}"
    assert heif or told.err.count("HEIC is read with pillow-heif, which is not installed: pip install") == 1
    assert quiet("photos", "styles", "-o", "photos/out") in (cli.OK, cli.SOME_FAILED)
    assert skipped in capsys.readouterr().err  # a quiet run has no last line


def test_each_path_is_printed_when_it_is_finished(tmp_path, pictures, capsys, loads, model):
    pictures("photos/a.png", "photos/b.png", "x.png")
    told = []
    loads.change(decode=lambda latents: told.append(capsys.readouterr().out) or model.decode(latents))
    assert quiet("photos", "x.png", "-o", "out") == cli.OK
    assert told == ["", "out/a--x.png\n"] and capsys.readouterr().out == "out/b--x.png\n"


def test_bars_count_the_steps(pictures, monkeypatch):
    pictures("a.png", "x.png")
    seen = []

    class Bar(session.tqdm):
        def __init__(self, **kwargs):
            super().__init__(**{**kwargs, "disable": False})

        def close(self):
            if self.desc and not self.disable:
                seen.append((self.desc.rstrip(": "), self.n, self.total))
            super().close()

    monkeypatch.setattr(session, "tqdm", Bar)
    assert stylize("a.png", "x.png") == cli.OK
    assert seen == [("invert style x.png", 2, 2), ("invert content a.png", 2, 2), ("paint a--x", 2, 2)]


def test_a_portrait_whose_shape_lets_its_face_be_small_is_told_once_before_it_is_painted(pictures, tmp_path, capsys):
    pictures("x.png")
    (tmp_path / "photos").mkdir()
    for name, size in (("a", (192, 108)), ("b", (96, 128)), ("c", (108, 192))):
        Image.new("RGB", size).save(tmp_path / "photos" / f"{name}.png")
    assert quiet() == cli.OK
    assert "dissolve" not in capsys.readouterr().err  # the shipped pair is a head and shoulders
    assert quiet("photos", "x.png") == cli.OK
    told = [line for line in capsys.readouterr().err.splitlines() if "dissolve" in line]
    (line,) = told
    assert "a.png is wide (192x108)" in line and line.endswith("; so for 1 more.")


@pytest.mark.parametrize("shape, size", [((150, 200), (192, 256)), ((200, 150), (256, 192)), ((600, 800), (384, 512))])
@pytest.mark.parametrize("block", [[], ["--block", "2x2"]], ids=["pairs", "block"])
def test_without_a_size_the_demo_model_keeps_each_pictures_aspect(tmp_path, pictures, shape, size, block):
    pictures("x.png")
    Image.new("RGB", shape, "teal").save(tmp_path / "a.png")
    given = ["stylize", "a.png", "x.png", "--steps", "1", "--quiet", *block, "-o", "r.png"]
    assert cli.main(given) == cli.OK
    assert Image.open(tmp_path / "r.png").size == size


def test_what_a_crop_takes_is_said_and_the_top_is_kept(tmp_path, pictures, capsys):
    pictures("x.png")
    Image.new("RGB", (340, 512)).save(tmp_path / "a.png")
    assert quiet("a.png", "x.png") == cli.OK
    assert "magicstyle: a.png: cropped 340x512 to 340x340, its upper part" in capsys.readouterr().err


# --- as a process --------------------------------------------------------------------------------------------------


def process(*arguments, **more):
    """A Python of its own that can be interrupted, also where the tests run in the background, which ignores SIGINT."""
    command = [sys.executable, *map(str, arguments)]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} if os.name == "posix" else {}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard, **more)


def test_the_folder_itself_can_be_run(tmp_path):
    running = process(PACK, "stylize", "--size", "big", "--quiet")
    assert "--size is 'big'" in running.communicate(timeout=300)[1] and running.returncode == cli.UNUSABLE


def test_python_m_magicstyle_is_the_command(tmp_path):
    (tmp_path / "magicstyle").symlink_to(PACK)
    running = process("-m", "magicstyle", "--version", cwd=tmp_path)
    assert running.communicate(timeout=300) == (f"magicstyle {version()}\n", "")


@pytest.mark.parametrize("moment", [0.0, 0.4, 1.2])
def test_an_interrupt_at_any_moment_of_the_start_is_no_traceback(moment):
    running = process(PACK, "stylize", "--steps", "500")
    assert running.stderr.readline() == "magicstyle: starting\n"
    time.sleep(moment)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=300)
    assert "Traceback" not in told and told.splitlines()[-1] == "magicstyle: interrupted; a rerun continues"
    assert running.returncode == cli.INTERRUPTED


INTERRUPTED_USAGE = """
import argparse, os, signal

def format_usage(self, made=argparse.ArgumentParser.format_usage):
    os.kill(os.getpid(), signal.SIGINT)
    return made(self)

argparse.ArgumentParser.format_usage = format_usage
"""


def test_an_interrupt_while_the_options_are_parsed_is_no_traceback(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED_USAGE)
    running = process(PACK, "stylize", "--steps", "500", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    told = running.communicate(timeout=300)[1]
    assert told == "magicstyle: starting\nmagicstyle: interrupted; a rerun continues\n"
    assert running.returncode == cli.INTERRUPTED


def test_a_reader_that_leaves_does_not_stop_the_pictures(tmp_path, pictures):
    pictures("a.png", "x.png")
    running = process(PACK, "stylize", "a.png", "x.png", *FAST, "--quiet", "-o", "out")
    running.stdout.close()
    assert running.wait(timeout=300) == cli.OK
    assert made(tmp_path / "out") == ["a--x.png"] and "Traceback" not in running.stderr.read()


def test_a_library_that_is_missing_is_named_with_the_cure(tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    running = process(PACK, "stylize", "--quiet", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    told = running.communicate(timeout=300)[1]
    assert "torch is not installed" in told and '".[headless]"' in told and running.returncode == cli.UNUSABLE

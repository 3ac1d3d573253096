"""The published comparison from end to end: 4 x 5 drawn portraits on the demo model, random metric networks."""

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
from magicstyle.benchmarks.published import __main__ as command
from magicstyle.benchmarks.published import convert, inputs, painting, reference, scoring
from magicstyle.benchmarks.published.reference import STYLEID, Calibration
from magicstyle.core.errors import MagicStyleError
from magicstyle.tests.benchmarks.metric_files import random_weights, write_random_weights
from magicstyle.tests.host.locate import PACK
from magicstyle.tools.demo_model.portraits import portrait
from PIL import Image
from safetensors.torch import load_file, save_file

CONTENTS, STYLES = 4, 5


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """A folder with data/ and weights/, as a user brings them."""
    folder = tmp_path_factory.mktemp("brought")
    for part, count, seed in (("cnt", CONTENTS, 3_000_000), ("sty", STYLES, 4_000_000)):
        (folder / "data" / part).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(portrait(seed + i).image).save(folder / "data" / part / f"{i:02d}.png")
    write_random_weights(folder / "weights")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def options(brought, out, *more, protocol="styleid-repo", methods="styleid,ffa", steps=2):
    return [
        *("--checkpoint", "demo", "--data", str(brought / "data"), "--metric-weights", str(brought / "weights")),
        *("--methods", methods, "--protocol", protocol, "--out", str(out), "--steps", str(steps)),
        *("--any-data", "--device", "cpu", "--draws", "20", "--block", "2", "--quiet", *more),
    ]


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png")}


class Finished(NamedTuple):
    """A run that was killed in the middle of painting and then finished."""

    early: dict  # what lay there when it was killed, and when that was written
    said: str  # by the second run


@pytest.fixture(scope="module")
def finished(brought, out):
    folder = out / "styleid-repo" / "styleid"
    arguments = [sys.executable, "-m", "benchmarks.published", *options(brought, out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(arguments, cwd=PACK, env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 240
        while len(list(folder.glob("*.png"))) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    early = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert command.main(options(brought, out)) == 0
    return Finished(early, said.getvalue())


def test_a_killed_run_goes_on_and_the_table_has_every_number(out, finished):
    """SIGKILL in the middle of painting; what lies there is not touched again."""
    assert 3 <= len(finished.early) < CONTENTS * STYLES
    assert all(path.stat().st_mtime_ns == written for path, written in finished.early.items())
    folders = [out / "styleid-repo" / method for method in ("styleid", "ffa")]
    assert all(len(digests(folder)) == CONTENTS * STYLES for folder in folders)
    assert not list((out / "styleid-repo").rglob(".*")), "a part of a file was left"
    check_table(finished.said)
    with Image.open(out / "styleid-repo" / "sheet.png") as sheet:
        assert sheet.width > 4 * 192 and sheet.height > 4 * 192


def check_table(text):
    rows = {cells[0].strip("* "): cells[1:] for cells in table(text)}
    assert list(rows) == ["method", "styleid", "ffa"]
    assert rows["method"][:5] == ["ArtFID", "FID", "LPIPS", "CFSD", "colour histogram"]
    for method in ("styleid", "ffa"):
        numbers = [cell.split(" ± ") for cell in rows[method][:5]]
        assert all(float(value) > 0 and float(half) > 0 for value, half in numbers), rows[method]
        art_fid, fid, lpips = (float(value) for value, _ in numbers[:3])
        assert art_fid == pytest.approx((1 + fid) * (1 + lpips), rel=1e-3)
        assert float(rows[method][6]) > 0  # seconds
    assert rows["ffa"][5].startswith(("+", "-")) and rows["styleid"][5] == ""
    for fact in (
        "`styleid-repo`",
        "4 contents x 5 styles, another set",
        "the demo model (",
        "torch 2",
        "not done here",
    ):
        assert fact in text, fact


def table(text):
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_finished_run_paints_and_measures_nothing(brought, out, finished, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_walk", lambda *a: pytest.fail("the model was loaded"))
    monkeypatch.setattr(scoring, "inception_features", lambda *a: pytest.fail("a metric was computed"))
    assert command.main(options(brought, out)) == 0
    check_table(capsys.readouterr().out)


def test_a_damaged_result_is_made_again_with_its_scores_and_the_same_as_before(brought, out, finished, capsys):
    folder = out / "styleid-repo" / "styleid"
    before = digests(folder)
    os.unlink(folder / "01_stylized_02.png")
    (out / "styleid-repo" / "scores" / "styleid" / "02.safetensors").write_bytes(b"half")
    assert command.main(options(brought, out)) == 0
    assert digests(folder) == before


def test_other_settings_are_painted_anew_and_strange_files_are_left_alone(brought, out, finished, tmp_path, capsys):
    given = command.parser().parse_args(options(brought, out))
    order = command.read_order(given)
    assert not order.waiting("styleid")
    given.steps = 4
    assert len(command.read_order(given).waiting("styleid")) == CONTENTS * STYLES
    strange = tmp_path / "styleid-repo" / "styleid" / "00_stylized_00.png"
    strange.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(strange)
    assert command.main(options(brought, tmp_path)) == 1
    assert "00_stylized_00.png is not a result of this program" in capsys.readouterr().err


class Brightness:
    """A plug-in metric."""

    name = "brightness"

    def __call__(self, results, contents, styles):
        return results.mean(dim=(1, 2, 3))


def brightness(device):
    return Brightness()


class OneNumber(Brightness):
    name = "one number"

    def __call__(self, results, contents, styles):
        return results.mean()


def one_number(device):
    return OneNumber()


def test_a_plugin_has_its_column(brought, out, finished, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "my_metrics", sys.modules[__name__])
    assert command.main(options(brought, out, "--plugin", "my_metrics:brightness", methods="styleid")) == 0
    head, row = table(capsys.readouterr().out)
    value = float(row[head.index("brightness")].split(" ± ")[0])
    pictures = [Image.open(path) for path in sorted((out / "styleid-repo" / "styleid").glob("*.png"))]
    assert value == pytest.approx(np.mean([np.asarray(p) for p in pictures]) / 255, abs=1e-3)
    assert command.main(options(brought, out, "--plugin", "my_metrics:one_number", methods="styleid")) == 1
    assert "must answer one number for each" in capsys.readouterr().err
    assert command.main(options(brought, out, "--plugin", "my_metrics:none")) == 1
    assert "write module:factory" in capsys.readouterr().err


def test_calibration_comes_first_and_stops_where_it_fails(brought, out, finished, monkeypatch, capsys):
    """No published set here: whether one may calibrate is answered with yes, and the published FID moved."""
    monkeypatch.setattr(command, "can_calibrate", lambda order: True)
    assert command.main(options(brought, out, methods="ffa,masactrl")) == command.NOT_CALIBRATED
    captured = capsys.readouterr()
    assert re.search(r"stopped: the calibration fails: styleid .* is 18.131, and -\d+\.\d+ is beyond 1;", captured.err)
    assert [cells[0] for cells in table(captured.out)] == ["method", "**styleid**"]
    assert not (out / "styleid-repo" / "masactrl").exists()
    fid = json.loads((out / "calibration.json").read_text())["fid"]
    monkeypatch.setattr(reference, "STYLEID", STYLEID._replace(fid=fid + 0.5))
    assert command.main(options(brought, out, methods="ffa")) == 0
    text = capsys.readouterr().out
    assert "the calibration holds" in text and "(not verified)" in text and "-0.500 is within 1" in text


@pytest.mark.parametrize("fid, holds", [(18.131, True), (19.12, True), (17.14, True), (19.14, False), (17.0, False)])
def test_calibration_allows_one_either_way(fid, holds):
    assert Calibration(fid).holds is holds


def test_published_rows_say_that_nobody_has_read_them_and_fit_their_formula(brought, out, capsys):
    assert reference.SOURCE in ("not verified", "read from the paper")
    assert (1 + STYLEID.fid) * (1 + STYLEID.lpips) == pytest.approx(STYLEID.art_fid, abs=2e-3)
    given = command.parser().parse_args(options(brought, out))
    order = command.read_order(given)
    own = order.data._replace(published=True)
    scores = {"styleid": {name: scoring.Estimate(1.0, 0.1) for name in ("ArtFID", "FID", "LPIPS", "CFSD")}}
    from magicstyle.benchmarks.published import report

    lines = report._table(painting.replace(order, data=own), scores, "styleid")
    assert f"| StyleID, published ({reference.SOURCE}) | 28.801 | 18.131 | 0.5055 | 0.2281 |  |  |" in lines
    assert len(lines) == 2 + 1 + len(reference.TABLE)


def test_the_packs_own_protocol_runs_too(brought, out, capsys):
    assert command.main(options(brought, out, protocol="magicstyle", methods="masactrl", steps=1)) == 0
    text = capsys.readouterr().out
    assert "this pack's own" in text and "**masactrl**" in text
    assert len(digests(out / "magicstyle" / "masactrl")) == CONTENTS * STYLES


# --- what a user brings ---------------------------------------------------------------------------------------------


def refused(brought, out, capsys, *more, **changes):
    given = options(brought, out, **changes)
    for name, value in zip(more[::2], more[1::2], strict=True):
        if name in given:
            given[given.index(name) + 1] = value
        else:
            given += [name, value]
    assert command.main(given) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_inputs_are_refused_in_one_sentence(brought, out, tmp_path, capsys):
    def check(expected, *more, **changes):
        error = refused(brought, out, capsys, *more, **changes)
        assert expected in error, error

    check("--methods mona is unknown: choose from ffa,", methods="mona")
    check("--methods names none", methods=",")
    check("--steps 3 does not divide 1000", steps=3)
    check("--block and --draws at least 1", "--block", "0")
    check("does not exist: check the name", "--data", str(tmp_path))
    check("--checkpoint none.safetensors does not exist", "--checkpoint", "none.safetensors")
    (tmp_path / "a.ckpt").write_bytes(b"x")
    check("is not a .safetensors file: make one of sd-v1-4.ckpt", "--checkpoint", str(tmp_path / "a.ckpt"))
    check("has no art_inception*.pth or .safetensors: fetch art_inception.pth from", "--metric-weights", str(tmp_path))


def copied(brought, tmp_path, part):
    """Links to the files of a part of what was brought, to be spoiled."""
    for path in (brought / part).rglob("*.*"):
        target = tmp_path / path.relative_to(brought)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return tmp_path / part


def test_pictures_of_another_size_number_or_origin_are_refused(brought, tmp_path):
    data = copied(brought, tmp_path, "data")
    with pytest.raises(MagicStyleError, match=r"not StyleID's data folder \(it holds 4 contents and 5 styles; 20 and"):
        inputs.read_data(data, 128, any_data=False)
    with pytest.raises(MagicStyleError, match="00.png is 128x128: cut it to 512x512 first"):
        inputs.read_data(data, 512, any_data=True)
    for number in range(1, STYLES):
        (data / "sty" / f"{number:02d}.png").unlink()
    with pytest.raises(MagicStyleError, match="needs two contents and two styles"):
        inputs.read_data(data, 128, any_data=True)
    (data / "cnt" / "02.png").unlink()
    (data / "cnt" / "02.png").write_bytes(b"no picture")
    with pytest.raises(MagicStyleError, match="02.png cannot be read as a picture"):
        inputs.read_data(data, 128, any_data=True)


def test_the_published_set_is_known_by_its_pixels_not_its_files(brought, tmp_path, monkeypatch):
    data = copied(brought, tmp_path, "data")
    hashes = {part: inputs.pixel_hash(tuple(sorted((data / part).iterdir()))) for part in ("cnt", "sty")}
    monkeypatch.setattr(inputs, "PUBLISHED_PIXELS", hashes)
    with Image.open(data / "cnt" / "00.png") as picture:
        again = picture.copy()
    (data / "cnt" / "00.png").unlink()
    again.save(data / "cnt" / "00.png", compress_level=1)
    inputs.pixel_hash.cache_clear()
    assert inputs.read_data(data, 128, any_data=False).published
    again.putpixel((0, 0), (1, 2, 3))
    again.save(data / "cnt" / "00.png")
    inputs.pixel_hash.cache_clear()
    assert not inputs.read_data(data, 128, any_data=True).published


def test_weight_files_are_known_by_hash_and_shape(brought, tmp_path):
    weights = copied(brought, tmp_path, "weights")
    whole = inputs.read_metric_weights(weights)
    assert set(whole.hashes) == set(inputs.WEIGHT_FILES)
    (weights / "vgg19.safetensors").unlink()
    # a .pth file, as torchvision names its own: the hash in the name is checked
    torch.save(random_weights("vgg19"), weights / "vgg19.pth")
    right = hashlib.sha256((weights / "vgg19.pth").read_bytes()).hexdigest()[:8]
    (weights / "vgg19.pth").rename(weights / f"vgg19-{right}.pth")
    again = inputs.read_metric_weights(weights)
    assert torch.equal(again.tensors["vgg19"]["features.0.weight"], whole.tensors["vgg19"]["features.0.weight"])
    (weights / f"vgg19-{right}.pth").rename(weights / "vgg19-00000000.pth")
    with pytest.raises(MagicStyleError, match=rf"has the SHA-256 {right}.., not 00000000..: fetch vgg19-dcbb9e9d"):
        inputs.read_metric_weights(weights)
    (weights / "vgg19-00000000.pth").unlink()
    (weights / "vgg19.pth").write_bytes(b"broken")
    with pytest.raises(MagicStyleError, match="vgg19.pth cannot be read as a file of weights"):
        inputs.read_metric_weights(weights)
    save_file({"features.0.weight": torch.zeros(64, 3, 5, 5)}, weights / "vgg19.safetensors")
    (weights / "vgg19.pth").unlink()
    with pytest.raises(MagicStyleError, match=r"is not vgg19-dcbb9e9d.pth .*\(features.0.weight of shape"):
        inputs.read_metric_weights(weights)


class Program:
    """What a pickle must not be able to run."""

    def __reduce__(self):
        return print, ("it ran",)


def test_no_pickle_runs_a_program(brought, tmp_path, capsys):
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": Program()}, tmp_path / "bad.ckpt")
    with pytest.raises(MagicStyleError, match="holds more than tensors"):
        convert.convert(tmp_path / "bad.ckpt", tmp_path / "bad.safetensors")
    weights = copied(brought, tmp_path, "weights")
    (weights / "vgg19.safetensors").unlink()
    torch.save(Program(), weights / "vgg19.pth")
    with pytest.raises(MagicStyleError, match="cannot be read as a file of weights"):
        inputs.read_metric_weights(weights)
    assert "it ran" not in capsys.readouterr().out


def test_a_checkpoint_becomes_safetensors_with_its_sources_hash(tmp_path):
    source, target = tmp_path / "sd-v1-4.ckpt", tmp_path / "sd.safetensors"
    state = {"model.a": torch.arange(6.0).view(2, 3), "model.b": torch.ones(1).half()}
    torch.save({"global_step": 3, "state_dict": state}, source)
    assert "2 tensors; the source is not the sd-v1-4.ckpt that was published" in convert.convert(source, target)
    assert all(torch.equal(value, state[name]) for name, value in load_file(target).items())
    checkpoint = inputs.read_checkpoint(str(target))
    assert not checkpoint.published and checkpoint.title.startswith("sd.safetensors (")

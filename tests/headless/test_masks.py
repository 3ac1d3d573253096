"""What `--keep` and `--likeness` mean on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.headless import cli, options
from magicstyle.headless.pictures import masks
from magicstyle.headless.pictures.masks import Masks
from magicstyle.headless.pictures.png import read_record
from magicstyle.headless.pictures.reading import read_mask
from PIL import Image

FAST = ["--steps", "2", "--size", "64", "--quiet"]
GIVEN = ["a.png", "x.png"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, loads):
    monkeypatch.chdir(tmp_path)


def mask(path, size=(80, 80), white=(0, 0, 40, 80)):
    """A mask of a square portrait, its left half white."""
    image = Image.new("L", size)
    image.paste(255, white)
    path.parent.mkdir(exist_ok=True)
    image.save(path)


def stylize(*arguments):
    return cli.main(["stylize", *map(str, arguments), *FAST])


def settings(*arguments):
    return options.read_request(options.parse(["stylize", *arguments])).order


def pixels(path):
    return np.asarray(Image.open(path), np.float32)


def test_a_mask_keeps_and_is_recorded_and_a_black_one_changes_nothing(tmp_path, pictures):
    pictures(*GIVEN)
    mask(tmp_path / "left.png")
    mask(tmp_path / "black.png", white=(0, 0, 0, 0))
    for name, more in {"plain": (), "left": ("--keep", "left.png"), "black": ("--keep", "black.png")}.items():
        assert stylize(*GIVEN, "-o", f"{name}.out.png", "--content-weight", "0", *more) == cli.OK
    plain, left, black = (pixels(tmp_path / f"{name}.out.png") for name in ("plain", "left", "black"))
    assert np.array_equal(black, plain) and not np.array_equal(left, plain)
    digest, strength = json.loads(read_record(tmp_path / "left.out.png"))["keep"]
    assert len(digest) == 16 and strength == 1.0
    assert "keep" not in json.loads(read_record(tmp_path / "plain.out.png"))


def test_another_mask_or_strength_is_another_picture_and_the_same_is_finished(tmp_path, pictures, capsys):
    pictures(*GIVEN)
    mask(tmp_path / "m.png")
    assert stylize(*GIVEN, "--keep", "m.png", "-o", "out") == cli.OK
    assert stylize(*GIVEN, "--keep", "m.png", "-o", "out") == cli.OK
    assert len(list((tmp_path / "out").iterdir())) == 1
    assert stylize(*GIVEN, "--keep", "m.png", "--likeness", "0.5", "-o", "out") == cli.OK
    mask(tmp_path / "m.png", white=(0, 0, 80, 80))
    assert stylize(*GIVEN, "--keep", "m.png", "-o", "new") == cli.OK
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_folder_has_a_mask_for_each_portrait_and_one_without_is_named(tmp_path, pictures, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png")
    mask(tmp_path / "masks" / "a.png")
    assert stylize("photos", "x.png", "--keep", "masks", "-o", "out") == cli.SOME_FAILED
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a--x.png"]
    assert "masks holds no mask called b: add one, or leave photos" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, message",
    [
        (("--keep", "nowhere.png"), "--keep nowhere.png does not exist: check the name"),
        (("--keep", ""), "--keep is empty"),
        (("--keep", "wide.png"), "wide.png is 80x20 and a.png 128x128: give a mask of the whole portrait"),
        (("--keep", "text.png"), "text.png is not a picture that can be read"),
        (("--keep", "left.png", "--likeness", "2"), "--likeness is 2.0: choose a value from 0 to 1"),
        (("--likeness", "nan"), "--likeness is nan: choose a value from 0 to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(tmp_path, pictures, capsys, more, message):
    pictures(*GIVEN)
    mask(tmp_path / "left.png")
    mask(tmp_path / "wide.png", (80, 20))
    (tmp_path / "text.png").write_text("not a picture")
    assert stylize(*GIVEN, *more) == cli.UNUSABLE
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_likeness_sets_the_knobs_of_a_whole_picture_and_what_is_given_besides_holds(tmp_path):
    found = settings("--likeness", "0.8").recipe.settings
    assert (found.query_preservation, found.content_weight) == (0.8, 0.0)
    own = settings("--likeness", "0.8", "--content-weight", "0.1", "--preset", "fast").recipe
    assert own.settings.query_preservation == 0.8 and own.settings.content_weight == 0.1 and own.steps == 12


def test_with_a_mask_likeness_is_its_strength_alone(tmp_path):
    mask(tmp_path / "m.png")
    plain, kept = settings(), settings("--keep", "m.png", "--likeness", "0.3")
    assert kept.recipe == plain.recipe and plain.masks is None
    assert kept.masks.strength == 0.3 and settings("--keep", "m.png").masks.strength == 1.0


def test_a_mask_is_cropped_as_its_portrait_is_and_transparency_is_black(tmp_path):
    image = Image.new("RGBA", (60, 120), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (0, 0, 60, 30))
    image.save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png", (64, 64))
    assert found.shape == (1, 64, 64)
    assert torch.equal(found[0, :30], torch.ones(30, 64)) and torch.equal(found[0, 34:], torch.zeros(30, 64))


def test_a_small_mask_of_the_same_aspect_serves(tmp_path):
    mask(tmp_path / "m.png", (41, 31))
    assert Masks(tmp_path / "m.png", 1.0).of(tmp_path / "a.png", (800, 600)).path.name == "m.png"
    with pytest.raises(MagicStyleError, match="give a mask of the whole portrait"):
        Masks(tmp_path / "m.png", 1.0).of(tmp_path / "a.png", (600, 800))


def test_a_folder_of_masks_is_listed_once_and_each_mask_read_once(tmp_path, monkeypatch):
    """For 5,000 portraits a listing for each took 11 minutes."""
    for number in range(20):
        mask(tmp_path / "masks" / f"{number}.png")
    listed, read, opened = [], [], masks.picture_size
    monkeypatch.setattr(masks, "picture_size", lambda path: read.append(path) or opened(path))
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterdir(path))
    folder, single = Masks(tmp_path / "masks", 1.0), Masks(tmp_path / "masks" / "3.png", 1.0)
    for number in range(20):
        assert folder.of(Path(f"photos/{number}.jpg"), (80, 80)).path.name == f"{number}.png"
        assert single.of(Path(f"photos/{number}.jpg"), (80, 80)).path.name == "3.png"
    assert len(listed) == 1 and len(read) == 21


def test_a_mask_of_a_kind_that_is_not_read_is_named(tmp_path, pictures, capsys):
    pictures("photos/a.png", "photos/b.png", "x.png")
    mask(tmp_path / "masks" / "a.png")
    (tmp_path / "masks" / "b.xcf").write_bytes(b"gimp xcf")
    assert stylize("photos", "x.png", "--keep", "masks", "-o", "out") == cli.SOME_FAILED
    assert "masks holds no mask called b (b.xcf is no kind of picture that is read)" in capsys.readouterr().err


def test_a_mask_turned_by_its_camera_fits_its_portrait(tmp_path):
    from magicstyle.tests.picture_files.made import save_turned

    left = Image.new("L", (60, 80))
    left.paste(255, (0, 0, 30, 80))
    for name in ("m.tif", "m.png"):
        path = save_turned(tmp_path / name, 6, left)
        assert Masks(path, 1.0).of(tmp_path / "a.png", (300, 400)).path == path
        found = read_mask(path, (60, 80))[0]
        assert found[:, :29].min() == 1.0 and found[:, 31:].max() == 0.0

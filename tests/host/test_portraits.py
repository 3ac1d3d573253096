"""Load Portraits (Folder): what people put into a folder, and what the graph gets of it."""

import logging
import time

import folder_paths
import numpy as np
import pytest
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.portraits import NO_FOLDER, LoadPortraits, folder_of, input_folders
from magicstyle.tests.host.scene import own_lines
from magicstyle.tests.picture_files.made import display_p3, save_turned, upright
from PIL import Image


@pytest.fixture
def portraits(tmp_path, monkeypatch):
    """A folder called portraits inside the host's input folder."""
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    (tmp_path / "portraits").mkdir()
    return tmp_path / "portraits"


def load(folder="portraits", largest_side=0):
    """The images and the summary."""
    return LoadPortraits.execute(folder, largest_side).args


def difference(image, picture=None):
    shown = np.asarray(upright() if picture is None else picture, float) / 255
    assert image.shape == (1, *shown.shape)
    return float(np.abs(image[0].numpy() - shown).mean())


def test_pictures_come_upright_by_name_from_every_kind_of_file(portraits):
    for number, name in enumerate(("e.png", "d.jpg", "c.tif", "b.webp", "a.TIFF", "f.jfif")):
        save_turned(portraits / name, (6, 8, 5, 3, 6, 7)[number], **({"format": "JPEG"} if name == "f.jfif" else {}))
    images, summary = load()
    assert summary == "6 loaded: a.TIFF; b.webp; c.tif; d.jpg; e.png; and 1 more"
    assert len(images) == 6 and max(map(difference, images)) < 0.03


def test_transparent_parts_are_white_and_a_profile_is_heeded(portraits):
    Image.new("RGBA", (8, 6), (0, 200, 0, 0)).save(portraits / "clear.png")
    Image.new("RGB", (8, 6), (230, 60, 60)).save(portraits / "p3.png", icc_profile=display_p3())
    (clear, p3), _ = load()
    assert clear.min() == 1.0
    assert p3[0, 0, 0, 0] * 255 > 240 and p3[0, 0, 0, 1] * 255 < 55  # more saturated than its numbers


def test_what_is_left_out_is_named_on_the_page_and_the_others_go_on(portraits, caplog):
    upright().save(portraits / "a.png")
    (portraits / "b.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (portraits / "notes.txt").write_text("notes")
    (portraits / "raw").mkdir()
    (portraits / ".hidden.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "magicstyle"):
        images, summary = load()
    assert len(images) == 1 and difference(images[0]) < 1e-6
    (record,) = caplog.records
    for text in (summary, record.getMessage()):
        assert "3 " in text and "notes.txt is no kind of picture" in text and "raw/ is a folder" in text
        assert "b.jpg is not a picture that can be read" in text and ".hidden" not in text
    caplog.clear()
    for name in ("b.jpg", "notes.txt"):
        (portraits / name).unlink()
    (portraits / "raw").rmdir()
    load()
    assert not own_lines(caplog)


def test_a_large_photograph_is_made_smaller_and_a_small_one_is_not(portraits):
    upright(600, 800).save(portraits / "large.png")
    upright(60, 80).save(portraits / "small.png")
    (large, small), _ = load(largest_side=400)
    assert large.shape == (1, 400, 300, 3) and small.shape == (1, 80, 60, 3)


@pytest.mark.parametrize("name", ["nowhere", "../portraits/..", "", "/etc", NO_FOLDER, "a\0b", 7, "n" * 300])
def test_a_folder_that_is_none_is_named_before_anything_runs(portraits, name):
    told = LoadPortraits.validate_inputs(folder=name)
    assert isinstance(told, str) and told.startswith("folder: ") and "input folder" in told
    with pytest.raises(MagicStyleError, match="input folder"):
        load(name)


def test_a_folder_outside_of_input_is_no_folder_by_whatever_way(portraits, tmp_path):
    (portraits / "out").symlink_to(tmp_path.parent)
    assert folder_of("portraits/out") is None and folder_of("portraits") == portraits


def test_a_folder_without_pictures_is_refused_in_one_sentence(portraits):
    (portraits / "iphone.xyz").write_bytes(b"x")
    with pytest.raises(MagicStyleError, match="'portraits' holds no picture that can be read .* iphone.xyz is no kind"):
        load()


def test_a_picture_that_is_added_or_changed_is_loaded_again(portraits):
    upright().save(portraits / "a.png")
    first = LoadPortraits.fingerprint_inputs(folder="portraits")
    assert LoadPortraits.fingerprint_inputs(folder="portraits") == first
    upright().save(portraits / "b.png")
    second = LoadPortraits.fingerprint_inputs(folder="portraits")
    time.sleep(0.01)
    upright(60, 81).save(portraits / "a.png")
    assert len({first, second, LoadPortraits.fingerprint_inputs(folder="portraits")}) == 3
    assert LoadPortraits.fingerprint_inputs(folder="nowhere") == "nowhere"


def test_the_folders_of_input_are_offered_or_one_line(portraits, tmp_path):
    (portraits / "team").mkdir()
    assert [name.replace("\\", "/") for name in input_folders()] == ["portraits", "portraits/team"]
    (portraits / "team").rmdir()
    portraits.rmdir()
    assert input_folders() == [NO_FOLDER]

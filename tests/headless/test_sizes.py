"""Working sizes, crops, and what is said about them."""

import numpy as np
import pytest
from magicstyle.core.errors import MagicStyleError
from magicstyle.headless.pictures.reading import picture_size, read_picture
from magicstyle.headless.pictures.sizes import (
    Frame,
    LongerSide,
    check_shape,
    cropped,
    face_notes,
    parse_size,
    shape_notes,
)
from PIL import Image

FREE = Frame((512, 512), fixed=False)


@pytest.mark.parametrize("text, size", [("512", (512, 512)), ("384x512", (384, 512)), (" 384X512 ", (384, 512))])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "512x", "x512", "0", "63", "72.5", "-64", "64x64x64", "\u0665\u0661\u0662", "2056"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(MagicStyleError, match="^--size is '"):
        parse_size(text)


@pytest.mark.parametrize("picture, size", [
    ((512, 512), (512, 512)), ((340, 512), (384, 576)), ((3000, 4000), (448, 576)), ((4000, 3000), (576, 448)),
    ((1920, 1080), (704, 384)), ((600, 601), (512, 512)), ((100, 400), (384, 768)),
])  # fmt: skip
def test_a_free_frame_keeps_the_aspect_at_about_the_same_area(picture, size):
    assert FREE.around(picture) == size
    assert Frame((128, 128), fixed=True).around(picture) == (128, 128)


def test_every_free_size_is_one_that_the_network_can_halve():
    for width in range(100, 1000, 37):
        size = FREE.around((width, 400))
        assert all(side % 64 == 0 for side in size) and 0.75 < size[0] * size[1] / 512**2 < 1.2
        kept = cropped((width, 400), size)
        assert width > 800 or width < 200 or kept[0] * kept[1] > 0.9 * width * 400


@pytest.mark.parametrize("picture, size", [
    ((3000, 4000), (384, 512)), ((4000, 3000), (512, 384)), ((512, 512), (512, 512)), ((384, 512), (384, 512)),
    ((2000, 3000), (320, 512)), ((1080, 1920), (320, 512)), ((1920, 1080), (512, 320)), ((4000, 500), (512, 256)),
    ((500, 4000), (256, 512)), ((256, 200), (512, 384)), ((255, 255), (256, 256)), ((60, 100), (128, 256)),
])  # fmt: skip
def test_the_longer_side_has_one_length_and_half_of_it_for_a_small_picture(picture, size):
    assert LongerSide(512).around(picture) == size


@pytest.mark.parametrize("side", [256, 384, 512, 640])
def test_every_size_by_the_longer_side_can_be_halved_and_keeps_most_of_the_picture(side):
    for width in range(32, 2000, 37):
        size, picture = LongerSide(side).around((width, 900)), (width, 900)
        assert size[0] % 64 == size[1] % 64 == 0 and max(size) == side and max(size) <= 2 * min(size)
        kept = cropped(picture, size)
        assert width < 450 or width > 1800 or kept[0] * kept[1] > (0.75 if side == 256 else 0.83) * width * 900


@pytest.mark.parametrize("picture", [(3000, 4000), (512, 512), (600, 500), (400, 600), (1000, 1250)])
def test_of_a_picture_in_the_shape_of_head_and_shoulders_nothing_is_said(picture):
    assert face_notes("me", picture, (512, 512)) == []


@pytest.mark.parametrize("picture, shape", [((1920, 1080), "wide"), ((4000, 3000), "wide"), ((1080, 1920), "tall")])
def test_of_a_picture_that_may_hold_a_small_face_it_is_said_what_becomes_of_one(picture, shape):
    (note,) = face_notes("me", picture, LongerSide(512).around(picture))
    assert note.startswith(f"me is {shape} ({picture[0]}x{picture[1]}) and is painted at ")
    assert "pixels high its features dissolve" in note and "cut the picture to head and shoulders" in note


def test_a_crop_keeps_the_top_of_a_tall_picture_and_the_middle_of_a_wide_one(tmp_path):
    rows = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (200, 100))
    Image.fromarray(rows).save(tmp_path / "tall.png")
    Image.fromarray(rows.T).save(tmp_path / "wide.png")
    tall = np.asarray(read_picture(tmp_path / "tall.png", (100, 100)))[..., 0]
    wide = np.asarray(read_picture(tmp_path / "wide.png", (100, 100)))[..., 0]
    assert (tall == rows[:100]).all() and (wide == rows.T[:, 50:150]).all()


@pytest.mark.parametrize("picture, size, told", [
    ((340, 512), (128, 128), ["me: cropped 340x512 to 340x340, its upper part"]),
    ((512, 340), (128, 128), ["me: cropped 512x340 to 340x340, its middle"]),
    ((512, 512), (512, 512), []),
    ((513, 512), (512, 512), ["me: cropped 513x512 to 512x512, its middle"]),
    ((200, 200), (512, 512), ["me: 200x200 is enlarged to 512x512, which stays soft"]),
    ((256, 256), (512, 512), []),
])  # fmt: skip
def test_what_becomes_of_a_picture_is_said(picture, size, told):
    assert shape_notes("me", picture, size) == told


@pytest.mark.parametrize("picture", [(32, 32), (32, 256), (256, 32), (20000, 4000)])
def test_pictures_at_the_edge_of_use_are_taken(picture):
    check_shape("me", picture)


@pytest.mark.parametrize("picture, told", [
    ((1, 1), "me has 1x1 pixels: give"), ((31, 500), "me has 31x500 pixels: give"), ((500, 31), "500x31 pixels: give"),
    ((321, 40), "a strip 8 times as long"), ((40, 10000), "a strip 250 times as long as wide: cut out"),
])  # fmt: skip
def test_pictures_beyond_use_are_refused(picture, told):
    with pytest.raises(MagicStyleError, match=told):
        check_shape("me", picture)


def test_the_size_of_a_turned_photograph_is_the_upright_one(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 60)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (40, 60)).save(tmp_path / "b.jpg")
    assert picture_size(tmp_path / "a.jpg") == (60, 40) and picture_size(tmp_path / "b.jpg") == (40, 60)

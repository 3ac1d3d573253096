"""Whatever a user hands over becomes RGB, or one line that says why not."""

import numpy as np
import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.headless.pictures.png import read_record, write_png
from magicstyle.headless.pictures.reading import (
    decode_picture,
    picture_size,
    pictures_in,
    read_picture,
    skipped_in,
    to_images,
    to_tensor,
)
from magicstyle.headless.pictures.sheet import contact_sheet
from magicstyle.headless.pictures.sizes import Frame
from magicstyle.headless.skipped import Skipped
from PIL import Image

SIZE = (32, 24)
RAMP = np.linspace(0, 255, 32 * 24).reshape(24, 32)


def save(path, image, **more):
    image.save(path, **more)
    return path


def grey(array, dtype, top):
    return Image.fromarray((array / 255 * top).astype(dtype))


READABLE = {
    "rgb.png": lambda: Image.fromarray(np.repeat(RAMP[..., None], 3, 2).astype(np.uint8)),
    "grey.png": lambda: grey(RAMP, np.uint8, 255),
    "grey.jpg": lambda: grey(RAMP, np.uint8, 255),
    "grey16.png": lambda: grey(RAMP, np.uint16, 65535),
    "grey16.tif": lambda: grey(RAMP, np.uint16, 65535),
    "float.tif": lambda: grey(RAMP, np.float32, 1.0),
    "palette.gif": lambda: grey(RAMP, np.uint8, 255).convert("P"),
    "cmyk.tif": lambda: Image.fromarray(np.repeat(RAMP[..., None], 3, 2).astype(np.uint8)).convert("CMYK"),
    "opaque.png": lambda: Image.fromarray(np.repeat(RAMP[..., None], 3, 2).astype(np.uint8)).convert("RGBA"),
    "grey_alpha.png": lambda: grey(RAMP, np.uint8, 255).convert("LA"),
    "lossless.webp": lambda: Image.fromarray(np.repeat(RAMP[..., None], 3, 2).astype(np.uint8)),
}


@pytest.mark.parametrize("name", READABLE)
def test_every_mode_becomes_the_same_rgb(tmp_path, name):
    lossless = {"lossless": True} if name.endswith("webp") else {}
    image = read_picture(save(tmp_path / name, READABLE[name](), **lossless), SIZE)
    assert image.mode == "RGB" and image.size == SIZE
    assert np.abs(np.asarray(image, dtype=float) - RAMP[..., None]).max() < 6


def test_sixteen_bit_colour_keeps_its_range(tmp_path):
    cv_like = np.repeat((RAMP / 255 * 65535).astype(">u2")[..., None], 3, 2)
    path = tmp_path / "rgb16.png"
    path.write_bytes(png16(cv_like))
    assert np.abs(np.asarray(read_picture(path, SIZE), dtype=float) - RAMP[..., None]).max() < 3


def png16(array):
    """A 16-bit RGB PNG, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_transparent_parts_become_white(tmp_path):
    image = Image.new("RGBA", SIZE, (200, 0, 0, 0))
    image.paste((0, 0, 200, 255), (0, 0, 16, 24))
    pixels = np.asarray(read_picture(save(tmp_path / "cut.png", image), SIZE))
    assert pixels[:, -1].min() == 255
    assert pixels[:, 0].tolist() == [[0, 0, 200]] * 24


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (24, 32), "white")
    image.paste("black", (0, 0, 24, 16))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned clockwise
    pixels = np.asarray(read_picture(save(tmp_path / "turned.jpg", image, exif=exif, quality=100), SIZE))
    assert pixels[:, -8:].max() < 20 and pixels[:, :8].min() > 235


@pytest.mark.parametrize("size", [(32, 32), (64, 24), (24, 64)])
def test_the_centre_is_kept_at_any_aspect(tmp_path, size):
    image = Image.new("RGB", (300, 100), "white")
    image.paste("black", (130, 30, 170, 70))
    pixels = np.asarray(read_picture(save(tmp_path / "wide.png", image), size))
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels[size[1] // 2, size[0] // 2].max() < 20


def truncated(path):
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:1500])


UNREADABLE = {
    "empty.png": (lambda path: path.write_bytes(b""), "is empty"),
    "text.png": (lambda path: path.write_text("hello"), "not a picture that can be read"),
    "cut.png": (truncated, "is damaged"),
    "cut.jpg": (truncated, "is damaged"),
    "huge.png": (lambda path: Image.new("1", (11000, 11000)).save(path), "11000x11000, more than 100 million pixels"),
    "bomb.png": (lambda path: Image.new("1", (20000, 20000)).save(path), "more than 100 million pixels"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unusable_files_are_refused_in_one_line(tmp_path, name):
    make, words = UNREADABLE[name]
    make(tmp_path / name)
    with pytest.raises(MagicStyleError, match=rf"{name} .*{words}") as caught:
        read_picture(tmp_path / name, SIZE)
    assert "\n" not in str(caught.value)


def test_a_folder_gives_its_pictures_in_order_and_nothing_else(tmp_path):
    for name in ("b.PNG", "a.jpg", "notes.txt", ".c.png.part"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.jpg", "b.PNG"]
    with pytest.raises(MagicStyleError, match="holds no pictures"):
        pictures_in(tmp_path / "d.png")
    with pytest.raises(MagicStyleError, match="does not exist"):
        pictures_in(tmp_path / "nowhere")


def test_tensors_and_pictures_round_trip():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 24, 32) and tensor.dtype == torch.float32
    assert np.array_equal(np.asarray(to_images(tensor)[0]), np.asarray(image))


def test_a_written_file_carries_its_record(tmp_path):
    path = tmp_path / "deep" / "result.png"
    write_png(path, Image.new("RGB", SIZE), "how it was made")
    assert read_record(path) == "how it was made"
    assert [entry.name for entry in path.parent.iterdir()] == ["result.png"]
    assert read_record(save(tmp_path / "other.png", Image.new("RGB", SIZE))) is None


def test_an_interrupted_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "result.png"
    write_png(path, Image.new("RGB", SIZE), "old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("magicstyle.banks.atomic.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_png(path, Image.new("RGB", SIZE), "new")
    assert read_record(path) == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.png"]


def test_contact_sheet_has_a_column_per_label_and_a_row_per_pair():
    row = [Image.new("RGB", (32, 24), colour) for colour in ("red", "green", "blue")]
    one, two = (contact_sheet([row] * count, ["a", "b", "c"]) for count in (1, 2))
    assert one.width == two.width > 3 * 256 and two.height - one.height == 192 + 8
    assert one.getpixel((20, one.height - 20)) == (255, 0, 0)


def test_a_tiff_on_its_side_is_worked_on_upright_from_files_and_from_stores(tmp_path):
    from magicstyle.tests.picture_files.made import save_turned, upright

    free = Frame((64, 64), fixed=False)
    for orientation in range(1, 9):
        path = save_turned(tmp_path / f"{orientation}.tif", orientation, upright(300, 400))
        assert picture_size(path) == (300, 400)
        expected = np.asarray(upright(300, 400).resize((48, 64), Image.Resampling.LANCZOS), float)
        assert np.abs(np.asarray(read_picture(path, (48, 64)), float) - expected).mean() < 1
        stored = decode_picture(path.name, path.read_bytes(), free)
        assert stored.size == free.around((300, 400))


def test_what_of_a_folder_is_not_taken_is_listed_without_the_folder_of_results(tmp_path):
    for name in ("a.png", "b.avif", "c.jfif", "notes.txt", "raw.cr2", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("out", "team"):
        (tmp_path / name).mkdir()
    assert skipped_in(tmp_path, tmp_path / "out") == ["notes.txt", "raw.cr2", "team/"]
    assert [path.name for path in pictures_in(tmp_path)] == ["a.png", "b.avif", "c.jfif"]
    assert skipped_in(tmp_path / "a.png") == []
    assert str(Skipped("abcde")) == "5 skipped (a, b, c and 2 more)" and not Skipped()

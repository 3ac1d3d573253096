"""Every kind of picture file becomes the same upright RGB."""

import io
import sys

import numpy as np
import pytest
from magicstyle.core.errors import MagicStyleError
from magicstyle.picture_files import kinds
from magicstyle.picture_files.reading import decoding, opened, upright_rgb, upright_size
from magicstyle.tests.picture_files.made import (
    TURNED_BACK,
    bytes_of,
    display_p3,
    p3_of_srgb,
    save_turned,
    upright,
)
from PIL import Image, features

KINDS = (".png", ".jpg", ".webp", ".tif", ".avif", ".jfif", ".jp2", ".bmp", ".gif", ".tga", ".ppm", ".dds", ".qoi")
HEIC_START = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)


def pixels(path):
    with opened(path) as image:
        return np.asarray(upright_rgb(image), float)


def difference(path, image=None):
    return np.abs(pixels(path) - np.asarray(upright() if image is None else image, float)).mean()


@pytest.mark.parametrize("orientation", TURNED_BACK)
@pytest.mark.parametrize("name", ["a.tif", "lzw.tif", "a.png", "a.jpg", "a.webp", "a.avif"])
def test_a_picture_is_seen_upright_and_has_its_upright_size_whatever_its_orientation(tmp_path, name, orientation):
    if name.endswith(".avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    more = {"compression": "tiff_lzw"} if name.startswith("lzw") else {}
    path = save_turned(tmp_path / name, orientation, **more)
    with opened(path) as image:
        assert upright_size(image) == (60, 80)
    with decoding(name, io.BytesIO(path.read_bytes()), path.stat().st_size) as image:
        assert upright_size(image) == (60, 80)
    assert pixels(path).shape == (80, 60, 3) and difference(path) < 6


@pytest.mark.parametrize("suffix", KINDS)
def test_pillows_kinds_are_pictures(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"A{suffix.upper()}"
    kind = {".jfif": "JPEG", ".jp2": "JPEG2000"}.get(suffix)
    upright().save(path, kind)
    assert kinds.is_picture(path.name) and kinds.stem_of(path.name) == "A" and difference(path) < 12


@pytest.mark.parametrize("name", ["notes.txt", "raw.cr2", "a.eps", "film.mpg", "png", "jpg", "no ending", "a.png.part"])
def test_other_kinds_are_none(name):
    assert not kinds.is_picture(name) and kinds.stem_of(name) == name


def test_a_display_p3_photograph_keeps_its_colours(tmp_path):
    """Its numbers are nearer to grey than sRGB's: read without their profile they are dull."""
    colours = np.array([[200, 40, 40], [60, 160, 60], [40, 60, 190], [190, 150, 120], [128, 128, 128]])
    stored = Image.fromarray(p3_of_srgb(colours).round().astype(np.uint8)[None].repeat(4, 0))
    for name in ("p3.png", "p3.tif"):
        stored.save(tmp_path / name, icc_profile=display_p3())
        assert np.abs(pixels(tmp_path / name)[0] - colours).max() <= 2
    stored.save(tmp_path / "bare.png")
    assert np.abs(pixels(tmp_path / "bare.png")[0] - colours).max() > 10


def test_a_profile_serves_under_transparency_too_and_a_damaged_one_changes_nothing(tmp_path):
    colour = np.array([[190, 60, 50]])
    stored = Image.fromarray(p3_of_srgb(colour).round().astype(np.uint8)[None])
    clear = stored.convert("RGBA")
    clear.save(tmp_path / "clear.png", icc_profile=display_p3())
    assert np.abs(pixels(tmp_path / "clear.png")[0] - colour).max() <= 2
    clear.putalpha(0)
    clear.save(tmp_path / "white.png", icc_profile=display_p3())
    assert pixels(tmp_path / "white.png").min() == 255
    stored.save(tmp_path / "damaged.png", icc_profile=display_p3()[:100])
    assert np.array_equal(pixels(tmp_path / "damaged.png"), np.asarray(stored))


def test_an_srgb_profile_changes_no_pixel_and_one_of_another_space_is_left_alone(tmp_path):
    from PIL import ImageCms

    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (own, lab):
        upright().save(tmp_path / "a.png", icc_profile=profile)
        assert difference(tmp_path / "a.png") == 0


# --- HEIC ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_heif(monkeypatch):
    """A Python in which pillow-heif is not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "OPEN", {kind: how for kind, how in Image.OPEN.items() if kind != "HEIF"})
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
    kinds.suffixes.cache_clear()
    yield
    monkeypatch.undo()
    kinds.suffixes.cache_clear()


@pytest.mark.parametrize("name", ["iphone.heic", "renamed.jpg"])
def test_without_its_library_heic_is_refused_in_one_sentence_that_names_it(tmp_path, without_heif, name):
    (tmp_path / name).write_bytes(HEIC_START)
    with pytest.raises(MagicStyleError, match=rf"{name} cannot be read: HEIC is read with pillow-heif, .*pip install"):
        pixels(tmp_path / name)
    with (
        pytest.raises(MagicStyleError, match="pillow-heif"),
        decoding(name, io.BytesIO(HEIC_START), len(HEIC_START)),
    ):
        pass
    assert not kinds.is_picture("iphone.heic") and "pillow-heif" in kinds.unread("iphone.heic")


def test_with_its_library_heic_is_a_picture(tmp_path):
    pytest.importorskip("pillow_heif", reason="pip install pillow-heif")
    kinds.prepare()
    kinds.suffixes.cache_clear()
    for name in ("iphone.heic", "renamed.jpg"):
        upright(64, 96).save(tmp_path / name, "HEIF", quality=95)
        with opened(tmp_path / name) as image:
            assert upright_size(image) == (64, 96)
        assert difference(tmp_path / name, upright(64, 96)) < 6
    assert kinds.is_picture("IPHONE.HEIC") and kinds.stem_of("iphone.heic") == "iphone"
    turned = save_turned(tmp_path / "turned.heic", 6, upright(64, 96), format="HEIF")
    assert pixels(turned).shape == (96, 64, 3) and difference(turned, upright(64, 96)) < 8


def test_a_damaged_file_of_any_kind_is_one_sentence(tmp_path):
    whole = bytes_of(upright(400, 400), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MagicStyleError, match="cut.jpg is damaged"):
        pixels(tmp_path / "cut.jpg")

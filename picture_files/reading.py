"""A picture file of whatever kind as upright RGB in sRGB; what is wrong with it becomes one sentence."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from ..core.errors import MagicStyleError
from .kinds import HEIF_LIBRARY, is_heif, prepare, reads_heif

MAX_PIXELS = 100_000_000
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
RAW_WIDTH, RAW_HEIGHT = 256, 257  # TIFF's own tags
SRGB = re.compile(r"\bsRGB\b", re.IGNORECASE)
SPACES = {"RGB": "RGB", "CMYK": "CMYK"}  # Pillow's modes, and what a profile calls them


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open picture; whatever is wrong with it becomes one sentence."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MagicStyleError(f"{path} cannot be read ({error.strerror}): allow it, or copy the file.") from None
    with decoding(str(path), path, size) as image:
        yield image


@contextmanager
def decoding(name: str, source: Path | io.BytesIO, size: int) -> Iterator[Image.Image]:
    """An open picture of a name, from its file or its bytes."""
    prepare()
    try:
        if size == 0:
            raise MagicStyleError(f"{name} is empty (0 bytes): save or fetch it again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is refused is refused below, in words and with limits of our own
            with Image.open(source) as image:
                _check_pixels(name, image.size)
                yield image
    except MagicStyleError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name, "far more") from None
    except UnidentifiedImageError:
        raise _not_read(name, source) from None
    except PermissionError as error:
        raise MagicStyleError(f"{name} cannot be read ({error.strerror}): allow it, or copy the file.") from None
    except Exception as error:  # decoders raise whatever they meet in damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MagicStyleError(f"{name} is damaged ({reason}): save it again as PNG or JPEG.") from None


def _not_read(name: str, source: Path | io.BytesIO) -> MagicStyleError:
    start = source.getvalue()[:12] if isinstance(source, io.BytesIO) else _first_bytes(source)
    if is_heif(start) and not reads_heif():
        return MagicStyleError(f"{name} cannot be read: {HEIF_LIBRARY}, or save it as PNG or JPEG.")
    return MagicStyleError(f"{name} is not a picture that can be read: save it as PNG or JPEG.")


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an open picture as it is seen.

    Of a TIFF its own tags count: some versions of Pillow give its size turned already, while the orientation is still
    there.
    """
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in TURNED
    tags = getattr(image, "tag_v2", {})
    width, height = (tags[RAW_WIDTH], tags[RAW_HEIGHT]) if RAW_WIDTH in tags and RAW_HEIGHT in tags else image.size
    return (height, width) if turned else (width, height)


def upright_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """An open picture of any mode as RGB in sRGB, turned as its camera says; transparent parts show the ground."""
    image.load()  # which turns a TIFF, and takes its orientation away
    return _rgb(ImageOps.exif_transpose(image), ground)


def _rgb(image: Image.Image, ground: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        profile = image.info.get("icc_profile")
        clear = image.convert("RGBA")
        colours = _in_srgb(clear.convert("RGB"), profile)
        colours.putalpha(clear.getchannel("A"))
        return Image.alpha_composite(Image.new("RGBA", image.size, ground), colours).convert("RGB")
    plain = image if image.mode in SPACES else image.convert("RGB")
    return _in_srgb(plain, image.info.get("icc_profile")).convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An RGB or CMYK picture with the colours that its profile means, such as Display P3, in sRGB.

    A profile that is damaged, of another space or sRGB itself changes nothing, as in browsers.
    """
    if not profile:
        return image
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        fits = own.profile.xcolor_space.strip() == SPACES[image.mode]
        if not fits or SRGB.search(own.profile.profile_description or ""):
            return image
        changed = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if changed is None else changed


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating greyscale -> 8-bit greyscale."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    top = float(values.max(initial=0.0))
    if image.mode.startswith("I"):
        white = max(65535.0, top)
    else:
        white = 1.0 if top <= 1.0 else max(255.0, top)
    return Image.fromarray((values.clip(0.0) / white * 255.0).round().astype(np.uint8))


def _check_pixels(name: str, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width}x{height}, more")


def _too_large(name: str, amount: str) -> MagicStyleError:
    return MagicStyleError(f"{name} is {amount} than {MAX_PIXELS // 10**6} million pixels: make it smaller first.")

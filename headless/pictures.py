"""Pictures from files and back: whatever a camera or an editor writes becomes RGB at the working size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..core.errors import MagicStyleError
from .png import read_record
from .sizes import Frame, LongerSide, Size, check_shape

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
TOWARDS_FACES = (0.5, 0.0)  # where a crop keeps what it keeps: the middle of the width, the top of the height


def pictures_in(path: Path) -> list[Path]:
    """A picture file itself, or the picture files of a folder by name, without results of this program."""
    if path.is_file():
        return [path]
    if path.is_dir():
        return _folder(path)
    if path.exists():
        raise MagicStyleError(f"{path} is neither a picture file nor a folder: save the picture to a file first.")
    raise MagicStyleError(f"{path} does not exist: {missing_hint(path)}.")


def missing_hint(path: Path) -> str:
    """What to do about a file that is not there."""
    if str(path).lower().startswith(("http:", "https:", "s3:", "ftp:")):
        return "the command reads files, so download it first"
    return "the command reads files, not standard input" if str(path) == "-" else "check the name"


def picture_size(path: Path) -> Size:
    """Width and height of a picture as it is seen, upright; of a PNG Pillow reads the whole file to know."""
    with _opened(path) as image:
        return _upright_size(image)


def read_picture(path: Path, size: Size) -> Image.Image:
    """A picture as RGB, upright, cropped to the aspect of `size` and resized to it: in height towards the top."""
    with _opened(path) as image:
        return _fitted(image, size)


def decode_picture(name: str, data: bytes, frame: Frame | LongerSide) -> Image.Image:
    """A picture's bytes at its working size, as `read_picture` gives them."""
    with _decoding(name, io.BytesIO(data), len(data)) as image:
        shape = _upright_size(image)
        check_shape(name, shape)
        return _fitted(image, frame.around(shape))


def _upright_size(image: Image.Image) -> Size:
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return image.size[::-1] if turned else image.size


def _fitted(image: Image.Image, size: Size) -> Image.Image:
    upright = _rgb(ImageOps.exif_transpose(image))
    return ImageOps.fit(upright, size, Image.Resampling.LANCZOS, centering=TOWARDS_FACES)


def read_mask(path: Path, size: Size) -> Tensor:
    """A mask b h w in 0..1, upright, cropped and resized as a picture of its shape is; transparent parts are black."""
    with _opened(path) as image:
        upright = _rgb(ImageOps.exif_transpose(image), "black").convert("L")
        fitted = ImageOps.fit(upright, size, Image.Resampling.BILINEAR, centering=TOWARDS_FACES)
        return torch.from_numpy(np.array(fitted, dtype=np.float32))[None] / 255.0


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An open picture; whatever is wrong with it becomes one sentence."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MagicStyleError(f"{path} cannot be read ({error.strerror}): allow it, or copy the file.") from None
    with _decoding(str(path), path, size) as image:
        yield image


@contextmanager
def _decoding(name: str, source: Path | io.BytesIO, size: int) -> Iterator[Image.Image]:
    """An open picture of a name, from its file or its bytes."""
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
        raise MagicStyleError(f"{name} is not a picture that can be read: save it as PNG or JPEG.") from None
    except PermissionError as error:
        raise MagicStyleError(f"{name} cannot be read ({error.strerror}): allow it, or copy the file.") from None
    except Exception as error:  # decoders raise whatever they meet in damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MagicStyleError(f"{name} is damaged ({reason}): save it again as PNG or JPEG.") from None


def _folder(path: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES and entry.is_file())
    except OSError as error:
        raise MagicStyleError(f"the folder {path} cannot be read ({error.strerror}).") from None
    pictures = [entry for entry in entries if not entry.name.startswith(".")]
    found = [entry for entry in pictures if read_record(entry) is None]
    if not found:
        kind = "nothing but results of this program" if pictures else f"no pictures ({', '.join(sorted(SUFFIXES))})"
        raise MagicStyleError(f"the folder {path} holds {kind}: name another; folders inside it are not searched.")
    return found


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture -> 1 3 h w in -1..1."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    return (pixels / 127.5 - 1.0).permute(2, 0, 1).unsqueeze(0).contiguous()


def to_images(pictures: Tensor) -> list[Image.Image]:
    """b 3 h w in -1..1 -> RGB pictures."""
    pixels = ((pictures.float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(picture) for picture in pixels.cpu().contiguous().numpy()]


def _check_pixels(name: str, size: Size) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width}x{height}, more")


def _too_large(name: str, amount: str) -> MagicStyleError:
    return MagicStyleError(f"{name} is {amount} than {MAX_PIXELS // 10**6} million pixels: make it smaller first.")


def _rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """Any mode -> RGB; transparent parts show the ground."""
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating greyscale -> 8-bit greyscale."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    top = float(values.max(initial=0.0))
    if image.mode.startswith("I"):
        white = max(65535.0, top)
    else:
        white = 1.0 if top <= 1.0 else max(255.0, top)
    return Image.fromarray((values.clip(0.0) / white * 255.0).round().astype(np.uint8))

"""Pictures from files and back: whatever a camera or an editor writes becomes RGB at the working size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..core.atomic import write_whole
from ..core.errors import MagicStyleError

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
RECORD = "magicstyle"  # the PNG text under which a result says how it was made
Size = tuple[int, int]  # width, height


def pictures_in(path: Path) -> list[Path]:
    """A picture file itself, or the picture files of a folder by name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MagicStyleError(f"{path} does not exist: check the name.")
    found = sorted(entry for entry in path.iterdir() if entry.is_file() and entry.suffix.lower() in SUFFIXES)
    if not found:
        raise MagicStyleError(f"the folder {path} holds no pictures ({', '.join(sorted(SUFFIXES))}).")
    return found


def read_picture(path: Path, size: Size) -> Image.Image:
    """A picture as RGB, upright, its centre cut to the aspect of `size` and resized to it."""
    try:
        if path.stat().st_size == 0:
            raise MagicStyleError(f"{path.name} is empty (0 bytes): save or fetch it again.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, with a limit of our own
            with Image.open(path) as image:
                _check_pixels(path, image.size)
                return ImageOps.fit(_rgb(ImageOps.exif_transpose(image)), size, Image.Resampling.LANCZOS)
    except MagicStyleError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path, "far more") from None
    except UnidentifiedImageError:
        raise MagicStyleError(f"{path.name} is not a picture that can be read: save it as PNG or JPEG.") from None
    except Exception as error:  # decoders raise whatever they meet in damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MagicStyleError(f"{path.name} is damaged ({reason}): save it again as PNG or JPEG.") from None


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture -> 1 3 h w in -1..1."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    return (pixels / 127.5 - 1.0).permute(2, 0, 1).unsqueeze(0).contiguous()


def to_images(pictures: Tensor) -> list[Image.Image]:
    """b 3 h w in -1..1 -> RGB pictures."""
    pixels = ((pictures.float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(picture) for picture in pixels.cpu().contiguous().numpy()]


def write_png(path: Path, image: Image.Image, record: str) -> None:
    """Write all of a PNG or nothing; `record` says how it was made."""
    texts = PngInfo()
    texts.add_text(RECORD, record)
    write_whole(path, lambda file: image.save(file, format="PNG", pnginfo=texts))


def read_record(path: Path) -> str | None:
    """What `write_png` noted in a file; None where the file is not one of ours."""
    try:
        with Image.open(path) as image:
            texts: Mapping[str, str] = getattr(image, "text", {})
            return texts.get(RECORD)
    except Exception:  # not a picture at all
        return None


def _check_pixels(path: Path, size: Size) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width}x{height}, more")


def _too_large(path: Path, amount: str) -> MagicStyleError:
    return MagicStyleError(f"{path.name} is {amount} than {MAX_PIXELS // 10**6} million pixels: make it smaller first.")


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB; transparent parts become white."""
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
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

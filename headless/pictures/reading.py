"""Pictures from files and back: whatever a camera or an editor writes becomes RGB at the working size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...core.errors import MagicStyleError
from ...picture_files.kinds import USUAL, is_picture, unread
from ...picture_files.reading import decoding, opened, upright_rgb, upright_size
from .png import read_record
from .sizes import Frame, LongerSide, Size, check_shape

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
    with opened(path) as image:
        return upright_size(image)


def read_picture(path: Path, size: Size) -> Image.Image:
    """A picture as RGB, upright, cropped to the aspect of `size` and resized to it: in height towards the top."""
    with opened(path) as image:
        return fitted(image, size)


def decode_picture(name: str, data: bytes, frame: Frame | LongerSide) -> Image.Image:
    """A picture's bytes at its working size, as `read_picture` gives them."""
    with decoding(name, io.BytesIO(data), len(data)) as image:
        shape = upright_size(image)
        check_shape(name, shape)
        return fitted(image, frame.around(shape))


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """An upright picture as RGB, cropped to the aspect of a size and resized to it: in height towards the top."""
    upright = upright_rgb(image)
    return ImageOps.fit(upright, size, Image.Resampling.LANCZOS, centering=TOWARDS_FACES)


def read_mask(path: Path, size: Size) -> Tensor:
    """A mask b h w in 0..1, upright, cropped and resized as a picture of its shape is; transparent parts are black."""
    with opened(path) as image:
        upright = upright_rgb(image, "black").convert("L")
        fitted = ImageOps.fit(upright, size, Image.Resampling.BILINEAR, centering=TOWARDS_FACES)
        return torch.from_numpy(np.array(fitted, dtype=np.float32))[None] / 255.0


def _folder(path: Path) -> list[Path]:
    pictures = [entry for entry in _visible(path) if is_picture(entry.name) and entry.is_file()]
    found = [entry for entry in pictures if read_record(entry) is None]
    if not found:
        raise MagicStyleError(f"the folder {path} holds {_nothing(path, pictures)}.")
    return found


def _nothing(path: Path, results: list[Path]) -> str:
    """What a folder without portraits holds, and what to do about it."""
    if results:
        return "nothing but results of this program: name another; folders inside it are not searched"
    left = skipped_in(path)
    one = f"; {unread(left[0])}" if left and not left[0].endswith("/") else ""
    return f"no pictures ({USUAL}): name another; folders inside it are not searched{one}"


def skipped_in(path: Path, *known: Path) -> list[str]:
    """What of a folder is not taken, by name: files of other kinds, and folders but for the known ones."""
    if not path.is_dir():
        return []
    ours = {folder.resolve() for folder in known if folder.is_dir()}
    found = []
    for entry in _visible(path):
        if entry.is_dir():
            found += [f"{entry.name}/"] if entry.resolve() not in ours else []
        elif not is_picture(entry.name):
            found.append(entry.name)
    return found


def _visible(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise MagicStyleError(f"the folder {path} cannot be read ({error.strerror}).") from None


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB picture -> 1 3 h w in -1..1."""
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    return (pixels / 127.5 - 1.0).permute(2, 0, 1).unsqueeze(0).contiguous()


def to_images(pictures: Tensor) -> list[Image.Image]:
    """b 3 h w in -1..1 -> RGB pictures."""
    pixels = ((pictures.float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [Image.fromarray(picture) for picture in pixels.cpu().contiguous().numpy()]

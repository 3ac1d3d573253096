"""What a user brings: pictures, a checkpoint, the metrics' weight files. A fault is one sentence, before any work."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.headless.pictures.reading import pictures_in
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .networks import Shapes, Weights, alexnet_shapes, inception_shapes, lpips_shapes, vgg19_shapes

CONTENTS, STYLES = 20, 40
# SHA-256 of all pixels as RGB, picture after picture by name, of StyleID's data/cnt and data/sty (d4ea655)
PUBLISHED_PIXELS = {
    "cnt": "3ddff05fc1426d36bffdecdcffe97b35806f7cef1c37f102ef3392b510e11509",
    "sty": "2987df92a9a599f3395747b8437d55d80c1c485b306b2ea06653dd9dadda8573",
}
SD14_SHA256 = "fe4efff1e174c627256e44ec2991ba279b3816e364b49f9be2abc0b3ff3f8556"
SOURCE = "source_sha256"  # in the header of a converted checkpoint: the hash of the file that it was made from
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")  # torchvision names its files by their SHA-256


class WeightFile(NamedTuple):
    """A metric's weight file: how to know it by name, where it comes from, and what must be in it."""

    names: tuple[str, ...]  # patterns without the ending
    origin: str
    shapes: Callable[[], Shapes]
    sha256: str | None = None  # of the .pth file, where a source was found for it


WEIGHT_FILES = {
    "art_inception": WeightFile(
        ("art_inception*",), "art_inception.pth from huggingface.co/matthias-wright/art_inception", inception_shapes
    ),
    "alexnet": WeightFile(("alexnet*",), "alexnet-owt-7be5be79.pth from download.pytorch.org/models", alexnet_shapes),
    "lpips_alex": WeightFile(
        ("alex", "lpips_alex*"),
        "weights/v0.1/alex.pth from the package lpips 0.1.4",
        lpips_shapes,
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "vgg19": WeightFile(("vgg19*",), "vgg19-dcbb9e9d.pth from download.pytorch.org/models", vgg19_shapes),
}


class Data(NamedTuple):
    """The pictures of a comparison, by name."""

    contents: list[Path]
    styles: list[Path]
    published: bool  # whether they are StyleID's own

    @property
    def title(self) -> str:
        """The set in a few words."""
        whose = "StyleID's own set" if self.published else "another set than StyleID's"
        return f"{len(self.contents)} contents x {len(self.styles)} styles, {whose}"


class Checkpoint(NamedTuple):
    """A model file, or the demo model, and what is known of it."""

    path: Path | None
    sha256: str
    published: bool  # whether it was made from sd-v1-4.ckpt

    @property
    def title(self) -> str:
        """The file in a few words."""
        name = "the demo model" if self.path is None else self.path.name
        return f"{name} ({self.sha256[:16]}{', made from sd-v1-4.ckpt' if self.published else ''})"


class MetricWeights(NamedTuple):
    """The networks of the metrics by kind, and the beginnings of their files' hashes."""

    tensors: dict[str, Weights]
    hashes: dict[str, str]


def read_data(folder: Path, size: int, *, any_data: bool) -> Data:
    """The folder with cnt/ and sty/, as StyleID's repository has it."""
    contents, styles = (_pictures(folder / part) for part in ("cnt", "sty"))
    for paths in (contents, styles):
        _check_sizes(paths, size)
    published = all(
        pixel_hash(tuple(paths)) == PUBLISHED_PIXELS[part] for part, paths in (("cnt", contents), ("sty", styles))
    )
    if not published and not any_data:
        raise MagicStyleError(
            f"{folder} is not StyleID's data folder (it holds {len(contents)} contents and {len(styles)} styles; "
            f"{CONTENTS} and {STYLES} pictures of known pixels are expected): take data/ from its repository, "
            "or give --any-data to compare methods on pictures of your own."
        )
    if min(len(contents), len(styles)) < 2:
        raise MagicStyleError(f"{folder} needs two contents and two styles at least: FID compares how sets vary.")
    return Data(contents, styles, published)


def _pictures(folder: Path) -> list[Path]:
    found = pictures_in(folder)
    if len({path.stem for path in found}) < len(found):
        raise MagicStyleError(f"{folder} holds two pictures of one name: results are named after them, rename one.")
    return found


def _check_sizes(paths: Sequence[Path], size: int) -> None:
    for path in paths:
        try:
            with Image.open(path) as image:
                found = image.size
        except (UnidentifiedImageError, OSError) as error:
            raise MagicStyleError(f"{path} cannot be read as a picture ({error}): fetch it again.") from None
        if found != (size, size):
            raise MagicStyleError(
                f"{path} is {found[0]}x{found[1]}: cut it to {size}x{size} first, resizing would change metrics."
            )


@cache
def pixel_hash(paths: tuple[Path, ...]) -> str:
    """SHA-256 of all pixels as RGB, whatever the files' compression."""
    found = hashlib.sha256()
    for path in paths:
        with Image.open(path) as image:
            found.update(image.convert("RGB").tobytes())
    return found.hexdigest()


def read_checkpoint(name: str) -> Checkpoint:
    """The file behind --checkpoint; `demo` is the demo model."""
    from magicstyle.model_files.demo import DEMO_MODEL

    if name == "demo":
        return Checkpoint(None, file_hash(DEMO_MODEL), False)
    path = Path(name)
    if not path.is_file():
        raise MagicStyleError(f"--checkpoint {path} does not exist: check the name.")
    if path.suffix.lower() != ".safetensors":
        raise MagicStyleError(
            f"--checkpoint {path.name} is not a .safetensors file: make one of sd-v1-4.ckpt with "
            "python -m benchmarks.published.convert."
        )
    try:
        with safe_open(path, "pt") as file:
            source = (file.metadata() or {}).get(SOURCE, "")
    except (SafetensorError, OSError) as error:
        raise MagicStyleError(f"--checkpoint {path.name} cannot be read ({error}): fetch the file again.") from None
    return Checkpoint(path, file_hash(path), source == SD14_SHA256)


def read_metric_weights(folder: Path, device: torch.device | str = "cpu") -> MetricWeights:
    """The four weight files of the metrics, their names, hashes and shapes checked."""
    tensors, hashes = {}, {}
    for kind, wanted in WEIGHT_FILES.items():
        path = _find(folder, wanted)
        hashes[kind] = _check_hash(path, wanted)
        read = _read_tensors(path)
        for name, shape in wanted.shapes().items():
            if name not in read or tuple(read[name].shape) != shape:
                raise MagicStyleError(
                    f"{path.name} is not {wanted.origin} ({name} of shape {shape} is missing): fetch that file."
                )
        tensors[kind] = {name: read[name].float().to(device) for name in wanted.shapes()}
    return MetricWeights(tensors, hashes)


def _find(folder: Path, wanted: WeightFile) -> Path:
    for pattern in wanted.names:
        for path in sorted(folder.glob(f"{pattern}.*")):
            if path.suffix in (".safetensors", ".pth"):
                return path
    raise MagicStyleError(f"{folder} has no {wanted.names[0]}.pth or .safetensors: fetch {wanted.origin}.")


def _check_hash(path: Path, wanted: WeightFile) -> str:
    found = file_hash(path)
    in_name = HASH_IN_NAME.search(path.name)
    known = wanted.sha256 if path.suffix == ".pth" else None
    for expected in (in_name[1] if in_name else None, known):
        if expected is not None and not found.startswith(expected):
            raise MagicStyleError(
                f"{path.name} has the SHA-256 {found[:8]}.., not {expected[:8]}..: fetch {wanted.origin} again."
            )
    return found[:16]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; a .pth file may hold nothing else, so that no program in it can run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # the unpickler raises whatever it meets
        reason = " ".join(str(error).split())[:150]
        raise MagicStyleError(f"{path.name} cannot be read as a file of weights ({reason}): fetch it again.") from None


@cache
def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: object) -> str:
    found = hashlib.sha256()
    while block := file.read(2**20):  # type: ignore[attr-defined]
        found.update(block)
    return found.hexdigest()

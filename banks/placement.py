"""Where features are kept: main memory, the model's device, or mapped safetensors files that go with the bank."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..core.errors import MagicStyleError
from .tensor_file import header_of

PRECISIONS = {
    "auto": torch.float16,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp8": torch.float8_e4m3fn,
}
PLACES = ("auto", "cpu", "gpu", "disk")

# makes room for a stack of features: (name, shape, dtype) -> uninitialised tensor
Allocate = Callable[[str, tuple[int, ...], torch.dtype], Tensor]


def latent_precision(dtype: torch.dtype) -> torch.dtype:
    """Latents are small and must stay exact: eight bits serve features alone."""
    return torch.float16 if dtype.itemsize == 1 else dtype


def narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor, of any shape, in a smaller precision, or as it is where that is too small for its values.

    Noise of a model with zero terminal SNR has 4500 standard deviations; half precision ends at 65504.
    """
    small = tensor.to(dtype)
    return small if bool(torch.isfinite(small).all()) else tensor


def in_memory(device: torch.device | str = "cpu") -> Allocate:
    """Room in main memory or on a device."""

    def allocate(_: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Room of any shape."""
        return torch.empty(shape, dtype=dtype, device=device)

    return allocate


def page_locked(_: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room of any shape in main memory from which a GPU copies while it computes, or ordinary memory."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(shape, dtype=dtype)


def settle_place(place: str, device: torch.device, estimate: int, free_on_device: int) -> str:
    """What `auto` means: a CUDA device's own memory while features take an eighth of what is free there at most.

    Two pictures come, and sampling, ControlNets and the autoencoder want the rest.
    """
    if place != "auto":
        return place
    return "gpu" if device.type == "cuda" and 8 * estimate <= free_on_device else "cpu"


class OnDisk:
    """Room in one safetensors file per stack, under a folder of its own that is removed with the last reference."""

    def __init__(self, parent: Path) -> None:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(dir=parent, prefix="magicstyle_", ignore_cleanup_errors=True)
        except OSError as error:
            raise MagicStyleError(
                f"storage_device disk: {parent} cannot be written to ({error.strerror}): choose storage latents, "
                "or another storage_device."
            ) from error
        self.path = Path(self._folder.name)

    def __call__(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of any shape mapped to the data of a new safetensors file; writing to it writes the file."""
        count = math.prod(shape) * dtype.itemsize
        header = header_of({name: (shape, dtype)})
        path = self.path / f"{name}.safetensors"
        try:
            with path.open("wb") as file:
                file.write(header)
                _reserve(file, len(header) + count)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise MagicStyleError(
                f"storage_device disk: no room for {count} bytes of features in {self.path.parent}: {error.strerror}; "
                "choose storage latents, or free some disk space."
            ) from error
        mapped = torch.from_file(str(path), shared=True, size=len(header) + count, dtype=torch.uint8)
        return mapped[len(header) :].view(dtype).view(shape)


def _reserve(file: BinaryIO, size: int) -> None:
    """Make a file `size` bytes long, with room on the disk for all of them.

    A file that is merely made long has holes: the first write through a map to a hole on a full disk ends the process.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    if shutil.disk_usage(Path(file.name).parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    file.truncate(size)

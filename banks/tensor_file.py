"""Writing safetensors files: the header, then the tensors one by one, without a second copy of all in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.bool: "BOOL",
}
_ALIGNMENT = 64


def kind_name(dtype: torch.dtype) -> str:
    """A type as safetensors calls it."""
    return NAMES.get(dtype, str(dtype))


def header_of(
    kinds: Mapping[str, tuple[tuple[int, ...], torch.dtype]], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The beginning of a file whose tensors, each given by shape and type, follow in the order of `kinds`."""
    entries: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, (shape, dtype) in kinds.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": kind_name(dtype), "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    # the format allows trailing spaces, which align the data that follows
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def write_tensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A whole file; wide types first, so that every tensor lies at a multiple of its type's size."""
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    file.write(header_of({name: (tuple(tensor.shape), tensor.dtype) for name, tensor in ordered.items()}, metadata))
    for tensor in ordered.values():
        file.write(raw_bytes(tensor))


def raw_bytes(tensor: Tensor) -> memoryview:
    """What a tensor of any shape is in memory and in a file."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data

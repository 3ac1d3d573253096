"""Feature banks as files: safetensors with a versioned header, never pickle.

The header is one JSON text under the metadata key `magicstyle`; tensors are named by the picture's place and its own
names: `0.output.6.0.q` for features, `1.latents` for a trajectory. A picture that serves twice is stored once. The
header holds a checksum of every tensor, the key `magicstyle_checksum` one of the header.
"""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.errors import MagicStyleError, one_line
from ..core.noise_pair import NoisePair
from ..core.regions import region_mask, style_mask
from .atomic import write_whole
from .bank import FeatureBank, StyleEntry
from .bank_header import MASKS, VERSION, BankHeader, PictureFacts, StyleFacts, check_header, describe, parse
from .image_features import ImageFeatures
from .inventory import BadHeaderError, TensorKind
from .representations import REPRESENTATIONS
from .tensor_file import kind_name, raw_bytes, write_tensors

KEY, CHECKSUM = "magicstyle", "magicstyle_checksum"
MAX_HEADER = 16 * 2**20  # bytes, tensors' names included
VALUES_AT_ONCE = 2**22


def save_bank(bank: FeatureBank, path: Path, *, content: bool = True) -> None:
    """Write a bank, or its styles alone, under its final name only once it is whole."""
    kept = range(len(bank.pictures)) if content else sorted(set(bank.numbers))
    content = content and bank.content is not None
    places = {number: place for place, number in enumerate(kept)}
    pictures = [bank.pictures[number] for number in kept]
    tensors = {f"{place}.{name}": t for place, picture in enumerate(pictures) for name, t in picture.tensors.items()}
    for number, style in enumerate(bank.styles):
        masks = {"region": style.region, "style_mask": style.style_mask}
        tensors |= {f"style{number}.{name}": _flat(mask) for name, mask in masks.items() if mask is not None}
    entries = zip(bank.styles, bank.numbers, strict=True)
    header = {
        "version": VERSION,
        "content": 0 if content else None,
        "styles": [{"picture": places[number], "weight": style.weight} for style, number in entries],
        "pictures": [describe(PictureFacts(picture.representation, picture.header)) for picture in pictures],
    }
    _write_whole(header, tensors, path)


def _flat(mask: Tensor) -> Tensor:
    """A mask as files hold it, n h w: one for each frame of a film is 1 t h w in memory."""
    return mask.squeeze(0) if mask.ndim == 4 else mask


def _write_whole(header: dict[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        header = with_checksums(header, tensors)
        check_header(header, {name: _kind(tensor) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            _check_values(name, tensor)
        write_whole(path, lambda file: write_tensors(file, tensors, sealed(header)))
    except BadHeaderError as error:
        raise MagicStyleError(
            f"The bank could not be saved, since no file can hold it (bad {error}): invert its pictures again."
        ) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MagicStyleError(f"The bank could not be saved as {path}: {reason}. {_advice(error)}") from error


def with_checksums(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A header that holds a checksum of every tensor, of any shape."""
    return {**header, "checksums": {name: _checksum(tensor) for name, tensor in tensors.items()}}


def sealed(header: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a file: its header as a text, and the checksum of that."""
    text = json.dumps(header)
    return {KEY: text, CHECKSUM: _text_checksum(text)}


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some disk space."
    return "Choose another folder, or one that you may write to."


def load_bank(path: Path, content: ImageFeatures | None = None) -> FeatureBank:
    """Read a bank; `content` takes the place of the content in the file, which may have none."""
    header, pictures, masks = _read_or_say(path)
    if content is None and header.content is not None:
        content = pictures[header.content]
    painted = None if content is None else content.header.batch
    entries = zip(header.styles, masks, strict=True)
    frames = 1 if content is None else content.header.size.frames
    return FeatureBank(content, tuple(_entry(style, pictures, own, painted, frames) for style, own in entries))


def load_styles(path: Path) -> list[ImageFeatures]:
    """The styles of a bank's file, without a content beside them."""
    header, pictures, _ = _read_or_say(path)
    return [pictures[style.picture] for style in header.styles]


def _read_or_say(path: Path) -> tuple[BankHeader, list[ImageFeatures], list[dict[str, Tensor]]]:
    """All of a file, or one sentence about what is wrong with it."""
    name = one_line(path.name)
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise MagicStyleError(f"{name} is gone: refresh the node and choose another bank.") from error
    except OSError as error:
        raise MagicStyleError(f"{name} cannot be read ({error.strerror}): choose another bank.") from error
    except (BadHeaderError, SafetensorError) as error:
        reason = f"bad {error}" if isinstance(error, BadHeaderError) else one_line(error)
        raise MagicStyleError(f"{name} is damaged or no MagicStyle bank ({reason}): save the bank again.") from error


def _entry(
    style: StyleFacts, pictures: list[ImageFeatures], masks: Mapping[str, Tensor], painted: int | None, frames: int
) -> StyleEntry:
    region, mask = (masks.get(name) for name in MASKS)
    region = None if region is None else region_mask(region, painted, frames)
    mask = None if mask is None else style_mask(mask, painted)
    return StyleEntry(pictures[style.picture], style.weight, region, mask)


def _read(path: Path) -> tuple[BankHeader, list[ImageFeatures], list[dict[str, Tensor]]]:
    """All of a file, checked: its header, its pictures, the masks of each of its styles."""
    _check_beginning(path)
    with safe_open(str(path), "pt") as file:
        inventory = _inventory(file)
        header = check_header(_facts(file.metadata() or {}, path), inventory)
        tensors = {name: _tensor(file, name, header) for name in inventory}
    pictures = [
        _picture(facts, {key.removeprefix(f"{place}."): t for key, t in tensors.items() if key.startswith(f"{place}.")})
        for place, facts in enumerate(header.pictures)
    ]
    masks = [
        {mask: tensors[key] for mask in MASKS if (key := f"style{number}.{mask}") in tensors}
        for number in range(len(header.styles))
    ]
    return header, pictures, masks


def _check_beginning(path: Path) -> None:
    """The length of the file's header, before all of it is read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise BadHeaderError("length of the header")


def _inventory(file: Any) -> dict[str, TensorKind]:
    views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    return {name: TensorKind(view.get_dtype(), tuple(view.get_shape())) for name, view in views.items()}


def _facts(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    if KEY not in metadata:
        raise MagicStyleError(
            f"{one_line(path.name)} is no MagicStyle bank: choose a file that Save Feature Bank wrote."
        )
    if metadata.get(CHECKSUM) != _text_checksum(metadata[KEY]):
        raise BadHeaderError("checksum of the header")
    facts = parse(metadata[KEY])
    version = facts.get("version")
    if version != VERSION or type(version) is not int:
        raise MagicStyleError(
            f"{one_line(path.name)} has version {one_line(version)} of the bank format and this pack reads version "
            f"{VERSION}: update the pack, or save the bank again."
        )
    return facts


def _tensor(file: Any, name: str, header: BankHeader) -> Tensor:
    """One tensor of any shape, checked."""
    tensor = file.get_tensor(name)
    if header.checksums[name] != _checksum(tensor):
        raise BadHeaderError(f"checksum of {name}")
    _check_values(name, tensor)
    return tensor


def _check_values(name: str, tensor: Tensor) -> None:
    """Finite values, of any shape; in a mask, from 0 to 1."""
    mask = name.endswith(MASKS)
    for part in tensor.flatten().split(VALUES_AT_ONCE):
        # the largest float8 has no isfinite
        values = part.float() if part.element_size() == 1 else part
        if not bool(torch.isfinite(values).all()):
            raise BadHeaderError(f"values in {name}: NaN or infinite")
        if mask and (bool((values < 0.0).any()) or bool((values > 1.0).any())):
            raise BadHeaderError(f"values in {name}: not from 0 to 1")


def _kind(tensor: Tensor) -> TensorKind:
    """What the header of a file says of a tensor of any shape."""
    return TensorKind(kind_name(tensor.dtype), tuple(tensor.shape))


def _checksum(tensor: Tensor) -> int:
    """Of the type, the shape and the data, of any shape."""
    return zlib.crc32(raw_bytes(tensor), zlib.crc32(repr(_kind(tensor)).encode()))


def _text_checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _picture(facts: PictureFacts, tensors: Mapping[str, Tensor]) -> ImageFeatures:
    return REPRESENTATIONS[facts.representation].of_tensors(facts.header, tensors, NoisePair.of_tensors(tensors))

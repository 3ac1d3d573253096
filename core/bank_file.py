"""Feature banks as files: safetensors with a versioned header, never pickle.

The header is one JSON text under the metadata key `magicstyle`; tensors are named by the picture's place and its own
names: `0.output.6.0.q` for features, `1.latents` for a trajectory. A picture that serves twice is stored once.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .atomic import write_whole
from .bank import FeatureBank, StyleEntry
from .errors import MagicStyleError
from .features import ROLES, FeatureHeader, ImageFeatures, ModelId
from .layers import LayerId
from .noise_pair import NoisePair
from .stored_features import StoredFeatures
from .tensor_file import write_tensors
from .trajectory import Trajectory

VERSION = 1
KEY = "magicstyle"
# far beyond any real bank, so that a hostile header cannot ask for the impossible
MOST_STEPS, MOST_LAYERS, MOST_STYLES = 10_000, 1_000, 1_000


def save_bank(bank: FeatureBank, path: Path, *, content: bool = True) -> None:
    """Write a bank, or its styles alone, under its final name only once it is whole."""
    pictures = {id(features): features for features in bank}
    if not content:
        pictures = {id(style.features): style.features for style in bank.styles}
    places = {identity: place for place, identity in enumerate(pictures)}
    tensors = {
        f"{places[identity]}.{name}": tensor
        for identity, features in pictures.items()
        for name, tensor in features.tensors.items()
    }
    for number, style in enumerate(bank.styles):
        masks = {"region": style.region, "style_mask": style.style_mask}
        tensors |= {f"style{number}.{name}": mask for name, mask in masks.items() if mask is not None}
    header = {
        "version": VERSION,
        "content": places[id(bank.content)] if content else None,
        "styles": [{"picture": places[id(style.features)], "weight": style.weight} for style in bank.styles],
        "pictures": [_describe(features) for features in pictures.values()],
    }
    _write_whole(tensors, {KEY: json.dumps(header)}, path)


def _describe(features: ImageFeatures) -> dict[str, Any]:
    header = features.header
    return {
        "representation": features.representation,
        "model": list(header.model),
        "method": header.method,
        "sigmas": list(header.sigmas),
        "latent_shape": list(header.latent_shape),
        "grids": {str(layer): list(grid) for layer, grid in header.grids.items()},
        "heads": {str(layer): header.heads[layer] for layer in header.grids if layer in header.heads},
    }


def _write_whole(tensors: Mapping[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    try:
        write_whole(path, lambda file: write_tensors(file, tensors, metadata))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MagicStyleError(f"The bank could not be saved as {path}: {reason}. {_advice(error)}") from error


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some disk space."
    return "Choose another folder, or one that you may write to."


def load_bank(path: Path, content: ImageFeatures | None = None) -> FeatureBank:
    """Read a bank; `content` takes the place of the content in the file, which may have none."""
    try:
        with safe_open(str(path), "pt") as file:
            header = _header(file.metadata() or {}, path)
            names = set(file.keys())
            pictures = [_picture(file, names, place, facts) for place, facts in enumerate(header["pictures"])]
            styles = [_style(file, names, number, facts, pictures) for number, facts in enumerate(header["styles"])]
            stored = pictures[header["content"]] if header["content"] is not None else None
    except MagicStyleError:
        raise
    except FileNotFoundError as error:
        raise MagicStyleError(f"{path.name} is gone: refresh the node and choose another bank.") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise MagicStyleError(
            f"{path.name} is damaged or no MagicStyle bank ({_first_line(error)}): save the bank again."
        ) from error
    if content is None and stored is None:
        raise MagicStyleError(f"{path.name} holds styles alone: connect the features of a content picture to content.")
    return FeatureBank(content or stored, tuple(styles))


def _header(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    if KEY not in metadata:
        raise MagicStyleError(f"{path.name} is no MagicStyle bank: choose a file that Save Feature Bank wrote.")
    header = json.loads(metadata[KEY])
    if header["version"] != VERSION:
        raise MagicStyleError(
            f"{path.name} has version {header['version']} of the bank format and this pack reads version {VERSION}: "
            "update the pack, or save the bank again."
        )
    _require(1 <= len(header["pictures"]) <= MOST_STYLES + 1, "number of pictures")
    _require(1 <= len(header["styles"]) <= MOST_STYLES, "number of styles")
    return header


def _picture(file: Any, names: set[str], place: int, facts: Mapping[str, Any]) -> ImageFeatures:
    header = _feature_header(facts)
    if facts["representation"] == Trajectory.representation:
        return _trajectory(file, names, place, header)
    _require(facts["representation"] == StoredFeatures.representation, "representation")
    return _stored_features(file, names, place, header)


def _feature_header(facts: Mapping[str, Any]) -> FeatureHeader:
    sigmas = tuple(float(sigma) for sigma in facts["sigmas"])
    shape = tuple(int(size) for size in facts["latent_shape"])
    grids = {LayerId.parse(name): (int(grid[0]), int(grid[1])) for name, grid in facts["grids"].items()}
    _require(1 <= len(sigmas) <= MOST_STEPS and all(math.isfinite(s) and s > 0 for s in sigmas), "sigmas")
    _require(all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False)), "sigmas")
    _require(len(shape) == 4 and min(shape) > 0, "latent shape")
    _require(1 <= len(grids) <= MOST_LAYERS and all(min(grid) > 0 for grid in grids.values()), "grids")
    model, digest = (str(part) for part in facts["model"])
    heads = {LayerId.parse(name): int(count) for name, count in facts["heads"].items()}
    _require(all(1 <= count <= MOST_LAYERS for count in heads.values()), "heads")
    return FeatureHeader(ModelId(model, digest), str(facts["method"]), sigmas, shape, grids, heads)


def _trajectory(file: Any, names: set[str], place: int, header: FeatureHeader) -> Trajectory:
    latents = _tensor(file, f"{place}.latents")
    _require(tuple(latents.shape) == (len(header.sigmas), *header.latent_shape), "latents")
    prefix = f"{place}.inputs."
    inputs = {name.removeprefix(prefix): _tensor(file, name) for name in sorted(names) if name.startswith(prefix)}
    return Trajectory(header, latents, inputs, _ends(file, names, place, header))


def _ends(file: Any, names: set[str], place: int, header: FeatureHeader) -> NoisePair | None:
    """Noise and companion, b c h w each; files of before either existed lack them."""
    noise, companion = (_end(file, names, f"{place}.{name}", header) for name in ("noise", "companion"))
    _require(companion is None or noise is not None, "companion")
    return None if noise is None else NoisePair(noise, companion)


def _end(file: Any, names: set[str], name: str, header: FeatureHeader) -> Tensor | None:
    if name not in names:
        return None
    latent = _tensor(file, name)
    _require(tuple(latent.shape) == header.latent_shape, name)
    return latent


def _stored_features(file: Any, names: set[str], place: int, header: FeatureHeader) -> StoredFeatures:
    stacks = {}
    for layer, (h, w) in header.grids.items():
        for role in ROLES:
            name = f"{place}.{layer}.{role}"
            if name in names:
                stack = stacks[layer, role] = _tensor(file, name)
                expected = (len(header.sigmas), header.batch, h * w)
                _require(stack.ndim == 4 and tuple(stack.shape[:3]) == expected, name)
    _require({layer for layer, _ in stacks} == set(header.grids), "layers")
    return StoredFeatures(header, stacks, _ends(file, names, place, header))


def _style(
    file: Any, names: set[str], number: int, facts: Mapping[str, Any], pictures: list[ImageFeatures]
) -> StyleEntry:
    weight, place = float(facts["weight"]), int(facts["picture"])
    _require(math.isfinite(weight) and weight >= 0.0, "weight")
    _require(0 <= place < len(pictures), "style's picture")
    masks = {}
    for name in ("region", "style_mask"):
        key = f"style{number}.{name}"
        masks[name] = _tensor(file, key) if key in names else None
        _require(masks[name] is None or masks[name].ndim == 3, key)
    return StyleEntry(pictures[place], weight, **masks)


def _tensor(file: Any, name: str) -> Tensor:
    tensor = file.get_tensor(name)
    _require(tensor.is_floating_point(), f"type of {name}")
    # the largest float8 has no isfinite
    finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)
    _require(bool(finite.all()), f"NaN or infinite values in {name}")
    return tensor


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"bad {what}")


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"

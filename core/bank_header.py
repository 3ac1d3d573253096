"""The schema of bank files: what a header may say, held against itself and against the tensors beside it.

Nothing of a file is used before all of its header has passed, and the tensors are known here by type and shape alone:
what a header claims is compared with them, never allocated. The same schema reads what is about to be saved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .features import RESNET, ROLES, FeatureHeader, ModelId
from .layers import LayerId
from .ranges import MOST_WEIGHT
from .regions import Grid
from .stored_features import StoredFeatures
from .trajectory import INPUT_RANKS, Trajectory

VERSION = 1
# far beyond any real bank, so that a hostile header cannot ask for the impossible
MOST_STEPS, MOST_LAYERS, MOST_STYLES = 10_000, 1_000, 1_000
MOST_BATCH, MOST_CHANNELS, MOST_SIDE, MOST_WIDTH = 4_096, 4_096, 65_536, 65_536
LARGEST = 1e9  # a noise level
WIDE = ("F32", "F16", "BF16")  # for what must stay exact
ANY = (*WIDE, "F8_E4M3")
MASKS = ("region", "style_mask")
_NAME = re.compile(r"[ -~]{1,200}")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_METHOD = re.compile(r"[a-z][a-z_0-9]{0,39}")
_LAYER = re.compile(r"[a-z_]{1,40}\.(?:0|[1-9]\d{0,3})\.(?:0|[1-9]\d{0,3})")  # blocks are the architecture's to name


class BadHeaderError(ValueError):
    """What of a bank file cannot be, in a few words."""


class TensorKind(NamedTuple):
    """What a file says of a tensor: its type in safetensors' words, and its shape."""

    dtype: str
    shape: tuple[int, ...]


Inventory = Mapping[str, TensorKind]


class PictureFacts(NamedTuple):
    """One picture of a bank file."""

    representation: str
    header: FeatureHeader


class StyleFacts(NamedTuple):
    """One style of a bank file: the number of its picture, and its weight."""

    picture: int
    weight: float


@dataclass(frozen=True)
class BankHeader:
    """A bank file's header that has passed."""

    pictures: tuple[PictureFacts, ...]
    styles: tuple[StyleFacts, ...]
    content: int | None
    checksums: Mapping[str, int]  # of each tensor; none at all in older files


def parse(text: str) -> dict[str, Any]:
    """The JSON of a header: an object without NaN and Infinity, nested as deep as headers are."""
    try:
        facts = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadHeaderError("text of the header") from error
    _require(type(facts) is dict, "header")
    return facts


def check_header(facts: Mapping[str, Any], inventory: Inventory) -> BankHeader:
    """The header that these facts are, if they agree with each other and with all tensors of the file."""
    listed = _list(facts.get("pictures"), 1, MOST_STYLES + 1, "number of pictures")
    pictures = tuple(_picture(picture) for picture in listed)
    listed = _list(facts.get("styles"), 0, MOST_STYLES, "number of styles")
    styles = tuple(_style(style, len(pictures)) for style in listed)
    content = facts.get("content", False)
    if content is not None:
        content = _integer(content, 0, len(pictures) - 1, "number of the content's picture")
    _require(content is not None or bool(styles), "number of styles")
    _require({style.picture for style in styles} | {content or 0} == set(range(len(pictures))), "number of pictures")
    seen = _check_pictures(pictures, inventory) | _check_masks(styles, pictures, content, inventory)
    unknown = sorted(set(inventory) - seen)
    _require(not unknown, f"tensor {unknown[0][:60]!r}" if unknown else "")
    return BankHeader(pictures, styles, content, _checksums(facts.get("checksums"), inventory))


def describe(picture: PictureFacts) -> dict[str, Any]:
    """A picture as the header of a file says it: the inverse of how it is read."""
    header = picture.header
    return {
        "representation": picture.representation,
        "model": list(header.model),
        "method": header.method,
        "sigmas": list(header.sigmas),
        "latent_shape": list(header.latent_shape),
        "grids": {str(layer): list(grid) for layer, grid in header.grids.items()},
        "heads": {str(layer): header.heads[layer] for layer in header.grids if layer in header.heads},
    }


# --- facts by themselves -------------------------------------------------------------------------------------------


def _picture(facts: Any) -> PictureFacts:
    _require(type(facts) is dict, "picture")
    representation = facts.get("representation")
    _require(type(representation) is str and representation in LAYOUTS, "representation")
    name, digest = _list(facts.get("model"), 2, 2, "model")
    model = ModelId(_text(name, _NAME, "model"), _text(digest, _DIGEST, "model"))
    sigmas = [_number(s, 0.0, LARGEST, "sigmas") for s in _list(facts.get("sigmas"), 1, MOST_STEPS, "sigmas")]
    _require(sigmas[-1] > 0.0 and all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False)), "sigmas")
    shape = _shape(facts.get("latent_shape"), (MOST_BATCH, MOST_CHANNELS, MOST_SIDE, MOST_SIDE), "latent shape")
    grids = {layer: _grid(grid, shape[2:]) for layer, grid in _by_layer(facts.get("grids"), "grids").items()}
    heads = _by_layer(facts.get("heads"), "heads")
    _require(heads.keys() == grids.keys(), "heads")
    heads = {layer: _integer(count, 1, MOST_WIDTH, "heads") for layer, count in heads.items()}
    method = _text(facts.get("method"), _METHOD, "method")
    return PictureFacts(representation, FeatureHeader(model, method, tuple(sigmas), shape, grids, heads))


def _style(facts: Any, pictures: int) -> StyleFacts:
    _require(type(facts) is dict, "style")
    picture = _integer(facts.get("picture"), 0, pictures - 1, "style's picture")
    return StyleFacts(picture, _number(facts.get("weight"), 0.0, MOST_WEIGHT, "weight"))


def _grid(value: Any, latent: tuple[int, ...]) -> Grid:
    """Tokens lie on the latent or coarser, equally so on both sides but for rounding."""
    h, w = _shape(value, latent, "grids")
    coarsest = max((h - 1) / latent[0], (w - 1) / latent[1])
    finest = min((h + 1) / latent[0], (w + 1) / latent[1])
    _require(coarsest < finest, "grids")
    return h, w


def _by_layer(value: Any, what: str) -> dict[LayerId, Any]:
    _require(type(value) is dict and 1 <= len(value) <= MOST_LAYERS, what)
    return {LayerId.parse(_text(name, _LAYER, what)): entry for name, entry in value.items()}


def _checksums(value: Any, inventory: Inventory) -> dict[str, int]:
    if value is None:
        return {}
    _require(type(value) is dict and value.keys() == inventory.keys(), "checksums")
    return {name: _integer(number, 0, 2**32 - 1, "checksums") for name, number in value.items()}


def _shape(value: Any, most: tuple[int, ...], what: str) -> tuple[Any, ...]:
    sizes = _list(value, len(most), len(most), what)
    return tuple(_integer(size, 1, limit, what) for size, limit in zip(sizes, most, strict=True))


def _list(value: Any, least: int, most: int, what: str) -> list[Any]:
    _require(type(value) is list and least <= len(value) <= most, what)
    return value


def _integer(value: Any, low: int, high: int, what: str) -> int:
    _require(type(value) is int and low <= value <= high, what)
    return value


def _number(value: Any, low: float, high: float, what: str) -> float:
    _require(type(value) in (int, float) and low <= value <= high, what)
    return float(value)


def _text(value: Any, pattern: re.Pattern[str], what: str) -> str:
    _require(type(value) is str and pattern.fullmatch(value) is not None, what)
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise BadHeaderError(what)


# --- facts against tensors -----------------------------------------------------------------------------------------


def _check_pictures(pictures: tuple[PictureFacts, ...], inventory: Inventory) -> set[str]:
    """Each picture against its tensors, and all against each other: one model made them."""
    seen: set[str] = set()
    widths: dict[Any, int] = {}
    for place, (representation, header) in enumerate(pictures):
        prefix = f"{place}."
        own = {name.removeprefix(prefix): kind for name, kind in inventory.items() if name.startswith(prefix)}
        _require(header.model == pictures[0].header.model, "model")
        _check_ends(own, header)
        found = LAYOUTS[representation](own, header) | {"channels": header.latent_shape[1]}
        found |= {f"heads of {layer}": count for layer, count in header.heads.items()}
        for name, width in found.items():
            _require(widths.setdefault(name, width) == width, f"{name} of picture {place}")
        seen |= {prefix + name for name in own}
    return seen


def _check_ends(own: dict[str, TensorKind], header: FeatureHeader) -> None:
    """Noise and companion; files of before either existed lack them."""
    for name in ("noise", "companion"):
        _check(own, name, WIDE, header.latent_shape, optional=True)
    _require("noise" in own or "companion" not in own, "companion")


def _check_features(own: dict[str, TensorKind], header: FeatureHeader) -> dict[str, int]:
    """Stacks of steps b n c: the same roles in every layer, of one type and, in a layer, of one width."""
    kept = {name: kind for name, kind in own.items() if name not in ("noise", "companion")}
    roles = {role for role in "qkv" if any(name.endswith(f".{role}") for name in kept)}
    _require(bool(roles) and len({kind.dtype for kind in kept.values()}) == 1, "queries, keys and values")
    stacks = [(layer, role) for layer in header.layers for role in ROLES if role in roles]
    resnet = [(RESNET, "x")] if f"{RESNET}.x" in kept and RESNET in header.grids else []
    _require({f"{layer}.{role}" for layer, role in [*stacks, *resnet]} == kept.keys(), "queries, keys and values")
    widths: dict[str, int] = {}
    for layer, role in [*stacks, *resnet]:
        (h, w), name = header.grids[layer], f"{layer}.{role}"
        width = (kept[name].shape or (0,))[-1]
        _check(kept, name, ANY, (len(header.sigmas), header.batch, h * w, width))
        _require(1 <= width <= MOST_WIDTH, name)
        if role != "x":
            _require(widths.setdefault(str(layer), width) == width and width % header.heads[layer] == 0, name)
    return {f"width of {layer}": width for layer, width in widths.items()}


def _check_latents(own: dict[str, TensorKind], header: FeatureHeader) -> dict[str, int]:
    """Latents steps b c h w, and the model's other inputs, a row for each picture."""
    _check(own, "latents", WIDE, (len(header.sigmas), *header.latent_shape))
    inputs = {name.removeprefix("inputs."): kind for name, kind in own.items() if name.startswith("inputs.")}
    _require(own.keys() - {"latents", "noise", "companion"} == {f"inputs.{name}" for name in inputs}, "latents")
    _require("c_crossattn" in inputs, "inputs")
    for name, kind in inputs.items():
        _require(name in INPUT_RANKS and kind.dtype in WIDE, f"input {name[:60]!r}")
        _require(len(kind.shape) == INPUT_RANKS[name] and min(kind.shape) > 0, f"input {name}")
        _require(kind.shape[0] == header.batch, f"input {name}")
        _require(name != "c_concat" or kind.shape[2:] == header.latent_shape[2:], f"input {name}")
    # the width of what the model is asked with is the model's own
    return {f"width of {name}": kind.shape[1 if name == "c_concat" else -1] for name, kind in inputs.items()}


# how the tensors of each representation are laid out; gives the widths that all pictures of a model share
LAYOUTS: dict[str, Callable[[dict[str, TensorKind], FeatureHeader], dict[str, int]]] = {
    StoredFeatures.representation: _check_features,
    Trajectory.representation: _check_latents,
}


def _check_masks(
    styles: tuple[StyleFacts, ...], pictures: tuple[PictureFacts, ...], content: int | None, inventory: Inventory
) -> set[str]:
    """Masks b h w, one for all pictures of the content or one for each."""
    names = {f"style{number}.{mask}" for number in range(len(styles)) for mask in MASKS} & set(inventory)
    for name in names:
        dtype, shape = inventory[name]
        _require(dtype in WIDE and len(shape) == 3 and min(shape) > 0 and max(shape) <= MOST_SIDE, name)
        rows = MOST_BATCH if content is None else pictures[content].header.batch
        _require(shape[0] in (1, rows) or content is None and shape[0] <= rows, name)
    return names


def _check(
    own: Inventory, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...], *, optional: bool = False
) -> None:
    if name not in own:
        _require(optional, f"no {name}")
        return
    _require(own[name].dtype in dtypes, f"type of {name}")
    _require(own[name].shape == shape, f"shape of {name}")

"""The schema of bank files: what a header may say, held against itself and against the tensors beside it.

Nothing of a file is used before all of its header has passed, and the tensors are known here by type and shape alone:
what a header claims is compared with them, never allocated. The same schema reads what is about to be saved.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.features import Depth, ModelId
from ..core.grid import Grid
from ..core.layers import LayerId
from ..core.ranges import MAX_WEIGHT
from .image_features import FeatureHeader
from .inventory import MAX_WIDTH, WIDE, BadHeaderError, Inventory, TensorKind, require, require_kind
from .level_groups import MAX_EVERY
from .representations import REPRESENTATIONS
from .trajectory import CONSTANTS

VERSION = 1
# far beyond any real bank, so that a hostile header cannot make anybody allocate them
MAX_STEPS, MAX_LAYERS, MAX_STYLES = 10_000, 1_000, 1_000
MAX_BATCH, MAX_CHANNELS, MAX_SIDE, MAX_AXES, MAX_FRAMES = 4_096, 4_096, 65_536, 4, 65_536
LARGEST = 1e9  # a noise level
MASKS = ("region", "style_mask")
NOISE, COMPANION = "noise", "companion"
_NAME = re.compile(r"[ -~]{1,200}")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_METHOD = re.compile(r"[a-z][a-z_0-9]{0,39}")
_LAYER = re.compile(r"[a-z_]{1,40}\.(?:0|[1-9]\d{0,3})\.(?:0|[1-9]\d{0,3})")  # blocks are the architecture's to name


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
    checksums: Mapping[str, int]  # of each tensor


def parse(text: str) -> dict[str, Any]:
    """The JSON of a header: an object without NaN and Infinity, nested as deep as headers are."""
    try:
        facts = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadHeaderError("text of the header") from error
    require(type(facts) is dict, "header")
    return facts


def check_header(facts: Mapping[str, Any], inventory: Inventory) -> BankHeader:
    """The header that these facts are, if they agree with each other and with all tensors of the file."""
    listed = _list(facts.get("pictures"), 1, MAX_STYLES + 1, "number of pictures")
    pictures = tuple(_picture(picture) for picture in listed)
    listed = _list(facts.get("styles"), 0, MAX_STYLES, "number of styles")
    styles = tuple(_style(style, len(pictures)) for style in listed)
    content = facts.get("content", False)
    if content is not None:
        content = _integer(content, 0, len(pictures) - 1, "number of the content's picture")
    require(content is not None or bool(styles), "number of styles")
    require({style.picture for style in styles} | {content or 0} == set(range(len(pictures))), "number of pictures")
    seen = _check_pictures(pictures, inventory) | _check_masks(styles, pictures, content, inventory)
    unknown = sorted(set(inventory) - seen)
    require(not unknown, f"tensor {unknown[0][:60]!r}" if unknown else "")
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
        "inputs": dict(header.constants),
        "depth": list(header.depth),
        "every": header.every,
    }


# --- facts by themselves -------------------------------------------------------------------------------------------


def _picture(facts: Any) -> PictureFacts:
    require(type(facts) is dict, "picture")
    representation = facts.get("representation")
    require(type(representation) is str and representation in REPRESENTATIONS, "representation")
    name, digest = _list(facts.get("model"), 2, 2, "model")
    model = ModelId(_text(name, _NAME, "model"), _text(digest, _DIGEST, "model"))
    sigmas = [_number(s, 0.0, LARGEST, "sigmas") for s in _list(facts.get("sigmas"), 1, MAX_STEPS, "sigmas")]
    require(sigmas[-1] > 0.0 and all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False)), "sigmas")
    shape = _latent_shape(facts.get("latent_shape"))
    grids = {layer: _grid(grid, Grid(shape[2:])) for layer, grid in _by_layer(facts.get("grids"), "grids").items()}
    heads = _by_layer(facts.get("heads"), "heads")
    require(heads.keys() == grids.keys(), "heads")
    heads = {layer: _integer(count, 1, MAX_WIDTH, "heads") for layer, count in heads.items()}
    method = _text(facts.get("method"), _METHOD, "method")
    constants, depth = _constants(facts.get("inputs")), _depth(facts.get("depth"))
    every = _integer(facts.get("every"), 1, MAX_EVERY, "every")
    header = FeatureHeader(
        model, method, tuple(sigmas), shape, grids=grids, heads=heads, depth=depth, constants=constants, every=every
    )
    return PictureFacts(representation, header)


def _depth(value: Any) -> Depth:
    """On each axis."""
    return tuple(_number(each, 0.0, MAX_SIDE, "depth") for each in _list(value, 0, MAX_AXES, "depth"))


def _latent_shape(value: Any) -> tuple[int, ...]:
    """b c h w, or b c t h w."""
    frames = (MAX_FRAMES,) if type(value) is list and len(value) == 5 else ()
    return _shape(value, (MAX_BATCH, MAX_CHANNELS, *frames, MAX_SIDE, MAX_SIDE), "latent shape")


def _constants(value: Any) -> dict[str, Any]:
    require(type(value) is dict, "inputs")
    for name, constant in value.items():
        require(type(constant) in CONSTANTS.get(name, ()), f"input {name[:60]!r}")
        require(type(constant) is not float or math.isfinite(constant), f"input {name}")
        require(type(constant) is not str or _METHOD.fullmatch(constant) is not None, f"input {name}")
    return value


def _style(facts: Any, pictures: int) -> StyleFacts:
    require(type(facts) is dict, "style")
    picture = _integer(facts.get("picture"), 0, pictures - 1, "style's picture")
    return StyleFacts(picture, _number(facts.get("weight"), 0.0, MAX_WEIGHT, "weight"))


def _grid(value: Any, latent: Grid) -> Grid:
    """Tokens lie on the latent or coarser, equally on both sides but for rounding; each frame has some."""
    *frames, h, w = _shape(value, latent, "grids")
    coarsest = max((h - 1) / latent.height, (w - 1) / latent.width)
    finest = min((h + 1) / latent.height, (w + 1) / latent.width)
    require(coarsest < finest and frames == list(latent[:-2]), "grids")
    return Grid((*frames, h, w))


def _by_layer(value: Any, what: str) -> dict[LayerId, Any]:
    require(type(value) is dict and 1 <= len(value) <= MAX_LAYERS, what)
    return {LayerId.parse(_text(name, _LAYER, what)): entry for name, entry in value.items()}


def _checksums(value: Any, inventory: Inventory) -> dict[str, int]:
    require(type(value) is dict and value.keys() == inventory.keys(), "checksums")
    return {name: _integer(number, 0, 2**32 - 1, "checksums") for name, number in value.items()}


def _shape(value: Any, most: tuple[int, ...], what: str) -> tuple[Any, ...]:
    sizes = _list(value, len(most), len(most), what)
    return tuple(_integer(size, 1, limit, what) for size, limit in zip(sizes, most, strict=True))


def _list(value: Any, least: int, most: int, what: str) -> list[Any]:
    require(type(value) is list and least <= len(value) <= most, what)
    return value


def _integer(value: Any, low: int, high: int, what: str) -> int:
    require(type(value) is int and low <= value <= high, what)
    return value


def _number(value: Any, low: float, high: float, what: str) -> float:
    require(type(value) in (int, float) and low <= value <= high, what)
    return float(value)


def _text(value: Any, pattern: re.Pattern[str], what: str) -> str:
    require(type(value) is str and pattern.fullmatch(value) is not None, what)
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)


# --- facts against tensors -----------------------------------------------------------------------------------------


def _check_pictures(pictures: tuple[PictureFacts, ...], inventory: Inventory) -> set[str]:
    """Each picture against its tensors, and all against each other: one model made them."""
    seen: set[str] = set()
    widths: dict[Any, int] = {}
    for place, (representation, header) in enumerate(pictures):
        prefix = f"{place}."
        own = {name.removeprefix(prefix): kind for name, kind in inventory.items() if name.startswith(prefix)}
        require(header.model == pictures[0].header.model, "model")
        _check_noises(own, header)
        kept = {name: kind for name, kind in own.items() if name not in (NOISE, COMPANION)}
        found = REPRESENTATIONS[representation].check_tensors(kept, header) | {"channels": header.latent_shape[1]}
        found |= {f"heads of {layer}": count for layer, count in header.heads.items()}
        for name, width in found.items():
            require(widths.setdefault(name, width) == width, f"{name} of picture {place}")
        seen |= {prefix + name for name in own}
    return seen


def _check_noises(own: dict[str, TensorKind], header: FeatureHeader) -> None:
    """The noise, and the companion of a reversible one."""
    require_kind(own, NOISE, WIDE, header.latent_shape)
    if COMPANION in own:
        require_kind(own, COMPANION, WIDE, header.latent_shape)


def _check_masks(
    styles: tuple[StyleFacts, ...], pictures: tuple[PictureFacts, ...], content: int | None, inventory: Inventory
) -> set[str]:
    """Masks b h w, one for all pictures of the content or one for each, or for each frame of a film."""
    names = {f"style{number}.{mask}" for number in range(len(styles)) for mask in MASKS} & set(inventory)
    for name in names:
        dtype, shape = inventory[name]
        require(dtype in WIDE and len(shape) == 3 and min(shape) > 0 and max(shape) <= MAX_SIDE, name)
        header = None if content is None else pictures[content].header
        rows = (MAX_BATCH,) if header is None else (1, header.batch, header.size.frames)
        require(shape[0] in rows or header is None and shape[0] <= MAX_BATCH, name)
    return names

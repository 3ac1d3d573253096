"""What an inversion leaves behind, and the bank that carries it through a graph.

Both are immutable values: the host caches node outputs and hands the same object to every later run.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import MagicStyleError
from .layers import LayerId, legal_range
from .noise_pair import NoisePair
from .placement import Allocate, OnDisk, in_memory
from .regions import Grid, resample_tokens

ROLES = "qkvx"
# the layer whose block DiffStyler copies: up_blocks[1].resnets[1] of diffusers
RESNET = LayerId("output", 4, 0)


class AttentionFeatures(NamedTuple):
    """Queries, keys and values of one self-attention layer, each b n (h d), or None where they are not kept.

    x is what enters the block's ResNet, its two inputs side by side, b n c; kept for one block alone, and on request.
    """

    q: Tensor | None = None
    k: Tensor | None = None
    v: Tensor | None = None
    x: Tensor | None = None


class ModelId(NamedTuple):
    """What features depend on: the architecture as a digest, and a name for messages."""

    name: str
    digest: str

    @classmethod
    def of(cls, name: str, widths: Mapping[LayerId, int]) -> ModelId:
        """The identity of a UNet by its class name and the channels of each self-attention layer."""
        text = name + "".join(f" {layer}:{width}" for layer, width in widths.items())
        return cls(name, hashlib.sha256(text.encode()).hexdigest()[:16])


@dataclass(frozen=True)
class FeatureHeader:
    """Facts about one inverted picture that lookups, checks and files need."""

    model: ModelId
    method: str
    sigmas: tuple[float, ...]  # the sampling grid, descending, without the final zero
    latent_shape: tuple[int, int, int, int]  # b c h w
    grids: Mapping[LayerId, Grid]  # (h, w) of tokens per layer
    heads: Mapping[LayerId, int] = field(default_factory=dict)  # attention heads per layer

    @property
    def layers(self) -> tuple[LayerId, ...]:
        """The layers whose features are kept, in the model's order."""
        return tuple(self.grids)

    @property
    def batch(self) -> int:
        """The number of pictures."""
        return self.latent_shape[0]


class Nearest(NamedTuple):
    """The stored step that serves a noise level, and how far off it is, as |ln(sigma / stored)|."""

    step: int
    distance: float


class ImageFeatures(ABC):
    """The features of one inverted picture (or batch of pictures), looked up by noise level and layer.

    `ends` are where the inversion ended, in the host's LATENT convention, for an initial latent; a saved style has them
    with it.
    """

    representation: str

    def __init__(self, header: FeatureHeader, ends: NoisePair | None = None) -> None:
        self.header = header
        self.ends = ends

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor that is kept, by name."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the tensors hold, the noise included."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def _ends(self) -> dict[str, Tensor]:
        return {} if self.ends is None else self.ends.tensors

    def nearest(self, sigma: float) -> Nearest:
        """The stored noise level nearest to `sigma` in log space."""
        distances = [abs(math.log(max(sigma, 1e-9) / stored)) for stored in self.header.sigmas]
        step = min(range(len(distances)), key=distances.__getitem__)
        return Nearest(step, distances[step])

    def __copy__(self) -> ImageFeatures:
        return self

    def __deepcopy__(self, memo: object) -> ImageFeatures:
        # hosts before 0.14 deep-copy what hangs on a model; these are values, never copied
        return self

    def get_ram_usage(self) -> int:
        """The host's cache accounting (ComfyUI 0.3.68 to 0.18)."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._comfy_cache_tensors())

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """The host's cache accounting (newer ComfyUI): the CPU tensors behind this object."""
        return [tensor for tensor in self.tensors.values() if tensor.device.type == "cpu"]


class StoredFeatures(ImageFeatures):
    """Representation `features`: the queries, keys and values themselves, one tensor of steps per layer and role."""

    representation = "features"

    def __init__(
        self,
        header: FeatureHeader,
        stacks: Mapping[tuple[LayerId, str], Tensor],
        ends: NoisePair | None = None,
        *,
        disk: OnDisk | None = None,
    ) -> None:
        super().__init__(header, ends)
        self.disk = disk  # the files behind the stacks live as long as this
        self._stacks = MappingProxyType(dict(stacks))  # (layer, role) -> steps b n c

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {f"{layer}.{role}": stack for (layer, role), stack in self._stacks.items()} | self._ends()

    def _comfy_cache_tensors(self) -> list[Tensor]:
        # mapped files are not memory that a cache could win back
        return [] if self.disk is not None else super()._comfy_cache_tensors()

    @property
    def device(self) -> torch.device:
        """Where the stacks are."""
        return next(iter(self._stacks.values())).device

    @property
    def roles(self) -> str:
        """The kept roles, as letters of "qkvx"."""
        return "".join(role for role in ROLES if any(kept == role for _, kept in self._stacks))

    def at(self, layer: LayerId, step: int, roles: str = ROLES) -> AttentionFeatures:
        """The features of one layer at one step: b n c each, views that must not be written to."""
        kept = {role: self._stacks[layer, role][step] for role in roles if (layer, role) in self._stacks}
        return AttentionFeatures(**kept)


class Trajectory(ImageFeatures):
    """Representation `latents`: only the inverted trajectory; its features are made anew at each sampling step.

    `inputs` are the model's other inputs (cross-attention, pooled vectors, ..), the same at every step. `source` is the
    host's model that made the trajectory, or None after loading from a file; `weights` tells whether another model has
    the same weights.
    """

    representation = "latents"

    def __init__(
        self,
        header: FeatureHeader,
        latents: Tensor,  # steps b c h w
        inputs: Mapping[str, Tensor],
        ends: NoisePair | None = None,
        *,
        source: Any = None,
        weights: str = "",
    ) -> None:
        super().__init__(header, ends)
        self.latents = latents
        self.inputs = MappingProxyType(dict(inputs))
        self.source = source
        self.weights = weights

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        inputs = {f"inputs.{name}": tensor for name, tensor in self.inputs.items()}
        return {"latents": self.latents, **inputs, **self._ends()}


class FeatureWriter:
    """Collects features during an inversion, copying each into memory of its own, and closes into StoredFeatures."""

    def __init__(
        self,
        layers: tuple[LayerId, ...],
        steps: int,
        roles: str = "qkv",
        dtype: torch.dtype = torch.float16,
        allocate: Allocate | None = None,
    ) -> None:
        self._allocate = allocate or in_memory()
        self._layers = layers
        self._steps = steps
        self._roles = roles
        self._dtype = dtype
        self._stacks: dict[tuple[LayerId, str], Tensor] = {}
        self._grids: dict[LayerId, Grid] = {}

    def __contains__(self, layer: LayerId) -> bool:
        return layer in self._layers

    def write(self, layer: LayerId, grid: Grid, step: int, features: AttentionFeatures) -> None:
        """Keep one layer's features, each b n c, for one step; nothing of the given tensors stays referenced.

        Steps that another node runs at another grid (Deep Shrink) are brought to the first one's.
        """
        kept = self._grids.setdefault(layer, grid)
        for role in self._roles.replace("x", ""):
            self._keep(layer, role, step, resample_tokens(getattr(features, role), grid, kept))

    @property
    def wants_resnet(self) -> bool:
        """Whether the ResNet's inputs are kept."""
        return "x" in self._roles

    def write_resnet(self, step: int, x: Tensor) -> None:
        """Keep what enters the ResNet of the one block that has it copied, b n c, for one step."""
        self._keep(RESNET, "x", step, x)

    def _keep(self, layer: LayerId, role: str, step: int, tensor: Tensor) -> None:
        key = (layer, role)
        if key not in self._stacks:
            self._stacks[key] = self._allocate(f"{layer}.{role}", (self._steps, *tensor.shape), self._dtype)
        self._stacks[key][step].copy_(_representable(tensor.detach(), self._dtype))

    def close(self, header: FeatureHeader, ends: NoisePair | None = None) -> StoredFeatures:
        """The finished features; the header's grids give way to those that were seen."""
        missing = [layer for layer in self._layers if layer not in self._grids]
        if missing:
            raise MagicStyleError(
                f"Layers {legal_range(missing)} gave no self-attention features: another node replaces the attention "
                "there; remove it from the inversion's model, or leave these layers out."
            )
        grids = {layer: self._grids[layer] for layer in self._layers}
        disk = self._allocate if isinstance(self._allocate, OnDisk) else None
        return StoredFeatures(replace(header, grids=MappingProxyType(grids)), self._stacks, ends, disk=disk)


def _representable(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # eight bits have no infinity: what is too large would become NaN
    limit = torch.finfo(dtype).max
    return tensor.clamp(-limit, limit) if dtype.itemsize == 1 else tensor


def feature_bytes(
    grids: Mapping[LayerId, Grid], widths: Mapping[LayerId, int], steps: int, batch: int, roles: str, dtype: torch.dtype
) -> int:
    """What StoredFeatures will take: known before anything runs."""
    sizes = {layer: h * w * widths[layer] for layer, (h, w) in grids.items()}
    # two inputs of the block's own width enter a ResNet
    entering = 2 * sizes.get(RESNET, 0) if "x" in roles else 0
    return (sum(sizes.values()) * len(roles.replace("x", "")) + entering) * steps * batch * dtype.itemsize


class StyleEntry(NamedTuple):
    """One style in a bank: its features, its weight, and where it acts and may be drawn from."""

    features: ImageFeatures
    weight: float = 1.0
    region: Tensor | None = None  # b h w in [0, 1], any resolution
    style_mask: Tensor | None = None  # b h w in [0, 1], any resolution


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """The content's features and those of any number of styles: what the patcher fuses."""

    content: ImageFeatures
    styles: tuple[StyleEntry, ...]

    def __post_init__(self) -> None:
        for number, style in enumerate(self.styles, start=1):
            self._check_style(number, style)

    def _check_style(self, number: int, style: StyleEntry) -> None:
        content, header = self.content.header, style.features.header
        if header.model.digest != content.model.digest:
            raise MagicStyleError(
                f"Style {number} was inverted with another model ({header.model.name}) than the content "
                f"({content.model.name}): connect the same MODEL to both inversions."
            )
        if header.batch not in (1, content.batch):
            raise MagicStyleError(
                f"Style {number} holds {header.batch} pictures and the content {content.batch}: "
                "give one style picture, or as many as content pictures."
            )
        if not set(header.layers) & set(content.layers):
            raise MagicStyleError(
                f"Style {number} keeps layers {legal_range(header.layers)} and the content "
                f"{legal_range(content.layers)}: give both inversions the same layers."
            )

    def __iter__(self) -> Iterator[ImageFeatures]:
        yield self.content
        yield from (style.features for style in self.styles)

    def __copy__(self) -> FeatureBank:
        return self

    def __deepcopy__(self, memo: object) -> FeatureBank:
        return self

    @property
    def layers(self) -> tuple[LayerId, ...]:
        """The layers that every picture keeps, in the model's order."""
        shared = set(self.content.header.layers).intersection(*(style.features.header.layers for style in self.styles))
        return tuple(layer for layer in self.content.header.layers if layer in shared)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, a picture that serves twice counted once."""
        return sum(features.nbytes for features in {id(features): features for features in self}.values())

    def with_features(self, replacements: Mapping[int, ImageFeatures]) -> FeatureBank:
        """A new bank in which some pictures' features, by their place in iteration, are replaced."""
        content, *styles = [replacements.get(place, features) for place, features in enumerate(self)]
        entries = zip(self.styles, styles, strict=True)
        return FeatureBank(content, tuple(entry._replace(features=features) for entry, features in entries))

    def with_style(self, style: StyleEntry) -> FeatureBank:
        """A new bank with one style more."""
        return FeatureBank(self.content, (*self.styles, style))

    def get_ram_usage(self) -> int:
        """The host's cache accounting (ComfyUI 0.3.68 to 0.18)."""
        return sum(features.get_ram_usage() for features in {id(features): features for features in self}.values())

    def _comfy_cache_tensors(self) -> list[Tensor]:
        """The host's cache accounting (newer ComfyUI)."""
        return [tensor for features in self for tensor in features._comfy_cache_tensors()]

"""Features that are kept: the queries, keys and values themselves, written during an inversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.detail import begins_decoder_block
from ..core.errors import MagicStyleError
from ..core.features import ALL_ROLES, DETAIL, RESNET, ROLES, AttentionFeatures, View
from ..core.grid import Grid
from ..core.layers import LayerId, legal_range
from ..core.noise_pair import NoisePair
from .image_features import FeatureHeader, ImageFeatures, Replay, layer_bytes
from .inventory import MAX_WIDTH, NARROW, Inventory, require, require_kind
from .placement import Allocate, OnDisk, in_memory


class ResNetInputs(NamedTuple):
    """What entered the one ResNet that a method copies; which that is, is the architecture's to say."""

    layer: LayerId  # whose block begins with it
    stack: Tensor  # groups b n c, its inputs side by side

    @property
    def name(self) -> str:
        """Of the stack, among a picture's tensors."""
        return f"{self.layer}.{RESNET}"


class StoredFeatures(ImageFeatures):
    """Representation `features`: the queries, keys and values themselves, one tensor of groups per layer and role.

    What the ResNets of a decoder add, role DETAIL, is a stack of the layers whose blocks they begin.
    """

    representation = "features"

    def __init__(
        self,
        header: FeatureHeader,
        stacks: Mapping[tuple[LayerId, str], Tensor],  # steps b n c
        noise_pair: NoisePair | None = None,
        *,
        resnet: ResNetInputs | None = None,
        disk: OnDisk | None = None,
    ) -> None:
        super().__init__(header, noise_pair)
        self.device = next((stack.device for stack in stacks.values()), torch.device("cpu"))
        self.resnet = resnet
        self.disk = disk  # the files behind the stacks live as long as this
        self._stacks = MappingProxyType(dict(stacks))  # (layer, role) -> groups b n c

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        stacks = {f"{layer}.{role}": stack for (layer, role), stack in self._stacks.items()}
        resnet = {} if self.resnet is None else {self.resnet.name: self.resnet.stack}
        return stacks | resnet | self._noise_tensors()

    @property
    def resident(self) -> list[Tensor]:
        """None of those on disk, of any shape."""
        # mapped files are not memory that a cache could win back
        return [] if self.disk is not None else super().resident

    @property
    def roles(self) -> str:
        kept = {role for _, role in self._stacks} | ({RESNET} if self.resnet is not None else set())
        return "".join(role for role in ALL_ROLES if role in kept)

    @property
    def kept(self) -> str:
        dtype = str(next(iter(self._stacks.values())).dtype).removeprefix("torch.")
        return f"{', '.join(self.roles)} in {dtype}"

    @property
    def place(self) -> str:
        return super().place if self.disk is None else "on disk"

    def view(self, sigma: float, replay: Replay) -> View:
        step, resnet = self.nearest(sigma).step, self.resnet
        group = self.header.groups.of(step)
        entering = None if resnet is None else lambda: resnet.stack[group]
        added = (lambda layer: self._stacks[layer, DETAIL][group]) if DETAIL in self.roles else None
        return View(lambda layer, roles: self.at(layer, step, roles), entering, added=added)

    def held_bytes(self, widths: Mapping[LayerId, int], roles: str) -> int:
        return max(layer_bytes(self.header, layer, width, roles) for layer, width in widths.items())

    @property
    def widths(self) -> dict[LayerId, int]:
        """The channels of each layer's queries, keys and values."""
        return {layer: stack.shape[-1] for (layer, role), stack in self._stacks.items() if role in ROLES}

    def at(self, layer: LayerId, step: int, roles: str = ROLES) -> AttentionFeatures:
        """The features of one layer that serve a step: b n c each, views that must not be written to."""
        group = self.header.groups.of(step)
        kept = {
            role: self._stacks[layer, role][group] for role in ROLES if role in roles and (layer, role) in self._stacks
        }
        return AttentionFeatures(**kept)

    @classmethod
    def check_tensors(cls, own: Inventory, header: FeatureHeader) -> dict[str, int]:
        """Stacks of groups b n c: the same roles in every layer, of one type and, in a layer, of one width."""
        roles = {role for role in ROLES if any(name.endswith(f".{role}") for name in own)}
        require(bool(roles) and len({kind.dtype for kind in own.values()}) == 1, "queries, keys and values")
        stacks = [(layer, role) for layer in header.layers for role in ROLES if role in roles]
        resnet = [(layer, RESNET) for layer in header.layers if f"{layer}.{RESNET}" in own][:1]
        added = [(layer, DETAIL) for layer in header.layers if begins_decoder_block(layer)]
        beside = [*resnet, *(added if any(name.endswith(f".{DETAIL}") for name in own) else ())]
        require({f"{layer}.{role}" for layer, role in [*stacks, *beside]} == own.keys(), "queries, keys and values")
        widths: dict[str, int] = {}
        for layer, role in [*stacks, *beside]:
            tokens, name = header.grids[layer].tokens, f"{layer}.{role}"
            width = (own[name].shape or (0,))[-1]
            require_kind(own, name, NARROW, (header.groups.count, header.batch, tokens, width))
            require(1 <= width <= MAX_WIDTH, name)
            if role != RESNET:
                require(widths.setdefault(str(layer), width) == width and width % header.heads[layer] == 0, name)
        return {f"width of {layer}": width for layer, width in widths.items()}

    @classmethod
    def of_tensors(
        cls, header: FeatureHeader, tensors: Mapping[str, Tensor], noise_pair: NoisePair | None
    ) -> StoredFeatures:
        names = {(layer, role): f"{layer}.{role}" for layer in header.layers for role in ROLES + DETAIL}
        stacks = {key: tensors[name] for key, name in names.items() if name in tensors}
        entering = {layer: tensors.get(f"{layer}.{RESNET}") for layer in header.layers}
        resnet = [ResNetInputs(layer, stack) for layer, stack in entering.items() if stack is not None]
        return cls(header, stacks, noise_pair, resnet=resnet[0] if resnet else None)


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
        self._resnet: ResNetInputs | None = None
        self._grids: dict[LayerId, Grid] = {}
        self._written: dict[str, set[int]] = {}  # the steps that each stack holds

    def __contains__(self, layer: LayerId) -> bool:
        return layer in self._layers

    def write(self, layer: LayerId, grid: Grid, step: int, features: AttentionFeatures) -> None:
        """Keep one layer's features, each b n c, for one step; nothing of the given tensors stays referenced.

        Steps that another node runs at another grid (Deep Shrink) are brought to the first one's.
        """
        kept = self._grids.setdefault(layer, grid)
        for role in ROLES:
            if role in self._roles:
                self._write(layer, role, step, grid.resampled(getattr(features, role), kept))

    @property
    def wants_detail(self) -> bool:
        """Whether what the decoder's ResNets add is kept."""
        return DETAIL in self._roles

    def write_added(self, layer: LayerId, grid: Grid, step: int, added: Tensor) -> None:
        """Keep what the ResNet adds that begins the block of a layer, b n c, for one step."""
        kept = self._grids.setdefault(layer, grid)
        self._write(layer, DETAIL, step, grid.resampled(added, kept))

    def _write(self, layer: LayerId, role: str, step: int, tokens: Tensor) -> None:
        """Keep one role of a layer, b n c on the layer's grid, for one step."""
        name = f"{layer}.{role}"
        if (layer, role) not in self._stacks:
            self._stacks[layer, role] = self._room(name, tokens)
        self._keep(name, self._stacks[layer, role], step, tokens)

    @property
    def wants_resnet(self) -> bool:
        """Whether the ResNet's inputs are kept."""
        return RESNET in self._roles

    def write_resnet(self, layer: LayerId, step: int, x: Tensor) -> None:
        """Keep what enters the ResNet that begins the block of a layer, b n c, for one step."""
        if self._resnet is None:
            self._resnet = ResNetInputs(layer, self._room(f"{layer}.{RESNET}", x))
        self._keep(self._resnet.name, self._resnet.stack, step, x)

    def _room(self, name: str, like: Tensor) -> Tensor:
        """A stack for tensors like this, b n c, of every step."""
        return self._allocate(name, (self._steps, *like.shape), self._dtype)

    def _keep(self, name: str, stack: Tensor, step: int, tensor: Tensor) -> None:
        """Keep b n c for one step, in a stack of all steps, all of which it fills."""
        if tensor.shape != stack.shape[1:]:
            self._written.setdefault(name, set()).discard(step)
            return
        stack[step].copy_(_representable(tensor.detach(), self._dtype))
        self._written.setdefault(name, set()).add(step)

    def close(self, header: FeatureHeader, noise_pair: NoisePair | None = None) -> StoredFeatures:
        """The finished features; the header's grids give way to those that were seen."""
        self._check_layers()
        self._check_steps(header.batch)
        grids = {layer: self._grids[layer] for layer in self._layers}
        disk = self._allocate if isinstance(self._allocate, OnDisk) else None
        header = replace(header, grids=MappingProxyType(grids))
        return StoredFeatures(header, self._stacks, noise_pair, resnet=self._resnet, disk=disk)

    def _check_layers(self) -> None:
        """Refuse layers, or ResNets before them, that never came by."""
        roles = [role for role in ROLES if role in self._roles]
        seen = [layer for layer in self._layers if layer in self._grids]
        seen = [layer for layer in seen if all((layer, role) in self._stacks for role in roles)]
        if missing := [layer for layer in self._layers if layer not in seen]:
            raise MagicStyleError(
                f"Layers {legal_range(missing)} gave no self-attention features: another node replaces the attention "
                "there; remove it from the inversion's model, or leave these layers out."
            )
        behind = filter(begins_decoder_block, self._layers if self.wants_detail else ())
        if missing := [layer for layer in behind if (layer, DETAIL) not in self._stacks]:
            raise MagicStyleError(
                f"The ResNets before layers {legal_range(missing)} never came by: another node replaces the model's "
                "blocks; remove it from the inversion's model, or set roles to all."
            )

    def _check_steps(self, batch: int) -> None:
        """Refuse stacks of which some step was never written, or not for every picture: they hold what lay there."""
        stacks = {f"{layer}.{role}": stack for (layer, role), stack in self._stacks.items()}
        if self._resnet is not None:
            stacks[self._resnet.name] = self._resnet.stack
        short = [name for name, stack in stacks.items() if stack.shape[1] != batch]
        # where no role is kept (the style of DiffStyler) there is nothing to miss
        seen = min((len(self._written.get(name, ())) for name in stacks), default=self._steps)
        if short or seen < self._steps:
            found = f"{seen} of {self._steps} noise levels" if not short else "a part of the pictures"
            raise MagicStyleError(
                f"The self-attention of the chosen layers came by for {found} alone: another node answers for the "
                "model from a cache or cuts what it sees; take it off the inversion's model, the sampler's may have it."
            )


def _representable(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of any shape as it can be kept: a smaller type's largest number, not infinity, for what is larger."""
    limit = torch.finfo(dtype).max
    return tensor.clamp(-limit, limit) if torch.finfo(tensor.dtype).max > limit else tensor


def feature_bytes(
    grids: Mapping[LayerId, Grid],
    widths: Mapping[LayerId, int],
    steps: int,
    batch: int,
    roles: str,
    dtype: torch.dtype,
    resnet: Mapping[LayerId, int] | None = None,
) -> int:
    """What StoredFeatures will take: known before anything runs. `resnet` names the channels that enter one."""
    sizes = {layer: grid.tokens * widths[layer] for layer, grid in grids.items()}
    kept = sum(sizes.values()) * sum(role in ROLES for role in roles)
    if DETAIL in roles:
        kept += sum(size for layer, size in sizes.items() if begins_decoder_block(layer))
    entering = resnet if RESNET in roles and resnet is not None else {}
    kept += sum(grids[layer].tokens * channels for layer, channels in entering.items())
    return kept * steps * batch * dtype.itemsize

"""Queries, keys and values, and what tells one model's from another's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from .layers import LayerId

ROLES = "qkv"
# read and kept beside them, of UNets:
RESNET = "x"  # what enters the one ResNet that a method copies
DETAIL = "h"  # what the ResNet adds that begins a decoder block, at the first layer of the block
ALL_ROLES = ROLES + RESNET + DETAIL


class AttentionFeatures:
    """Queries, keys and values of one self-attention layer, each b n (h d): those that are kept or needed.

    A role that is not held cannot be read: where one may be missing, `in` tells.
    """

    __slots__ = ("_held",)

    def __init__(self, q: Tensor | None = None, k: Tensor | None = None, v: Tensor | None = None) -> None:
        """Of b n c each."""
        self._held = {role: tensor for role, tensor in zip(ROLES, (q, k, v), strict=True) if tensor is not None}

    @property
    def q(self) -> Tensor:
        """Queries: b n (h d)."""
        return self._held["q"]

    @property
    def k(self) -> Tensor:
        """Keys: b n (h d)."""
        return self._held["k"]

    @property
    def v(self) -> Tensor:
        """Values: b n (h d)."""
        return self._held["v"]

    def __contains__(self, role: str) -> bool:
        return role in self._held

    def __iter__(self) -> Iterator[Tensor]:
        """The tensors that are held, b n c each, in the order of the roles."""
        return iter(self._held.values())

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Roles and tensors that are held, b n c each."""
        return iter(self._held.items())

    def select(self, roles: str) -> AttentionFeatures:
        """Some of the roles, all of which are held."""
        return AttentionFeatures(**{role: self._held[role] for role in roles})

    def replace(self, **tensors: Tensor) -> AttentionFeatures:
        """The same with some roles anew, b n c each."""
        return AttentionFeatures(**{**self._held, **tensors})

    def map(self, change: Callable[[Tensor], Tensor]) -> AttentionFeatures:
        """Every tensor, b n c, through one change."""
        return AttentionFeatures(**{role: change(tensor) for role, tensor in self._held.items()})


class ModelId(NamedTuple):
    """What features depend on: the architecture as a digest, and a name for messages."""

    name: str
    digest: str

    @classmethod
    def of(cls, name: str, widths: Mapping[LayerId, int]) -> ModelId:
        """The identity of a UNet by its class name and the channels of each self-attention layer."""
        text = name + "".join(f" {layer}:{width}" for layer, width in widths.items())
        return cls(name, hashlib.sha256(text.encode()).hexdigest()[:16])


# where a picture's first token is on the axes of the positions; axes that are left out are at 0
Depth = tuple[float, ...]


class View(NamedTuple):
    """The features of one picture at one noise level."""

    attention: Callable[[LayerId, str], AttentionFeatures]  # (layer, roles) -> b n c each
    resnet: Callable[[], Tensor] | None = None  # b n c, the inputs of the ResNet side by side, where they are kept
    alone: bool = False  # of a film: the frames that run and no others, at times counted from the first of them
    added: Callable[[LayerId], Tensor] | None = None  # b n c, what the ResNet before a layer adds, where that is kept

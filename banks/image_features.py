"""What an inversion leaves behind: the features of one picture, however they are kept.

They are immutable values: the host caches node outputs and hands the same object to every later run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..core.detail import begins_decoder_block
from ..core.features import DETAIL, ROLES, AttentionFeatures, Depth, ModelId, View
from ..core.grid import Grid
from ..core.layers import LayerId
from ..core.noise_pair import NoisePair
from .inventory import Inventory
from .level_groups import LevelGroups


@dataclass(frozen=True)
class FeatureHeader:
    """Facts about one inverted picture that lookups, checks and files need."""

    model: ModelId
    method: str
    sigmas: tuple[float, ...]  # the sampling grid, descending, without the final zero
    latent_shape: tuple[int, ...]  # b c h w, or b c 1 h w of a model of films
    grids: Mapping[LayerId, Grid]  # (h, w) of tokens per layer
    heads: Mapping[LayerId, int] = field(default_factory=dict)  # attention heads per layer
    depth: Depth = ()  # of the picture among the rotary positions, where a model puts it behind its caption
    constants: Mapping[str, Any] = field(default_factory=dict)  # the model's inputs that are no tensors, for a replay
    every: int = 1  # how many levels share what is kept
    # how the model samples that was inverted with, which a run compares with its own; None: unknown, as of a file
    manner: Any = field(default=None, compare=False)

    @property
    def layers(self) -> tuple[LayerId, ...]:
        """The layers whose features are kept, in the model's order."""
        return tuple(self.grids)

    @property
    def groups(self) -> LevelGroups:
        """Which steps are kept, and which of them serves each step."""
        return LevelGroups(len(self.sigmas), self.every)

    @property
    def kept_sigmas(self) -> tuple[float, ...]:
        """The noise levels that are kept, one for each group."""
        return tuple(self.sigmas[step] for step in self.groups.kept)

    @property
    def batch(self) -> int:
        """The number of pictures."""
        return self.latent_shape[0]

    @property
    def size(self) -> Grid:
        """The (h, w) of the latent."""
        return Grid(self.latent_shape[2:])


# shows a trajectory's features at the level kept of one of its groups, which the running model makes anew
Replay = Callable[[Any, int], View]


class Nearest(NamedTuple):
    """The step of the inversion nearest to a noise level, and how far off it is, as |ln(sigma / inverted)|."""

    step: int
    distance: float


class ImageFeatures(ABC):
    """The features of one inverted picture (or batch of pictures), looked up by noise level and layer.

    A representation is a class of these and a row in `representations`: it says how its features come about, what
    they take, and how they lie in a file. `noise_pair` is where the inversion ended, in the host's LATENT
    convention, for an initial latent; a saved style has it with it.
    """

    representation: str
    device: torch.device | None = None  # where a view's features lie; None: the running model makes them

    def __init__(self, header: FeatureHeader, noise_pair: NoisePair | None = None) -> None:
        self.header = header
        self.noise_pair = noise_pair

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor that is kept, by name."""

    @property
    @abstractmethod
    def roles(self) -> str:
        """What can be had, as letters of ALL_ROLES."""

    @property
    @abstractmethod
    def kept(self) -> str:
        """What is kept of each step, in a few words."""

    @property
    def place(self) -> str:
        """Where it is kept, in a few words."""
        device = next(iter(self.tensors.values())).device.type
        return "in memory" if device == "cpu" else f"on the {device} device"

    @abstractmethod
    def view(self, sigma: float, replay: Replay) -> View:
        """The features kept for the group of the inversion's noise level nearest to `sigma`."""

    @abstractmethod
    def at(self, layer: LayerId, step: int, roles: str = ROLES) -> AttentionFeatures:
        """The features of one layer that serve one of the inversion's steps, without a running model: b n c each."""

    @abstractmethod
    def held_bytes(self, widths: Mapping[LayerId, int], roles: str) -> int:
        """What a model call that reads these layers, each of so many channels, holds of it in single precision."""

    @classmethod
    @abstractmethod
    def check_tensors(cls, own: Inventory, header: FeatureHeader) -> dict[str, int]:
        """Refuse tensors of a file that are not laid out like this; gives the widths that a model's pictures share."""

    @classmethod
    @abstractmethod
    def of_tensors(
        cls, header: FeatureHeader, tensors: Mapping[str, Tensor], noise_pair: NoisePair | None
    ) -> ImageFeatures:
        """The features that a file holds."""

    @property
    def resident(self) -> list[Tensor]:
        """The tensors of any shape that take main memory, which a cache could win back."""
        return [tensor for tensor in self.tensors.values() if tensor.device.type == "cpu"]

    @property
    def widths(self) -> Mapping[LayerId, int]:
        """The channels of the layers whose features are kept; none of those that are made anew."""
        return {}

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the tensors hold, the noise included."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def _noise_tensors(self) -> dict[str, Tensor]:
        return {} if self.noise_pair is None else self.noise_pair.tensors

    def nearest(self, sigma: float) -> Nearest:
        """The inversion's noise level nearest to `sigma` in log space."""
        distances = [abs(math.log(max(sigma, 1e-9) / stored)) for stored in self.header.sigmas]
        step = min(range(len(distances)), key=distances.__getitem__)
        return Nearest(step, distances[step])

    def __copy__(self) -> ImageFeatures:
        return self

    def __deepcopy__(self, memo: object) -> ImageFeatures:
        # hosts before 0.14 deep-copy what hangs on a model; these are values, never copied
        return self


def layer_bytes(header: FeatureHeader, layer: LayerId, width: int, roles: str) -> int:
    """One layer's features of all pictures at one step, in single precision."""
    held = len(roles if begins_decoder_block(layer) else roles.replace(DETAIL, ""))
    return header.grids[layer].tokens * width * header.batch * held * 4

"""Features that are made anew: the inverted trajectory alone, a thousandth of their size."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from .errors import MagicStyleError
from .features import ROLES, AttentionFeatures, FeatureHeader, ImageFeatures, Replay, View, layer_bytes
from .inventory import WIDE, Inventory, require, require_kind
from .layers import LayerId
from .noise_pair import NoisePair
from .stored_features import StoredFeatures

# what a model is asked with besides the latent and the noise level, and how many axes each has; the first one is b
INPUT_RANKS = {"c_crossattn": 3, "c_concat": 4, "y": 2, "crossattn_controlnet": 3}


class Source(Protocol):
    """The model that made a trajectory, which can run it again."""

    @property
    def weights(self) -> str:
        """The same for models with the same weights."""

    def record(self, trajectory: Trajectory, layers: Collection[LayerId], roles: str) -> StoredFeatures:
        """The features of all its steps, in the live precision."""


class Trajectory(ImageFeatures):
    """Representation `latents`: only the inverted trajectory; its features are made anew at each sampling step.

    `inputs` are the model's other inputs (cross-attention, pooled vectors, ..), the same at every step. `source` is the
    model that made the trajectory, or None after loading from a file.
    """

    representation = "latents"

    def __init__(
        self,
        header: FeatureHeader,
        latents: Tensor,  # steps b c h w
        inputs: Mapping[str, Tensor],
        ends: NoisePair | None = None,
        *,
        source: Source | None = None,
    ) -> None:
        super().__init__(header, ends)
        self.latents = latents
        self.inputs = MappingProxyType(dict(inputs))
        self.source = source

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        inputs = {f"inputs.{name}": tensor for name, tensor in self.inputs.items()}
        return {"latents": self.latents, **inputs, **self._ends()}

    @property
    def roles(self) -> str:
        return ROLES

    @property
    def kept(self) -> str:
        return "latents"

    def view(self, sigma: float, replay: Replay) -> View:
        return replay(self, self.nearest(sigma).step)

    def at(self, layer: LayerId, step: int, roles: str = ROLES) -> AttentionFeatures:
        if self.source is None:
            raise MagicStyleError(
                "bank holds latents from a file, which need a model to become features: "
                "preview the bank before saving it, or invert with storage features."
            )
        header = replace(self.header, sigmas=self.header.sigmas[step : step + 1])
        moment = Trajectory(header, self.latents[step : step + 1], self.inputs, source=self.source)
        return self.source.record(moment, (layer,), roles).at(layer, 0)

    def held_bytes(self, widths: Mapping[LayerId, int], roles: str) -> int:
        return sum(layer_bytes(self.header, layer, width, roles) for layer, width in widths.items())

    def settled(self, weights: str | None, layers: Collection[LayerId], roles: str) -> ImageFeatures:
        if self.source is None or self.source.weights == weights:
            return self
        return self.source.record(self, layers, roles)

    @classmethod
    def check_tensors(cls, own: Inventory, header: FeatureHeader) -> dict[str, int]:
        """Latents steps b c h w, and the model's other inputs, a row for each picture."""
        require_kind(own, "latents", WIDE, (len(header.sigmas), *header.latent_shape))
        inputs = {name.removeprefix("inputs."): kind for name, kind in own.items() if name.startswith("inputs.")}
        require(own.keys() - {"latents"} == {f"inputs.{name}" for name in inputs}, "latents")
        require("c_crossattn" in inputs, "inputs")
        for name, kind in inputs.items():
            require(name in INPUT_RANKS and kind.dtype in WIDE, f"input {name[:60]!r}")
            require(len(kind.shape) == INPUT_RANKS[name] and min(kind.shape) > 0, f"input {name}")
            require(kind.shape[0] == header.batch, f"input {name}")
            require(name != "c_concat" or kind.shape[2:] == header.latent_shape[2:], f"input {name}")
        # the width of what the model is asked with is the model's own
        return {f"width of {name}": kind.shape[1 if name == "c_concat" else -1] for name, kind in inputs.items()}

    @classmethod
    def of_tensors(cls, header: FeatureHeader, tensors: Mapping[str, Tensor], ends: NoisePair | None) -> Trajectory:
        inputs = {name.removeprefix("inputs."): t for name, t in tensors.items() if name.startswith("inputs.")}
        return cls(header, tensors["latents"], inputs, ends)

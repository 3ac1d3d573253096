"""Features that are made anew: the inverted trajectory alone, a thousandth of their size."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from .features import FeatureHeader, ImageFeatures
from .noise_pair import NoisePair

# what a model is asked with besides the latent and the noise level, and how many axes each has; the first one is b
INPUT_RANKS = {"c_crossattn": 3, "c_concat": 4, "y": 2, "crossattn_controlnet": 3}


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

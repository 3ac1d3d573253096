"""Features that are made anew: the inverted trajectory alone, a thousandth of their size."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from torch import Tensor

from ..core.errors import MagicStyleError
from ..core.features import ALL_ROLES, ROLES, AttentionFeatures, View
from ..core.layers import LayerId
from ..core.noise_pair import NoisePair
from .image_features import FeatureHeader, ImageFeatures, Replay, layer_bytes
from .inventory import WIDE, Inventory, require, require_kind
from .level_groups import LevelGroups
from .stored_features import StoredFeatures

# what a model is called with besides the latent and the noise level, and how many axes each has; the first one is b
INPUT_RANKS = {
    "c_crossattn": (3,),
    "c_concat": (4, 5),
    "y": (2,),
    "crossattn_controlnet": (3,),
    "guidance": (1,),
    "attention_mask": (2, 3),
    "clip_text_pooled": (2,),
    "clip_fea": (3,),
    "reference_latent": (4,),
    "time_dim_concat": (5,),
    "ref_latents": (4, 5),
    "ref_contexts": (3,),
    "siglip_feats": (4,),  # b h w c
    "context_latents": (5,),
    "encoder_hidden_states_llama3": (4,),  # HiDream: b layers n c
    "t5xxl_ids": (2,),  # Anima, where its text was not embedded beforehand
    "t5xxl_weights": (3,),
}
LISTS = ("ref_latents", "ref_contexts", "siglip_feats", "context_latents")  # of several tensors each
CHANNELS_SECOND = ("c_concat", "reference_latent", "time_dim_concat", "ref_latents", "context_latents")
CONSTANTS: Mapping[str, tuple[type, ...]] = {"num_tokens": (int, float), "ref_latents_method": (str,)}
WHOLE, COUNTED = ("I64", "I32", "BOOL"), ("attention_mask", "t5xxl_ids")  # which inputs may hold whole numbers
_LISTED = re.compile(rf"({'|'.join(LISTS)})\.(?:0|[1-9]\d?)")
# a tensor, several of them, or a number or word
Input = Tensor | list[Tensor] | bool | int | float | str


def map_inputs(inputs: Mapping[str, Input], change: Callable[[Tensor], Tensor]) -> dict[str, Input]:
    """A model's inputs with every tensor changed, those in lists too."""
    return {name: _mapped(value, change) for name, value in inputs.items()}


def _mapped(value: Input, change: Callable[[Tensor], Tensor]) -> Input:
    if isinstance(value, list):
        return [change(part) for part in value]
    return change(value) if isinstance(value, Tensor) else value


def unkept(inputs: Mapping[str, Any]) -> list[str]:
    """Which of a model's inputs no trajectory can keep for a replay, each with its type; those of None hold nothing."""
    return [f"{name} ({type(value).__name__})" for name, value in given(inputs).items() if not _is_kept(name, value)]


def given(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that hold something, tensors of any shape: None and empty lists do not."""
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor) or value not in (None, [], ())}


def _is_kept(name: str, value: Any) -> bool:
    """Whether an input, a tensor of any shape, is of a name and a kind that trajectories and their files hold."""
    parts = value if name in LISTS and isinstance(value, list) else [value]
    if all(isinstance(part, Tensor) and part.ndim in INPUT_RANKS.get(name, ()) for part in parts):
        return True
    return type(value) in CONSTANTS.get(name, ())


def constants_of(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """The inputs that are no tensors."""
    return {name: value for name, value in inputs.items() if not isinstance(value, (Tensor, list))}


def with_lists(tensors: Mapping[str, Tensor]) -> dict[str, Input]:
    """Tensors called ref_latents.0, ref_latents.1, .. as one list: the inverse of how a trajectory names them."""
    found: dict[str, Input] = {name: tensor for name, tensor in tensors.items() if "." not in name}
    numbered = sorted((name.split(".")[0], int(name.split(".")[1]), name) for name in tensors if "." in name)
    for base in dict.fromkeys(base for base, _, _ in numbered):
        found[base] = [tensors[name] for own, _, name in numbered if own == base]
    return found


class TrajectoryModel(Protocol):
    """The model that made a trajectory, which can run it again."""

    @property
    def resident(self) -> list[Tensor]:
        """What it has recorded, of any shape, that takes main memory."""

    def record(self, trajectory: Trajectory, layers: Collection[LayerId], roles: str) -> StoredFeatures:
        """The features of every latent that is kept, in the live precision."""


class Trajectory(ImageFeatures):
    """Representation `latents`: the inverted trajectory alone; sampling makes its features anew in each group.

    `inputs` are the model's other inputs (cross-attention, pooled vectors, ..), the same at every step. `source` is the
    model that made the trajectory, or None after loading from a file.
    """

    representation = "latents"

    def __init__(
        self,
        header: FeatureHeader,
        latents: Tensor,  # groups b c h w
        inputs: Mapping[str, Input],
        noise_pair: NoisePair | None = None,
        *,
        source: TrajectoryModel | None = None,
    ) -> None:
        super().__init__(header, noise_pair)
        self.latents = latents
        self.inputs = MappingProxyType(dict(inputs))
        self.source = source

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        alone = {name: value for name, value in self.inputs.items() if isinstance(value, Tensor)}
        listed = {name: value for name, value in self.inputs.items() if isinstance(value, list)}
        parts = {f"{name}.{i}": part for name, value in listed.items() for i, part in enumerate(value)}
        inputs = {f"inputs.{name}": tensor for name, tensor in (alone | parts).items()}
        return {"latents": self.latents, **inputs, **self._noise_tensors()}

    @property
    def resident(self) -> list[Tensor]:
        """What was recorded of it for another model, of any shape, goes with it."""
        return super().resident + ([] if self.source is None else self.source.resident)

    @property
    def roles(self) -> str:
        return ALL_ROLES

    @property
    def kept(self) -> str:
        return "latents"

    def view(self, sigma: float, replay: Replay) -> View:
        return replay(self, self.header.groups.of(self.nearest(sigma).step))

    def at(self, layer: LayerId, step: int, roles: str = ROLES) -> AttentionFeatures:
        if self.source is None:
            raise MagicStyleError(
                "bank holds latents from a file, which need a model to become features: "
                "preview the bank before saving it, or invert with storage features."
            )
        group = self.header.groups.of(step)
        header = replace(self.header, sigmas=self.header.kept_sigmas[group : group + 1], every=1)
        moment = Trajectory(header, self.latents[group : group + 1], self.inputs, source=self.source)
        return self.source.record(moment, (layer,), roles).at(layer, 0)

    def held_bytes(self, widths: Mapping[LayerId, int], roles: str) -> int:
        return sum(layer_bytes(self.header, layer, width, roles) for layer, width in widths.items())

    def thinned(self, every: int) -> Trajectory:
        """The same of fewer levels: of those that it keeps, one for every so many."""
        if every == 1:
            return self
        groups = LevelGroups(self.header.groups.count, every)
        header = replace(self.header, sigmas=self.header.kept_sigmas, every=every)
        return Trajectory(header, self.latents[list(groups.kept)], self.inputs, self.noise_pair, source=self.source)

    @classmethod
    def check_tensors(cls, own: Inventory, header: FeatureHeader) -> dict[str, int]:
        """Latents groups b c h w, and the model's other inputs, a row for each picture."""
        require_kind(own, "latents", WIDE, (header.groups.count, *header.latent_shape))
        inputs = {name.removeprefix("inputs."): kind for name, kind in own.items() if name.startswith("inputs.")}
        require(own.keys() - {"latents"} == {f"inputs.{name}" for name in inputs}, "latents")
        require("c_crossattn" in inputs, "inputs")
        widths = {}
        for name, kind in inputs.items():
            listed = _LISTED.fullmatch(name)
            base = listed[1] if listed else name
            dtypes = (*WIDE, *WHOLE) if base in COUNTED else WIDE
            require(base in INPUT_RANKS and kind.dtype in dtypes, f"input {name[:60]!r}")
            require(len(kind.shape) in INPUT_RANKS[base] and min(kind.shape) > 0, f"input {name}")
            require(kind.shape[0] == header.batch, f"input {name}")
            require(base != "c_concat" or kind.shape[2:] == header.latent_shape[2:], f"input {name}")
            # the width of these inputs is the model's own
            if base not in ("guidance", *COUNTED):
                widths[f"width of {base}"] = kind.shape[1 if base in CHANNELS_SECOND else -1]
        return widths

    @classmethod
    def of_tensors(
        cls, header: FeatureHeader, tensors: Mapping[str, Tensor], noise_pair: NoisePair | None
    ) -> Trajectory:
        stored = {name.removeprefix("inputs."): t for name, t in tensors.items() if name.startswith("inputs.")}
        return cls(header, tensors["latents"], {**with_lists(stored), **header.constants}, noise_pair)

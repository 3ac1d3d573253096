"""What two models answer differently: the inversion's and the one that samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from ...banks.bank import FeatureBank
from ..protocols import Model
from .models import weights_id

# replaced parts that are compared by what they do, or that change no answer of the network
COMPARED = ("model_sampling", "latent_format")
NEUTRAL_ROPE = {"scale": 1.0, "shift": 0.0}  # what ScaleROPE's inputs mean that change nothing
TOLERANCE = 1e-4  # of a timestep or a scale


@dataclass(frozen=True)
class Manner:
    """How a model samples, as far as inverted noise and stored features depend on it; it keeps no model alive."""

    timesteps: tuple[float, ...]  # what the network is told of each level
    scales: tuple[float, ...]  # of its input at each level
    predictions: tuple[float, ...]  # the denoised picture at each level from an output of 1 and an input of 2
    positions: Mapping[str, float] = field(default_factory=dict)  # rotary scales and shifts that are not neutral
    parts: frozenset[str] = frozenset()  # what other nodes have replaced in the network

    def __deepcopy__(self, memo: object) -> Manner:
        return self


def manner_of(model: Model, levels: Sequence[float]) -> Manner:
    """How a model samples at noise levels, all of them above zero."""
    sampling, sigmas = model.get_model_object("model_sampling"), torch.tensor(levels)
    ones = torch.ones(len(levels))
    rope = model.model_options["transformer_options"].get("rope_options") or {}
    positions = {name: float(value) for name, value in rope.items() if value != NEUTRAL_ROPE.get(name.split("_")[0])}
    return Manner(
        tuple(sampling.timestep(sigmas).double().tolist()),
        tuple(sampling.calculate_input(sigmas, ones).double().tolist()),
        tuple(sampling.calculate_denoised(sigmas, ones, 2.0 * ones).double().tolist()),
        MappingProxyType(positions),
        frozenset(_parts(model)),
    )


def manner_warnings(bank: FeatureBank, model: Model) -> Iterator[str]:
    """One sentence for each way in which a model samples otherwise than that of the bank's inversions."""
    remedy = "give both DDIM Inversion nodes the MODEL that is sampled with."
    found: dict[str, None] = {}
    for picture in bank.pictures:
        made = picture.header.manner
        if made is not None:
            running = manner_of(model, picture.header.sigmas)
            # how the prediction is read matters to a noise that has to lead back to a portrait
            noised = bank.content is None or picture.header.method == "noising"
            found |= dict.fromkeys(_differences(made, running, noised=noised))
    for difference in found:
        yield f"{difference}: {remedy}"


def _differences(made: Manner, running: Manner, *, noised: bool) -> Iterator[str]:
    """In words; where no inversion led to the noise, it does not matter how the prediction is read."""
    if not _near(made.timesteps, running.timesteps) or not _near(made.scales, running.scales):
        yield (
            "the sampling model tells its network other timesteps than the inversion's model (model_sampling), "
            "so that its features are not those of the same moment"
        )
    elif not noised and not _near(made.predictions, running.predictions):
        yield (
            "the sampling model reads its network's prediction otherwise than the inversion's model (model_sampling), "
            "so that the noise does not lead back to the portrait"
        )
    if made.positions != running.positions:
        yield (
            "the sampling model scales or shifts its rotary positions (rope_options) otherwise than the inversion's, "
            "so that stored queries and keys stand at other places"
        )
    if parts := sorted(made.parts ^ running.parts):
        yield f"one of the sampling model and the inversion's has parts of another node ({', '.join(parts)})"


def answers_alike(made: Model, running: Model, levels: Sequence[float]) -> bool:
    """Whether a replay by the running model gives what the model gives that made a trajectory.

    Its options (patches, overrides, positions) come from the latter, whichever runs; weights, LoRAs that are injected
    beside them, replaced parts and timesteps are the running one's own.
    """
    one, other = (manner_of(model, levels) for model in (made, running))
    return (
        weights_id(made) == weights_id(running)
        and _injected(made) == _injected(running)
        and _parts(made) == _parts(running)
        and _near(one.timesteps, other.timesteps)
        and _near(one.scales, other.scales)
    )


def same_network(one: Model, other: Model) -> bool:
    """Whether two models are clones whose network and noise levels are the same, whatever patches attention has."""
    levels = [float(one.get_model_object("model_sampling").percent_to_sigma(share)) for share in (0.2, 0.5, 0.8)]
    predictions = (manner_of(model, levels).predictions for model in (one, other))
    return answers_alike(one, other, levels) and _near(*predictions)


def _injected(model: Model) -> dict[str, list[int]]:
    """What is put into the network's layers while the model is loaded, such as Load LoRA (Bypass)'s adapters."""
    return {key: [id(part) for part in parts] for key, parts in model.injections.items() if parts}


def _parts(model: Model) -> dict[str, int]:
    """The parts of a network that other nodes have replaced; one that is merely compiled is the same."""
    patches = model.object_patches.items()
    return {
        name: id(part)
        for name, part in patches
        if name not in COMPARED and not hasattr(part, "_orig_mod") and not hasattr(part, "_torchdynamo_orig_callable")
    }


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) + 1e-9 for a, b in pairs)

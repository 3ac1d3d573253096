"""What a user wants of an inversion, and whether that can be: an order, and the checks of its inputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ...attention_patches.architectures.base import HostArchitecture
from ...attention_patches.checks import AUTO
from ...attention_patches.protocols import Model
from ...banks.placement import PRECISIONS
from ...core.errors import MagicStyleError
from ...core.features import DETAIL, RESNET, ROLES
from ...core.grid import Grid
from ...core.inversion import sampling_grid
from ...core.inversion_methods import InversionSettings
from .latent_pair import Latent

# of one attention call: 4 seconds on one core at a width of 128, and growing with the square
MAX_TOKENS_ON_CPU = 128 * 128
KEPT_ROLES = {
    "all": ROLES,
    "queries": "q",
    "keys and values": "kv",
    "all and ResNet": ROLES + RESNET,
    "all and detail": ROLES + DETAIL,
}


@dataclass(frozen=True, eq=False)
class InversionOrder:
    """The inputs of an inversion node, with their defaults."""

    role: str  # content or style
    model: Model
    latent: Latent
    conditioning: list[Any]
    steps: int = 50
    scheduler: str = "ddim_uniform"
    layers: str = AUTO
    storage: str = "auto"
    sigmas: Tensor | None = None  # in place of steps and scheduler
    precision: str = "auto"
    storage_device: str = "auto"
    roles: str = "all"
    method: str = InversionSettings.method
    corrections: int = InversionSettings.corrections
    measure: bool = False
    level_stride: int = 1
    gamma: float = InversionSettings.gamma

    @property
    def settings(self) -> InversionSettings:
        """The method of the inversion, with its options."""
        return InversionSettings(self.method, self.corrections, self.gamma)

    @property
    def dtype(self) -> torch.dtype:
        """How exactly features are kept."""
        return PRECISIONS[self.precision]

    @property
    def kept_roles(self) -> str:
        """Which features are kept, a letter each."""
        return KEPT_ROLES[self.roles]

    @property
    def schedule(self) -> Tensor:
        """The noise levels to walk, descending: n."""
        if self.sigmas is not None:
            return checked_sigmas(self.sigmas)
        sampling = self.model.get_model_object("model_sampling")
        return comfy.samplers.calculate_sigmas(sampling, self.scheduler, self.steps).cpu()

    @property
    def count_note(self) -> list[str]:
        """Why there are other steps than were ordered."""
        made = len(sampling_grid(self.schedule))
        if self.sigmas is not None or made == self.steps:
            return []
        note = f"scheduler {self.scheduler} makes {made} steps where steps says {self.steps}"
        if self.scheduler == "ddim_uniform":
            known = len(self.model.get_model_object("model_sampling").sigmas)
            note += f": it takes {_each(known // self.steps)} of the model's {known} noise levels, from the cleanest on"
        return [note]


def _each(stride: int) -> str:
    """'each' or 'every 2nd', 'every 16th'."""
    if stride < 2:
        return "each"
    ending = "th" if stride % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(stride % 10, "th")
    return f"every {stride}{ending}"


def checked_sigmas(sigmas: Tensor) -> Tensor:
    """A connected schedule n, refused where it does not descend to zero."""
    grid = sampling_grid(sigmas) if len(sigmas) > 1 else sigmas[:0]
    if len(grid) == 0 or not bool((grid > 0).all()) or not bool((grid[:-1] > grid[1:]).all()):
        raise MagicStyleError(
            f"sigmas holds {len(sigmas)} values that do not descend to zero: connect a scheduler's SIGMAS as it is, "
            "not flipped or split to nothing."
        )
    return sigmas.float().cpu()


def check_conditioning(conditioning: list[Any]) -> None:
    """Refuse prompts that do not hold for the whole picture at every step."""
    if len(conditioning) != 1:
        raise MagicStyleError(
            f"conditioning holds {len(conditioning)} prompts, but an inversion follows one: "
            "connect a single CLIPTextEncode, usually with an empty text."
        )
    carried = conditioning[0][1]
    limits = [name for key, name in (("area", "an area"), ("mask", "a mask")) if key in carried]
    if carried.get("start_percent", 0.0) > 0.0 or carried.get("end_percent", 1.0) < 1.0:
        limits.append("a part of the steps")
    if limits:
        raise MagicStyleError(
            f"conditioning is limited to {' and '.join(limits)}, but an inversion follows the whole picture at every "
            "step: connect the prompt from before the node that limits it; the sampler may have the limited one."
        )


def at_guidance_one(architecture: HostArchitecture, conditioning: list[Any]) -> tuple[list[Any], list[str]]:
    """The prompt of an inversion and what was left out of it: a distilled model takes its guidance as an input."""
    (text, carried), *_ = conditioning
    guidance = carried.get("guidance", architecture.host_guidance)
    if not architecture.guided or guidance in (None, 1.0):
        return conditioning, []
    left = f"the guidance of {guidance:g}"
    return [[text, {**carried, "guidance": 1.0}]], [left]


def checked_latent(model: Model, architecture: HostArchitecture, latent: Latent) -> Tensor:
    """The samples of a picture's or a film's LATENT, refused where this model could not have made them.

    They are b c h w, or b c t h w.
    """
    samples = latent["samples"]
    nested = getattr(samples, "is_nested", False)
    samples = samples if nested else comfy.sample.fix_empty_latent_channels(model, samples)
    dimensions = 2 + model.get_model_object("latent_format").latent_dimensions
    if nested or samples.ndim not in (4, 5) or samples.numel() == 0:
        raise MagicStyleError("latent is not a picture latent: connect a VAEEncode of one still picture.")
    frames = Grid(samples.shape[2:]).frames
    if frames > 1 and not architecture.films:
        raise MagicStyleError(
            f"latent holds {frames} frames, and films are inverted with Wan's text to video models alone: connect a "
            "VAEEncode of one still picture, or load such a model."
        )
    if samples.ndim != dimensions:
        raise MagicStyleError(
            "latent comes from the VAE of a model of films, and this is a model of pictures: "
            "encode the picture with the VAE of this checkpoint."
        )
    channels = model.get_model_object("latent_format").latent_channels
    if samples.shape[1] != channels:
        raise MagicStyleError(
            f"latent has {samples.shape[1]} channels but the model takes {channels}: "
            "encode the picture with the VAE of this checkpoint."
        )
    if not bool(torch.isfinite(samples).all()):
        raise MagicStyleError(
            "latent holds NaN or infinite values: the VAE overflowed in half precision; "
            "start ComfyUI with --fp32-vae or load another VAE."
        )
    if int(torch.count_nonzero(samples)) == 0:
        raise MagicStyleError("latent is empty (all zeros): connect a VAEEncode of the picture, not an empty latent.")
    return samples


def check_tokens(model: Model, grids: Collection[Grid], samples: Tensor) -> None:
    """Refuse a latent b c h w on the CPU, one attention call of which would take minutes and hear no interrupt."""
    height, width = samples.shape[-2:]
    tokens = max(grid.tokens for grid in grids)
    if model.load_device.type == "cpu" and tokens > MAX_TOKENS_ON_CPU:
        raise MagicStyleError(
            f"latent is {height}x{width}, a picture of about {8 * height}x{8 * width} pixels: {tokens} tokens in one "
            "attention call, which takes a CPU minutes and cannot be interrupted; scale the picture first, with Scale "
            "Image to Max Dimension to 512 or 1024."
        )

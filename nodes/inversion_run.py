"""A DDIM inversion inside the host: its loading, sampling, previews, progress and interrupts, our walk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import folder_paths
import latent_preview
import torch
from torch import Tensor

from ..attention_patches.capture import Recorder, TrajectoryRecorder
from ..attention_patches.host import check_model, install_capture, plain_model, weights_id
from ..attention_patches.model_facts import (
    Model,
    model_id,
    self_attention_grids,
    self_attention_heads,
    self_attention_widths,
)
from ..core.errors import MagicStyleError
from ..core.features import RESNET, FeatureHeader, FeatureWriter, ImageFeatures, feature_bytes
from ..core.inversion import Record, sampling_grid, steps_together
from ..core.inversion_methods import InversionSettings, Inverted, RoundTrip, invert_latent
from ..core.layers import LayerId, select_layers
from ..core.placement import PRECISIONS, Allocate, OnDisk, in_memory, narrowed, page_locked, settle_place
from ..core.regions import Grid
from .exact_sampler import exact_sampler
from .latent_pair import KEY, Latent, noise_latent, required_pair
from .report import Walk, inversion_report, readable_bytes

# what a conditioning may carry beside its text
UNREPEATABLE = {"control": "a ControlNet", "hooks": "hooks"}
KEEP = {"all": "qkv", "queries": "q", "keys and values": "kv", "all and ResNet": "qkvx"}


class Inversion(NamedTuple):
    """The outputs of an inversion node, in their order."""

    noise: Latent
    features: ImageFeatures
    sigmas: Tensor
    report: str


class InversionSampler(comfy.samplers.Sampler):
    """The host's Sampler around `invert_latent`; unlike KSAMPLER it adds no noise to what it is given."""

    def __init__(self, settings: InversionSettings, record: Record) -> None:
        self._settings = settings
        self._record = record
        self.clean: Tensor | None = None
        self.inverted: Inverted | None = None
        self.companion: Tensor | None = None  # in the host's LATENT convention

    def sample(
        self,
        model_wrap: Callable[..., Tensor],
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[[int, Tensor, Tensor, int], None] | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Called by the host with everything on the model's device, the latent in the model's scale."""
        total = len(sampling_grid(sigmas))

        def report_step(state: dict[str, Any]) -> None:
            if callback is not None:
                callback(state["i"], state["denoised"], state["x"], total)

        self.clean = latent_image
        self.inverted = invert_latent(
            model_wrap, latent_image, sigmas, self._settings, extra_args, report_step, record=self._record
        )
        if self.inverted.companion is not None:
            self.companion = model_wrap.inner_model.process_latent_out(self.inverted.companion.float())
        return self.inverted.noise


class Budget(NamedTuple):
    """What an inversion will keep, decided before it runs."""

    storage: str  # features or latents
    estimate: int  # bytes of the features, whether they are kept or not
    reason: str


def invert(
    role: str,
    model: Model,
    latent: Latent,
    conditioning: list[Any],
    steps: int,
    scheduler: str,
    layers: str,
    storage: str = "auto",
    sigmas: Tensor | None = None,
    precision: str = "auto",
    place: str = "auto",
    keep: str = "all",
    method: str = "ddim",
    corrections: int = InversionSettings.corrections,
    measure: bool = False,
) -> Inversion:
    """Invert a LATENT; keep the self-attention features that pass by, or the trajectory that can replay them."""
    settings = InversionSettings(method, corrections)
    check_model(model)
    samples = _check_latent(model, latent)
    _check_conditioning(conditioning)
    sigmas = _schedule(model, steps, scheduler) if sigmas is None else _check_sigmas(sigmas)
    dtype, roles = PRECISIONS[precision], KEEP[keep]
    levels = tuple(sampling_grid(sigmas).tolist())
    grids = _grids(model, layers, samples)
    _check_resnet(roles, grids, layers)
    widths = self_attention_widths(model)
    estimate = feature_bytes(grids, widths, len(levels), samples.shape[0], roles, dtype)
    budget = _budget(storage, place, estimate, conditioning)
    plain, removed = plain_model(model)
    heads = {layer: count for layer, count in self_attention_heads(model).items() if layer in grids}
    header = FeatureHeader(model_id(model), method, levels, tuple(samples.shape), grids, heads)
    kept = latent_precision(dtype)
    recorder: Recorder | TrajectoryRecorder = TrajectoryRecorder(len(levels), kept)
    if budget.storage == "features":
        writer = FeatureWriter(tuple(grids), len(levels), roles, dtype, allocator(place, model, estimate))
        recorder = Recorder(writer)
    sampler = InversionSampler(settings, recorder.recording)
    together = steps_together(samples.shape[0], len(levels)) if method == "noising" else 1
    started = time.perf_counter()
    noise = _walk(install_capture(plain, recorder, together=together), sampler, samples, conditioning, sigmas)
    seconds = time.perf_counter() - started
    _check_finite(noise)
    result = noise_latent(noise, sampler.companion, levels)
    features = recorder.close(header, *_kept_ends(result, kept), source=plain, weights=weights_id(plain))
    trip = _round_trip(plain, method, result, samples, conditioning, sigmas) if measure else None
    walk = Walk(method, sampler.inverted, sampler.clean, seconds, trip)
    report = inversion_report(role, features, walk, [budget.reason, *_left_out(removed)])
    return Inversion(result, features, sigmas, report)


def _kept_ends(noise: Latent, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Noise and companion as a bank keeps them: a reversible pair is worth no more than its digits."""
    pair = noise.get(KEY)
    if pair is None:
        return narrowed(noise["samples"], dtype), None
    return pair.noise.float(), pair.companion.float()


def _round_trip(
    model: Model, method: str, noise: Latent, clean: Tensor, conditioning: list[Any], sigmas: Tensor
) -> RoundTrip | None:
    """Sample the noise back with what belongs to the method, nothing fused; None where nothing was inverted."""
    if method == "noising":
        return None
    exact = method == "exact"
    sampler = exact_sampler(required_pair(noise)) if exact else comfy.samplers.sampler_object("ddim")
    schedule = torch.cat([sampling_grid(sigmas), sigmas.new_zeros(1)])
    back = _walk(model, sampler, noise["samples"], conditioning, schedule)
    return RoundTrip.between(back, clean)


def _check_finite(noise: Tensor) -> None:
    if not bool(torch.isfinite(noise).all()):
        raise MagicStyleError(
            "model gave NaN or infinite values during the inversion: its weights overflow in half precision; "
            "start ComfyUI with --force-fp32, or load another checkpoint."
        )


def _check_resnet(roles: str, grids: dict[LayerId, Grid], layers: str) -> None:
    if "x" in roles and RESNET not in grids:
        raise MagicStyleError(
            f"keep asks for the ResNet of output block {RESNET.number}, which layers '{layers}' leaves out: "
            f"add output.{RESNET.number} to layers."
        )


def _left_out(removed: list[str]) -> list[str]:
    return [f"left out of the inversion: {', '.join(removed)}"] if removed else []


def _grids(model: Model, layers: str, samples: Tensor) -> dict[LayerId, Grid]:
    every = self_attention_grids(model, (samples.shape[2], samples.shape[3]))
    return {layer: every[layer] for layer in select_layers(layers, every)}


def latent_precision(dtype: torch.dtype) -> torch.dtype:
    """Latents are small and must stay exact: eight bits serve features alone."""
    return torch.float16 if dtype.itemsize == 1 else dtype


def allocator(place: str, model: Model, estimate: int) -> Allocate:
    """Where features go, and how: `estimate` is their size in bytes."""
    device = model.load_device
    on_device = comfy.model_management.get_free_memory(device) - model.model_size()
    place = settle_place(place, device, estimate, on_device)
    if place == "disk":
        return OnDisk(Path(folder_paths.get_temp_directory()))
    if place == "gpu":
        return in_memory(device)
    # page-locked memory is rounded up to powers of two, and the system can never move it out
    copied = device.type == "cuda" and 4 * estimate <= free_memory()
    return page_locked if copied else in_memory()


def free_memory() -> int:
    """Bytes of main memory that the host reports as free."""
    return comfy.model_management.get_free_memory(torch.device("cpu"))


def _budget(storage: str, place: str, estimate: int, conditioning: list[Any]) -> Budget:
    """`features` while they fit half of the free memory, since two pictures come; else `latents`."""
    carried = [name for key, name in UNREPEATABLE.items() if key in conditioning[0][1]]
    if storage == "latents" and carried:
        raise MagicStyleError(
            f"conditioning carries {' and '.join(carried)}, which a replay of latents cannot repeat: "
            "choose storage features, or invert with a plain prompt."
        )
    free = free_memory()
    sizes = f"features were estimated at {readable_bytes(estimate)}, {readable_bytes(free)} of memory were free"
    if storage == "auto":
        fits = place == "disk" or estimate <= free / 2
        storage = "features" if carried or fits else "latents"
    return Budget(storage, estimate, f"storage {storage}: {sizes}")


def _walk(
    model: Model, sampler: comfy.samplers.Sampler, samples: Tensor, conditioning: list[Any], sigmas: Tensor
) -> Tensor:
    callback = latent_preview.prepare_callback(model, len(sigmas) - 1)
    return comfy.sample.sample_custom(
        model,
        torch.zeros_like(samples),
        1.0,
        sampler,
        sigmas,
        conditioning,
        conditioning,
        samples,
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=0,
    )


def _schedule(model: Model, steps: int, scheduler: str) -> Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps).cpu()


def _check_sigmas(sigmas: Tensor) -> Tensor:
    grid = sampling_grid(sigmas) if len(sigmas) > 1 else sigmas[:0]
    if len(grid) == 0 or not bool((grid > 0).all()) or not bool((grid[:-1] > grid[1:]).all()):
        raise MagicStyleError(
            f"sigmas holds {len(sigmas)} values that do not descend to zero: connect a scheduler's SIGMAS as it is, "
            "not flipped or split to nothing."
        )
    return sigmas.float().cpu()


def _check_conditioning(conditioning: list[Any]) -> None:
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


def _check_latent(model: Model, latent: Latent) -> Tensor:
    samples = latent["samples"]
    if getattr(samples, "is_nested", False) or samples.ndim != 4 or samples.numel() == 0:
        raise MagicStyleError("latent is not a picture latent: connect a VAEEncode of one still picture.")
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

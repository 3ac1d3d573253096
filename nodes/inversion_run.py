"""An inversion inside the host: its loading, sampling, previews, progress and interrupts, our walk.

An order becomes a plan before anything runs; the walk follows the plan and ends in noise; closing makes the outputs.
"""

from __future__ import annotations

import time
from functools import partial
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

from ..attention_patches.architectures import Architecture, find
from ..attention_patches.architectures.base import Parametrization
from ..attention_patches.capture import RECORDERS, AnyRecorder, Wanted
from ..attention_patches.checks import named
from ..attention_patches.host import ModelSource, check_model, install_capture, install_start, plain_model
from ..attention_patches.protocols import Model
from ..core.errors import MagicStyleError
from ..core.features import RESNET, FeatureHeader, ImageFeatures
from ..core.inversion import sampling_grid, with_zero
from ..core.inversion_methods import Inverted, RoundTrip
from ..core.layers import LayerId, select_layers
from ..core.noise_pair import NoisePair
from ..core.placement import Allocate, OnDisk, in_memory, latent_precision, narrowed, page_locked, settle_place
from ..core.regions import Grid
from ..core.stored_features import feature_bytes
from .inversion_budget import Budget, Need, settle_budget
from .inversion_order import InversionOrder, at_guidance_one, check_conditioning, check_tokens, checked_latent
from .inversion_sampler import InversionSampler, InvertedNoise
from .latent_pair import Latent, noise_latent
from .report import Walk, inversion_report
from .samplers import host_sampler


class Inversion(NamedTuple):
    """The outputs of an inversion node, in their order."""

    noise: Latent
    features: ImageFeatures
    sigmas: Tensor
    report: str
    start: InvertedNoise


class Plan(NamedTuple):
    """An order whose inputs were checked, and all that is settled before the walk."""

    order: InversionOrder
    samples: Tensor  # b c h w, in the host's LATENT convention
    prompt: list[Any]
    sigmas: Tensor  # the schedule
    header: FeatureHeader
    budget: Budget
    model: Model  # plain
    removed: list[str]  # what makes it plain


class Walked(NamedTuple):
    """The end of a walk: in the host's LATENT convention, and in the model's scale."""

    ends: NoisePair
    inverted: Inverted
    clean: Tensor  # b c h w, in the model's scale
    seconds: float
    start: InvertedNoise


def invert(*inputs: Any, **chosen: Any) -> Inversion:
    """Invert a LATENT; keep the self-attention features that pass by, or the trajectory that can replay them.

    The arguments are those of `InversionOrder`.
    """
    plan = plan_inversion(InversionOrder(*inputs, **chosen))
    recorder = _recorder(plan)
    return _close(plan, recorder, _walk_up(plan, recorder))


def plan_inversion(order: InversionOrder) -> Plan:
    """Check every input, the cheapest first, and decide what will be kept."""
    settings, model = order.settings, order.model
    check_model(model)
    samples = checked_latent(model, order.latent)
    check_conditioning(order.conditioning)
    sigmas = order.schedule
    levels = tuple(settings.way.levels(sigmas).tolist())
    check_tokens(model, samples)
    grids = _grids(model, order.layers, samples)
    architecture = find(model)
    resnet = _resnet(architecture, grids, order.layers) if RESNET in order.roles else {}
    level = feature_bytes(grids, architecture.widths, 1, samples.shape[0], order.roles, order.dtype, resnet)
    need = Need(len(levels), level, samples.numel() * latent_precision(order.dtype).itemsize)
    flow = architecture.parametrization is Parametrization.FLOW
    budget = settle_budget(order, need, free_memory(), flow=flow)
    plain, removed = plain_model(model)
    prompt, left = at_guidance_one(model, order.conditioning)
    depth = architecture.depth(prompt[0][0].shape[1])
    heads = {layer: facts.heads for layer, facts in architecture.layers.items() if layer in grids}
    shape, every = tuple(samples.shape), budget.every
    header = FeatureHeader(architecture.id, settings.method, levels, shape, grids, heads, depth, every=every)
    return Plan(order, samples, prompt, sigmas, header, budget, plain, [*removed, *left])


def _recorder(plan: Plan) -> AnyRecorder:
    order, header = plan.order, plan.header
    room = partial(allocator, order.place, order.model, plan.budget.estimate)
    return RECORDERS[plan.budget.storage](Wanted(header.layers, header.groups, order.roles, order.dtype, room))


def _walk_up(plan: Plan, recorder: AnyRecorder) -> Walked:
    settings = plan.order.settings
    sampler = InversionSampler(settings, recorder.recording)
    together = settings.way.steps_per_call(plan.header.batch, len(plan.header.sigmas))
    captured = install_capture(plan.model, recorder, together=together)
    started = time.perf_counter()
    noise = _walk(captured, sampler, plan.samples, plan.prompt, plan.sigmas)
    seconds = time.perf_counter() - started
    ended = sampler.ended
    ends = NoisePair(noise, None if ended.companion is None else ended.companion.to(noise.device))
    for end in ends.tensors.values():
        _check_finite(end)
    return Walked(ends, ended.inverted, ended.clean, seconds, ended.start)


def _close(plan: Plan, recorder: AnyRecorder, walked: Walked) -> Inversion:
    order, header = plan.order, plan.header
    schedule = tuple(sampling_grid(plan.sigmas).tolist())
    result = noise_latent(walked.ends, schedule)
    kept = _kept_ends(walked.ends, latent_precision(order.dtype))
    features = recorder.close(header, kept, source=ModelSource(plan.model))
    trip = _round_trip(plan, result) if order.measure and order.settings.way.inverts else None
    flow = find(plan.model).parametrization is Parametrization.FLOW
    walk = Walk(order.method, walked.inverted, walked.clean, schedule, walked.seconds, trip, flow)
    report = inversion_report(
        order.role, features, walk, [*order.count_note, plan.budget.reason, *_left_out(plan.removed)]
    )
    return Inversion(result, features, plan.sigmas, report, walked.start)


def _kept_ends(ends: NoisePair, dtype: torch.dtype) -> NoisePair:
    """What a bank keeps, b c h w each: a reversible pair is worth no more than its digits."""
    return NoisePair(narrowed(ends.noise, dtype)) if ends.companion is None else ends.mapped(Tensor.float)


def _round_trip(plan: Plan, noise: Latent) -> RoundTrip:
    """Sample the noise back with what belongs to the method, nothing fused."""
    sampler = host_sampler(plan.order.method, noise)
    back = _walk(install_start(plan.model), sampler, noise["samples"], plan.prompt, with_zero(plan.sigmas))
    return RoundTrip.between(back, plan.samples)


def _check_finite(noise: Tensor) -> None:
    if not bool(torch.isfinite(noise).all()):
        raise MagicStyleError(
            "model gave NaN or infinite values during the inversion: its weights overflow in half precision; "
            "start ComfyUI with --force-fp32, or load another checkpoint."
        )


def _resnet(architecture: Architecture, grids: dict[LayerId, Grid], layers: str) -> dict[LayerId, int]:
    """The layer whose block begins with the ResNet that is kept, and the channels that enter it."""
    if architecture.resnet is None:
        raise MagicStyleError("keep asks for a ResNet, and this model has none that a method copies: set keep to all.")
    (block, number, _), channels = architecture.resnet
    if architecture.resnet.layer not in grids:
        raise MagicStyleError(
            f"keep asks for the ResNet of {block} block {number}, which layers '{layers}' leaves out: "
            f"add {block}.{number} to layers."
        )
    return {architecture.resnet.layer: channels}


def _left_out(removed: list[str]) -> list[str]:
    return [f"left out of the inversion: {', '.join(removed)}"] if removed else []


def _grids(model: Model, layers: str, samples: Tensor) -> dict[LayerId, Grid]:
    architecture = find(model)
    every = architecture.grids((samples.shape[-2], samples.shape[-1]))
    return {layer: every[layer] for layer in select_layers(named(layers, architecture.kept_layers), every)}


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

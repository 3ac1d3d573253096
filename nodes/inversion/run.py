"""An inversion inside the host: its loading, sampling, previews, progress and interrupts, our walk.

An order becomes a plan before anything runs; the walk follows the plan and ends in noise; closing makes the outputs.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor

from ...attention_patches.architectures import Architecture
from ...attention_patches.architectures.base import HostArchitecture
from ...attention_patches.architectures.transformer import sizes_of
from ...attention_patches.capture import RECORDERS, AnyRecorder, RecordingSpec
from ...attention_patches.checks import named
from ...attention_patches.comfy import ModelSource, check_model, install_capture, install_start, manner_of, plain_model
from ...attention_patches.comfy.memory import allocator, free_memory, free_on_device, free_on_disk
from ...attention_patches.comfy.others import looks_in_windows
from ...attention_patches.model_call import UnrepeatableInputError
from ...attention_patches.protocols import Model
from ...banks.image_features import FeatureHeader, ImageFeatures
from ...banks.placement import latent_precision, narrowed
from ...banks.stored_features import feature_bytes
from ...core.detail import begins_decoder_block
from ...core.errors import MagicStyleError
from ...core.features import DETAIL, RESNET
from ...core.grid import Grid
from ...core.inversion import pictures, with_zero
from ...core.inversion_methods import RoundTrip
from ...core.layers import LayerId, select_layers
from ...core.noise_pair import NoisePair
from ..report import inversion_report
from ..samplers import host_sampler
from .budget import Budget, Free, MemoryNeed, settle_budget
from .latent_pair import Latent, noise_latent
from .order import InversionOrder, at_guidance_one, check_conditioning, check_tokens, checked_latent
from .result import InversionResult, InvertedNoise
from .sampler import InversionSampler


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
    architecture: HostArchitecture
    samples: Tensor  # b c h w, in the host's LATENT convention
    prompt: list[Any]
    sigmas: Tensor  # the schedule
    header: FeatureHeader
    budget: Budget
    model: Model  # plain
    removed: list[str]  # what makes it plain


def invert(*inputs: Any, **chosen: Any) -> Inversion:
    """Invert a LATENT; keep the self-attention features that pass by, or the trajectory that can replay them.

    The arguments are those of `InversionOrder`.
    """
    order = InversionOrder(*inputs, **chosen)
    try:
        return _carried_out(plan_inversion(order))
    except UnrepeatableInputError:
        if order.storage != "auto":
            raise
        # the model's first call says what its inputs are, and no latents can do without them
        return _carried_out(plan_inversion(order, repeatable=False))


def _carried_out(plan: Plan) -> Inversion:
    recorder = _recorder(plan)
    return _close(plan, recorder, _walk_up(plan, recorder))


def plan_inversion(order: InversionOrder, *, repeatable: bool = True) -> Plan:
    """Check every input, the cheapest first, and decide what will be kept, with a replay in mind or without."""
    settings, model = order.settings, order.model
    architecture = check_model(model)
    samples = checked_latent(model, architecture, order.latent)
    check_conditioning(order.conditioning)
    sigmas = order.schedule
    levels = tuple(settings.spec.levels(sigmas).tolist())
    all_grids = architecture.grids(tuple(samples.shape[2:]))
    check_tokens(model, all_grids.values(), samples)
    chosen = select_layers(named(order.layers, architecture.kept_layers), all_grids)
    grids = {layer: all_grids[layer] for layer in chosen}
    need = _need(order, architecture, grids, samples, len(levels))
    budget = settle_budget(order, need, _free(order), large=architecture.large, repeatable=repeatable)
    plain, removed = _plain(model, architecture, Grid(samples.shape[2:]).frames, budget.storage)
    prompt, left = at_guidance_one(architecture, order.conditioning)
    text, carried = prompt[0]
    depth = architecture.depth(text.shape[1], sizes_of(carried.get("reference_latents")))
    heads = {layer: facts.heads for layer, facts in architecture.layers.items() if layer in grids}
    header = FeatureHeader(
        architecture.id,
        settings.method,
        levels,
        tuple(samples.shape),
        grids=grids,
        heads=heads,
        depth=depth,
        every=budget.every,
        manner=manner_of(plain, levels),
    )
    return Plan(
        order=order,
        architecture=architecture,
        samples=samples,
        prompt=prompt,
        sigmas=sigmas,
        header=header,
        budget=budget,
        model=plain,
        removed=[*removed, *left],
    )


def _need(
    order: InversionOrder, architecture: HostArchitecture, grids: dict[LayerId, Grid], samples: Tensor, levels: int
) -> MemoryNeed:
    """What keeping the grids' layers of a latent b c h w takes."""
    resnet = _resnet(architecture, grids, order.layers) if RESNET in order.kept_roles else {}
    if DETAIL in order.kept_roles:
        _check_detail(grids, order.layers)
    level = feature_bytes(grids, architecture.widths, 1, samples.shape[0], order.kept_roles, order.dtype, resnet)
    return MemoryNeed(levels, level, samples.numel() * latent_precision(order.dtype).itemsize)


def _plain(model: Model, architecture: HostArchitecture, frames: int, storage: str) -> tuple[Model, list[str]]:
    """The model to invert with, and what was left out of it: context windows over a film's frames are not."""
    plain, removed = plain_model(model, architecture, windows=frames > 1)
    if storage == "features" and looks_in_windows(plain, frames):
        raise MagicStyleError(
            "model goes over the film in context windows, in which no layer is seen whole: set storage to latents, or "
            "take the windows off the inversion's model; the sampler's may have them."
        )
    return plain, removed


def _recorder(plan: Plan) -> AnyRecorder:
    order, header = plan.order, plan.header
    room = partial(allocator, order.storage_device, order.model, plan.budget.estimate)
    return RECORDERS[plan.budget.storage](
        RecordingSpec(header.layers, header.groups, order.kept_roles, order.dtype, room)
    )


def _walk_up(plan: Plan, recorder: AnyRecorder) -> InversionResult:
    settings = plan.order.settings
    sampler = InversionSampler(settings, recorder.recording)
    together = settings.spec.steps_per_call(pictures(plan.samples), len(plan.header.sigmas))
    captured = install_capture(plan.model, plan.architecture, recorder, together=together)
    started = time.perf_counter()
    noise = _walk(captured, sampler, plan.samples, plan.prompt, plan.sigmas)
    result = sampler.result(noise, time.perf_counter() - started)
    for end in result.latents.tensors.values():
        _check_finite(end)
    return result


def _close(plan: Plan, recorder: AnyRecorder, result: InversionResult) -> Inversion:
    order, noise = plan.order, noise_latent(result.latents, result.sigmas)
    kept = _kept_noise(result.latents, latent_precision(order.dtype))
    features = recorder.close(plan.header, kept, source=ModelSource(plan.model))
    trip = _round_trip(plan, noise) if order.measure and order.settings.spec.inverts else None
    notes = [*order.count_note, plan.budget.reason, *_left_out(plan.removed), *_unreplayed(plan)]
    report = inversion_report(order.role, features, result, trip, notes)
    return Inversion(noise, features, plan.sigmas, report, result.start)


def _kept_noise(noise_pair: NoisePair, dtype: torch.dtype) -> NoisePair:
    """What a bank keeps, b c h w each: a reversible pair is worth no more than its digits."""
    reversible = noise_pair.step_from is not None
    return noise_pair.map(Tensor.float) if reversible else NoisePair(narrowed(noise_pair.noise, dtype))


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
        raise MagicStyleError(
            "roles is 'all and ResNet', but this model has no ResNet that a method copies: set roles to all."
        )
    (block, number, _), channels = architecture.resnet
    if architecture.resnet.layer not in grids:
        raise MagicStyleError(
            f"roles is 'all and ResNet', but the ResNet lies in {block} block {number}, which layers '{layers}' leaves "
            f"out: add {block}.{number} to layers."
        )
    return {architecture.resnet.layer: channels}


def _check_detail(grids: dict[LayerId, Grid], layers: str) -> None:
    """Refuse to keep what a decoder's ResNets add where no layer that is kept lies behind one."""
    if not any(begins_decoder_block(layer) for layer in grids):
        raise MagicStyleError(
            f"roles is 'all and detail', but layers '{layers}' hold no decoder block of a UNet: set roles to all, or "
            "add output blocks to layers."
        )


def _free(order: InversionOrder) -> Free:
    """What is free where the order places features; `auto` places them in main memory unless they are small."""
    if order.storage_device == "gpu":
        return Free(free_on_device(order.model), "GPU memory", 4)  # sampling wants the other half
    return Free(free_on_disk(), "disk space") if order.storage_device == "disk" else Free(free_memory())


def _unreplayed(plan: Plan) -> list[str]:
    """What of the inversion's model no replay of its latents has."""
    wrapped = plan.budget.storage == "latents" and "model_function_wrapper" in plan.model.model_options
    note = "another node has wrapped the model: its function wrapper acts in the inversion and not in replays"
    return [f"{note}; choose storage features if that matters"] if wrapped else []


def _left_out(removed: list[str]) -> list[str]:
    return [f"left out of the inversion: {', '.join(removed)}"] if removed else []


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

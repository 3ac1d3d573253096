"""Where the patches meet the host: always a clone of the model, always the host's own wrappers, nothing global.

The override is put in place late, inside an APPLY_MODEL wrapper and for one model call only: whatever override other
nodes have set by then (Sage, KJ and others simply assign) is called from ours, so the nodes' order does not matter.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..core.errors import MagicStyleError
from ..core.features import (
    ROLES,
    AttentionFeatures,
    FeatureBank,
    FeatureWriter,
    ImageFeatures,
    StoredFeatures,
    Trajectory,
)
from ..core.fusion import METHODS, FusionSettings, Moment
from ..core.layers import LayerId
from ..core.regions import Window
from .call_site import AREAS, NEGATIVE, hooked, replaced_layers, sigma_of
from .capture import Recorder, TrajectoryRecorder
from .checks import check_bank, check_roles, check_run, stored_layers
from .fusion_patch import FusionPatch, SigmaWindow, StepView, coverage_warning, nearest_view
from .model_facts import Model, self_attention_widths
from .prefetch import CudaLane, prefetched
from .replay import REPLAY, Catcher, model_inputs, replay_view
from .word_reader import WordReader

logger = logging.getLogger("magicstyle")
KEY = "magicstyle"
# from a guider's prediction to its batches: (is negative, uuids of its conds) for each prompt
PROMPTS = "magicstyle_prompts"
# guidance that adds passes or bends the prediction has no place in an inversion
GUIDANCE = {
    "sampler_cfg_function": "CFG function",
    "sampler_pre_cfg_function": "pre-CFG functions",
    "sampler_post_cfg_function": "post-CFG functions",
    "sampler_calc_cond_batch_function": "batch function",
    "disable_cfg1_optimization": "forced CFG pass",
}


def check_model(model: Model) -> None:
    """Refuse models whose parametrisation the method does not know."""
    if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        raise MagicStyleError(
            f"model ({type(model.model).__name__}) is a flow-matching model, which has no DDIM inversion: "
            "load an SD1.5, SD2.1 or SDXL checkpoint."
        )
    self_attention_widths(model)


def weights_id(model: Model) -> str:
    """The same for models with the same weights, LoRAs included; another for every load of a checkpoint."""
    return f"{id(model.model)}.{model.patches_uuid}"


def plain_model(model: Model) -> tuple[Model, list[str]]:
    """A clone without guidance functions and without our own patches, and the names of what was left out."""
    plain = model.clone()
    removed = [name for option, name in GUIDANCE.items() if plain.model_options.pop(option, None)]
    removed += ["self-attention patches"] if _without_self_attention_patches(plain) else []
    for wrappers in plain.wrappers.values():
        ours = [key for key in wrappers if key is not None and key.startswith(KEY)]
        removed += ["FFA Model Patcher"] if ours else []
        for key in ours:
            del wrappers[key]
    return plain, list(dict.fromkeys(removed))


def _without_self_attention_patches(plain: Model) -> bool:
    """Take off what merges or tiles tokens or answers instead: features are kept per token. Whether there was any."""
    options = plain.model_options["transformer_options"] = dict(plain.model_options["transformer_options"])
    patches, replacements = dict(options.get("patches", {})), dict(options.get("patches_replace", {}))
    found = [patches.pop(name, None) for name in ("attn1_patch", "attn1_output_patch")]
    found.append(replacements.pop("attn1", None))
    for name, kept in (("patches", patches), ("patches_replace", replacements)):
        if name in options:
            options[name] = kept
    return any(found)


def install_capture(model: Model, recorder: Recorder | TrajectoryRecorder, *, together: int = 1) -> Model:
    """A clone of the model that shows the recorder what passes by, in calls of `together` steps."""

    def apply_model(executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if isinstance(recorder, TrajectoryRecorder):
            recorder.see_inputs(model_inputs(args, kwargs))
            return executor(*args, **kwargs)
        with hooked(_options(args), recorder.handle, resnet=recorder.resnet):
            return executor(*args, **kwargs)

    def prepare_sampling(
        executor: Callable[..., Any], patcher: Model, shape: Sequence[int], *args: Any, **kw: Any
    ) -> Any:
        return executor(patcher, [shape[0] * together, *shape[1:]], *args, **kw)

    captured = model.clone()
    captured.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}.capture", apply_model)
    captured.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, f"{KEY}.capture", prepare_sampling)
    return captured


def install_word_reader(model: Model, reader: WordReader) -> Model:
    """A clone of the model that shows the reader its self- and cross-attention."""

    def apply_model(executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        with hooked(_options(args), reader.see_self, cross=reader.see_cross):
            return executor(*args, **kwargs)

    reading = model.clone()
    reading.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}.words", apply_model)
    return reading


def install_fusion(
    model: Model, bank: FeatureBank, settings: FusionSettings, layers: str, start_percent: float, end_percent: float
) -> Model:
    """A clone of the model whose chosen self-attention layers fuse the bank's features."""
    check_model(model)
    check_bank(model, bank)
    sampling = model.get_model_object("model_sampling")
    window = SigmaWindow(sampling.percent_to_sigma(start_percent), sampling.percent_to_sigma(end_percent))
    patch = FusionPatch(bank, settings, stored_layers(model, bank, layers), window)
    check_roles(patch.pictures(bank), settings.method)
    fusion = _Fusion(patch, sampling, patch.extra_bytes(self_attention_widths(model)))
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, fusion.key, fusion.apply_model)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, fusion.key, fusion.calc_cond_batch)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, fusion.key, fusion.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, fusion.key, fusion.prepare_sampling)
    if METHODS[settings.method].conditional:
        patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, fusion.key, fusion.predict_noise)
    return patched


class _Fusion:
    """The host's wrappers of one FFA Model Patcher; shared by threads and runs, hence never changed."""

    def __init__(self, patch: FusionPatch, sampling: Any, room: int) -> None:
        self.patch = patch
        self.sampling = sampling
        self.room = room
        # a key of its own: two patchers in one graph both stay
        self.key = f"{KEY}.fusion.{uuid.uuid4().hex}"

    def __deepcopy__(self, memo: object) -> _Fusion:
        return self

    def apply_model(self, executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """One model call: with the fusion inside the window, as it is outside and for replays."""
        options, patch = _options(args), self.patch
        sigma = sigma_of(options, args[1])
        if options.get(REPLAY) or sigma not in patch.window:
            return executor(*args, **kwargs)
        run = options.get(self.key) or _Run(patch.bank)
        views = _views(run.bank, patch, executor, sigma, args)
        moment = Moment(patch.progress(sigma), _noise_share(self.sampling, sigma))
        missed: list[LayerId] = []
        handler, resnet = patch.handler(views, moment), patch.resnet_handler(views[0], moment)
        with hooked(options, handler, resnet=resnet, missed=lambda site: missed.append(site.layer)):
            out = executor(*args, **kwargs)
        run.warn("replaces", replaced_layers(options, patch.layers))
        run.warn("merges or tiles the tokens of", patch.layers.intersection(missed))
        return out

    def outer_sample(self, executor: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """One sampling run: checked first."""
        bank, guider = self.patch.bank, executor.class_obj
        check_run(bank, latent=args[1])
        if warning := coverage_warning(bank, args[3]):
            logger.warning("FFA Model Patcher: %s", warning)
        # the guider's options live for this run alone
        options = guider.model_options["transformer_options"]
        options[self.key] = _Run(_with_other_weights_recorded(guider, bank, self.patch))
        return executor(*args, **kwargs)

    def calc_cond_batch(
        self,
        executor: Callable[..., Any],
        model: Any,
        conds: Sequence[Any],
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The model's answers to lists of conds: says which lists are negative, and which conds see a part alone."""
        return executor(model, conds, x, timestep, _with_conds_named(model_options, conds, x), *args, **kwargs)

    def predict_noise(
        self,
        executor: Callable[..., Tensor],
        x: Tensor,
        timestep: Tensor,
        model_options: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """One prediction of a guider: says what its prompts are."""
        return executor(x, timestep, _with_prompts_named(model_options, executor.class_obj), *args, **kwargs)

    def prepare_sampling(
        self, executor: Callable[..., Any], patcher: Model, shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> Any:
        """The host's reckoning of what a run needs."""
        return executor(patcher, _with_room(patcher, shape, self.room), *args, **kwargs)


class _Run:
    """What one sampling run of a patcher holds: its features, and what it has already warned of."""

    def __init__(self, bank: FeatureBank) -> None:
        self.bank = bank
        self._warned: set[str] = set()

    def __deepcopy__(self, memo: object) -> _Run:
        return self

    def warn(self, deed: str, layers: Collection[LayerId]) -> None:
        """Say once a run in which layers another node leaves us nothing to fuse."""
        if not layers or deed in self._warned:
            return
        self._warned.add(deed)
        names = ", ".join(str(layer) for layer in sorted(layers))
        logger.warning(
            "FFA Model Patcher: another node %s the self-attention of %s; its result stands, nothing is fused there.",
            deed,
            names,
        )


def _options(args: tuple[Any, ...]) -> dict[str, Any]:
    # apply_model(x, t, c_concat, c_crossattn, control, transformer_options, ..): the host passes all six by position
    return args[5]


def _noise_share(sampling: Any, sigma: float) -> float:
    """The timestep of a noise level as a share of all, from 0 (clean) to 1."""
    steps = getattr(sampling, "num_timesteps", None)
    if steps is None:  # a continuous schedule: its spread in log space
        low, high = math.log(float(sampling.sigma_min)), math.log(float(sampling.sigma_max))
        return min(max((math.log(sigma) - low) / (high - low), 0.0), 1.0)
    return float(sampling.timestep(torch.tensor([sigma]))) / steps


def _with_prompts_named(model_options: dict[str, Any], guider: Any) -> dict[str, Any]:
    """The options of one prediction, saying whether each of the guider's prompts is negative, and its conds' uuids."""
    prompts = tuple(("negative" in name, _uuids(conds)) for name, conds in guider.conds.items())
    return {**model_options, "transformer_options": {**model_options["transformer_options"], PROMPTS: prompts}}


def _uuids(conds: Sequence[Any] | None) -> frozenset[Any]:
    return frozenset(cond["uuid"] for cond in conds or ())


def _with_conds_named(model_options: dict[str, Any], conds: Sequence[Any], x: Tensor) -> dict[str, Any]:
    """The options of one batch: which lists of conds are negative, and each cond's window of the latent x, b c h w."""
    size, options = tuple(x.shape[2:]), model_options.get("transformer_options", {})
    areas = {cond["uuid"]: _window(cond["area"], size) for listed in conds for cond in listed or () if "area" in cond}
    prompts = options.get(PROMPTS, ())
    named = {NEGATIVE: frozenset(i for i, listed in enumerate(conds) if _is_negative(_uuids(listed), prompts))}
    # no dict: the host would merge it with those of earlier calls
    named |= {AREAS: MappingProxyType(areas)} if areas else {}
    return {**model_options, "transformer_options": {**options, **named}}


def _is_negative(uuids: frozenset[Any], prompts: Sequence[tuple[bool, frozenset[Any]]]) -> bool:
    """Whether a list of conds is a negative prompt, or a part of one.

    For an area the host copies a cond to the other prompts, its uuid included: what a negative prompt shares with
    others tells nothing.
    """
    same = {negative for negative, own in prompts if own == uuids}
    if len(same) == 1:
        return same.pop()
    mine, others = (frozenset().union(*(own for flag, own in prompts if flag is kind)) for kind in (True, False))
    return bool(uuids & (mine - others))


def _window(area: Sequence[int], size: Sequence[int]) -> Window:
    """The host's area, (h, w, y, x) in latent pixels, as it cuts it out of a latent of (h, w)."""
    half = len(area) // 2
    (height, width), (top, left) = area[:2], area[half : half + 2]
    return Window(top, left, min(height, size[0] - top), min(width, size[1] - left))


def _views(
    bank: FeatureBank, patch: FusionPatch, executor: Callable[..., Tensor], sigma: float, args: tuple[Any, ...]
) -> list[StepView]:
    made: dict[int, StepView] = {}  # a picture that serves twice is replayed once
    for features, roles in patch.pictures(bank):
        if id(features) not in made and isinstance(features, Trajectory):
            catcher = Catcher(patch.layers, roles, features.header.grids)
            made[id(features)] = replay_view(executor, features, sigma, args[0], _options(args), catcher)
        elif id(features) not in made:
            made[id(features)] = _stored_view(features, sigma, patch, roles, args[0].device)
    return [made[id(features)] for features in bank]


def _stored_view(
    features: StoredFeatures, sigma: float, patch: FusionPatch, roles: str, device: torch.device
) -> StepView:
    """Stored features; those in main memory reach a CUDA device a layer ahead."""
    view = nearest_view(features, sigma)
    layers = [layer for layer in features.header.layers if layer in patch.layers]
    if device.type != "cuda" or features.device.type == device.type or not roles:
        return view
    return prefetched(view, layers, roles, CudaLane(device))


def _with_other_weights_recorded(guider: Any, bank: FeatureBank, patch: FusionPatch) -> FeatureBank:
    """Trajectories of a model with other weights (a LoRA came later): their features, from that model, for this run."""
    running = weights_id(guider.model_patcher)
    # weights that hooks schedule are in place for some model calls, those of a replay included
    hooked_weights = any(cond.get("hooks") for conds in guider.conds.values() for cond in conds or ())
    replaced: dict[int, ImageFeatures] = {}
    for place, (features, roles) in enumerate(patch.pictures(bank)):
        if not isinstance(features, Trajectory) or features.source is None:
            continue
        if hooked_weights or features.weights != running:
            logger.info("FFA Model Patcher: the sampling model has other weights than the inversion's; recording first")
            replaced[place] = record_trajectory(features, patch.layers, roles)
    return bank.with_features(replaced) if replaced else bank


def features_at(features: ImageFeatures, layer: LayerId, step: int) -> AttentionFeatures:
    """One layer's features at one step, whatever the representation: b n c each."""
    if not isinstance(features, Trajectory):
        return features.at(layer, step)
    if features.source is None:
        raise MagicStyleError(
            "bank holds latents from a file, which need a model to become features: "
            "preview the bank before saving it, or invert with storage features."
        )
    header = replace(features.header, sigmas=features.header.sigmas[step : step + 1])
    moment = Trajectory(header, features.latents[step : step + 1], features.inputs, source=features.source)
    return record_trajectory(moment, (layer,), ROLES).at(layer, 0)


def record_trajectory(trajectory: Trajectory, chosen: Collection[LayerId], roles: str) -> StoredFeatures:
    """Run a whole trajectory through the model that made it: its features at every step, in the live precision."""
    layers = tuple(layer for layer in trajectory.header.layers if layer in chosen)
    recorder = Recorder(FeatureWriter(layers, len(trajectory.header.sigmas), roles, torch.float32))
    sampler = _ReplaySampler(trajectory, recorder)
    zeros = torch.zeros(trajectory.header.latent_shape)
    sigmas = torch.tensor([*trajectory.header.sigmas, 0.0])
    model = install_capture(trajectory.source, recorder)
    comfy.sample.sample_custom(model, zeros, 1.0, sampler, sigmas, [], [], zeros, disable_pbar=True, seed=0)
    return recorder.close(trajectory.header)


class _ReplaySampler(comfy.samplers.Sampler):
    """Evaluates the model on the stored latents, each at its own level."""

    def __init__(self, trajectory: Trajectory, recorder: Recorder) -> None:
        self._trajectory = trajectory
        self._recorder = recorder

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        options = extra_args["model_options"]["transformer_options"]
        inputs = {name: tensor.to(noise.device) for name, tensor in self._trajectory.inputs.items()}
        for step, latent in enumerate(self._trajectory.latents):
            x = latent.to(noise)
            level = sigmas[step].expand(x.shape[0])
            own = {**options, "cond_or_uncond": [0], "sigmas": level}
            with self._recorder.recording(step, x):
                model_wrap.inner_model.apply_model(x, level, transformer_options=own, **inputs)
        return noise


def _with_room(patcher: Model, shape: Sequence[int], extra_bytes: int) -> list[int]:
    """The host's size of a run plus what fusion adds: keys and values beside the running ones, or a replayed row."""
    row = patcher.memory_required([1, *shape[1:]])
    rows = math.ceil(extra_bytes / row) if row else 0
    return [shape[0] + rows, *shape[1:]]

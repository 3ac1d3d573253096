"""Fusing: a clone of the model whose chosen self-attention layers fuse a bank's features.

The override is put in place late, inside an APPLY_MODEL wrapper and for one model call only: whatever override other
nodes have set by then (Sage, KJ and others simply assign) is called from ours, so the nodes' order does not matter.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Collection, Sequence
from types import MappingProxyType
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...core.bank import FeatureBank
from ...core.fusion import FUSIONS, FusionSettings
from ...core.layers import LayerId
from ...core.ranges import check_range
from ...core.scene import Moment
from ..architectures import find
from ..architectures.base import HostArchitecture
from ..checks import check_areas, check_bank, check_roles, check_run, stored_layers
from ..entry import Entry, with_entry
from ..fusion_patch import FusionPatch, SigmaWindow
from ..model_call import ModelCall
from ..placing import Placer, Positions
from ..prefetch import Lane, lane_to
from ..protocols import Executor, Model
from ..replay import Held
from ..seam import hooked
from ..views import step_views
from .conds import with_conds_named, with_prompts_named
from .models import KEY, check_model
from .recorded import weights_change, with_foreign_latents_recorded
from .reruns import rerun_beside
from .run_checks import run_warnings
from .start import Start, is_flow, started

AS_THEY_ARE = Positions()
logger = logging.getLogger("magicstyle")


def install_fusion(
    model: Model,
    bank: FeatureBank,
    settings: FusionSettings,
    layers: str,
    start_percent: float,
    end_percent: float,
    positions: Positions = AS_THEY_ARE,
    keep: Tensor | None = None,
) -> Model:
    """A clone of the model whose chosen self-attention layers fuse the bank's features; `keep` is b h w in [0, 1]."""
    check_model(model)
    architecture = find(model)
    check_bank(architecture, bank)
    check_range("start_percent", start_percent, 0.0, 1.0)
    check_range("end_percent", end_percent, 0.0, 1.0)
    sampling = model.get_model_object("model_sampling")
    window = SigmaWindow(sampling.percent_to_sigma(start_percent), sampling.percent_to_sigma(end_percent))
    placer = Placer(architecture.name, architecture.rotation, positions)
    patch = FusionPatch(bank, settings, stored_layers(architecture, bank, layers), window, placer, keep)
    check_roles(bank, patch.roles, settings.method)
    fusion = _Fusion(patch, architecture, sampling)
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, fusion.key, fusion.apply_model)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, fusion.key, fusion.calc_cond_batch)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, fusion.key, fusion.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, fusion.key, fusion.prepare_sampling)
    if FUSIONS[settings.method].conditional:
        patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, fusion.key, fusion.predict_noise)
    return patched


class _Fusion:
    """The host's wrappers of one FFA Model Patcher; shared by threads and runs, hence never changed."""

    def __init__(self, patch: FusionPatch, architecture: HostArchitecture, sampling: Any) -> None:
        self.patch = patch
        self.architecture = architecture
        self.sampling = sampling
        self.room = patch.extra_bytes(architecture.widths)
        # a key of its own: two patchers in one graph both stay
        self.key = f"{KEY}.fusion.{uuid.uuid4().hex}"

    def __deepcopy__(self, memo: object) -> _Fusion:
        return self

    def apply_model(self, executor: Executor, *args: Any, **kwargs: Any) -> Tensor:
        """One model call, b c h w: with the fusion inside the window, as it is outside and for replays."""
        call = ModelCall.read(args, kwargs)
        entry, sigma = Entry.of(call.options), call.sigma
        if entry.replaying or sigma not in self.patch.window:
            return executor(*args, **kwargs)
        run = entry.runs.get(self.key) or _Run(self.patch.bank)
        rerun = rerun_beside(call, self.architecture, executor)
        views = step_views(self.patch, run.bank, sigma, rerun, run.lane(call.x.device), run.held(call.x))
        moment = Moment(self.patch.progress(sigma), _noise_share(self.sampling, sigma))
        missed: list[LayerId] = []
        handlers = self.patch.handlers(views, moment)._replace(missed=missed.append)
        with hooked(call, self.architecture, handlers):
            out = executor(*args, **kwargs)
        run.warn("replaces", self.architecture.replaced(call.options, self.patch.layers))
        run.warn("merges, tiles or adds tokens in", self.patch.layers.intersection(missed))
        return out

    def outer_sample(self, executor: Executor, *args: Any, **kwargs: Any) -> Tensor:
        """One sampling run, b c h w: checked first."""
        bank, guider = self.patch.bank, executor.class_obj
        noise, latent, sampler, sigmas, *others = args
        check_run(bank, latent)
        if self.patch.placer.rotary:
            check_areas(guider.conds)
        mask = others[0] if others else kwargs.get("denoise_mask")
        for warning in run_warnings(bank, guider.model_patcher, Start(noise, latent), sampler, sigmas, mask):
            logger.warning("FFA Model Patcher: %s", warning)
        run = _Run(with_foreign_latents_recorded(guider, bank, self.patch), steady=not weights_change(guider))
        # the guider's options live for this run alone
        options = guider.model_options["transformer_options"]
        runs = MappingProxyType({**Entry.of(options).runs, self.key: run})
        options.update(with_entry(options, runs=runs))
        start = started(guider.model_patcher, sampler, sigmas, Start(noise, latent))
        return executor(*start, sampler, sigmas, *others, **kwargs)

    def calc_cond_batch(
        self,
        executor: Executor,
        model: Any,
        conds: Sequence[Any],
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The model's answers to lists of conds, x b c h w: says which are negative, and which see a part alone."""
        return executor(model, conds, x, timestep, with_conds_named(model_options, conds, x), *args, **kwargs)

    def predict_noise(
        self,
        executor: Executor,
        x: Tensor,
        timestep: Tensor,
        model_options: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """One prediction of a guider, b c h w: says what its prompts are."""
        return executor(x, timestep, with_prompts_named(model_options, executor.class_obj), *args, **kwargs)

    def prepare_sampling(
        self, executor: Executor, patcher: Model, shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> Any:
        """The host's reckoning of what a run needs."""
        return executor(patcher, _with_room(patcher, shape, self.room), *args, **kwargs)


class _Run:
    """What one sampling run of a patcher holds: its features, their way to a device, and what it has warned of."""

    def __init__(self, bank: FeatureBank, *, steady: bool = True) -> None:
        self.bank = bank
        self._steady = steady  # the weights stay the same for all model calls
        self._lanes: dict[torch.device, Lane | None] = {}
        self._held: dict[tuple[torch.device, torch.dtype], Held] = {}
        self._warned: set[str] = set()

    def __deepcopy__(self, memo: object) -> _Run:
        return self

    def lane(self, device: torch.device) -> Lane | None:
        """What carries features to a device, the same for the whole run."""
        if device not in self._lanes:
            self._lanes[device] = lane_to(device)
        return self._lanes[device]

    def held(self, x: Tensor) -> Held:
        """What was replayed on the device and in the precision of a running latent b c h w."""
        return self._held.setdefault((x.device, x.dtype), Held()) if self._steady else Held()

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


def _noise_share(sampling: Any, sigma: float) -> float:
    """The timestep of a noise level as a share of all, from 0 (clean) to 1; of a flow model the level itself."""
    if is_flow(sampling):
        return sigma
    steps = getattr(sampling, "num_timesteps", None)
    if steps is None:  # a continuous schedule: its spread in log space
        low, high = math.log(float(sampling.sigma_min)), math.log(float(sampling.sigma_max))
        return min(max((math.log(sigma) - low) / (high - low), 0.0), 1.0)
    return float(sampling.timestep(torch.tensor([sigma]))) / steps


def _with_room(patcher: Model, shape: Sequence[int], extra_bytes: int) -> list[int]:
    """The host's size of a run plus what fusion adds: keys and values beside the running ones, or a replayed row."""
    row = patcher.memory_required([1, *shape[1:]])
    rows = math.ceil(extra_bytes / row) if row else 0
    return [shape[0] + rows, *shape[1:]]

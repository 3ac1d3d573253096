"""Fusing: a clone of the model whose chosen self-attention layers fuse a bank's features.

The override is put in place late, inside an APPLY_MODEL wrapper and for one model call only: whatever override other
nodes have set by then (Sage, KJ and others simply assign) is called from ours, so the nodes' order does not matter.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...banks.bank import FeatureBank
from ...core.fusion import FUSIONS, FusionSettings
from ...core.grid import Grid
from ...core.ranges import check_range
from ...core.word_regions import StyleWords
from ..architectures.base import HostArchitecture
from ..checks import check_areas, check_bank, check_detail, check_roles, check_run, check_words, stored_layers
from ..entry import Entry, entered, with_entry
from ..fusion_patch import FusionPatch, SigmaWindow
from ..model_call import ModelCall
from ..placing import Placer, Positions
from ..protocols import Executor, Model
from ..rows import Canvas
from ..seam import hooked
from ..views import step_views
from ..word_maps import WordWatch
from .conds import with_conds_named, with_prediction_named
from .layout import other_plan
from .models import KEY, check_model
from .others import in_between
from .recorded import weights_change, with_foreign_latents_recorded
from .reruns import rerun_beside
from .run_checks import run_warnings
from .runs import Run, left_undone, say
from .start import Start, is_flow, started

AS_THEY_ARE = Positions()


def install_fusion(
    model: Model,
    bank: FeatureBank,
    settings: FusionSettings,
    layers: str,
    start_percent: float,
    end_percent: float,
    positions: Positions = AS_THEY_ARE,
    keep: Tensor | None = None,
    words: StyleWords | None = None,
) -> Model:
    """A clone of the model whose chosen self-attention layers fuse the bank's features; `keep` is b h w in [0, 1].

    With `words` each style acts where the model sees them in the running picture.
    """
    architecture = check_model(model)
    check_bank(architecture, bank)
    check_words(architecture, bank, settings, words)
    check_range("start_percent", start_percent, 0.0, 1.0)
    check_range("end_percent", end_percent, 0.0, 1.0)
    sampling = model.get_model_object("model_sampling")
    window = SigmaWindow(sampling.percent_to_sigma(start_percent), sampling.percent_to_sigma(end_percent))
    placer = Placer(architecture.name, architecture.rotation, positions, centred=architecture.centred)
    chosen = stored_layers(architecture, bank, layers, others=FUSIONS[settings.method].lays_queries)
    check_detail(bank, settings, chosen)
    patch = FusionPatch(bank, settings, chosen, window, placer, keep)
    check_roles(bank, patch.roles, settings.method)
    fusion = _Fusion(patch, architecture, sampling, words)
    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, fusion.key, fusion.apply_model)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, fusion.key, fusion.calc_cond_batch)
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, fusion.key, fusion.outer_sample)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, fusion.key, fusion.prepare_sampling)
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, fusion.key, fusion.predict_noise)
    return patched


class _Fusion:
    """The host's wrappers of one FFA Model Patcher; shared by threads and runs, hence never changed."""

    def __init__(
        self, patch: FusionPatch, architecture: HostArchitecture, sampling: Any, words: StyleWords | None
    ) -> None:
        self.patch = patch
        self.words = words
        self.architecture = architecture
        self.sampling = sampling
        self.room = patch.extra_bytes(architecture.widths)
        # a key of its own: two patchers in one graph both stay
        self.key = f"{KEY}.fusion.{uuid.uuid4().hex}"

    def __deepcopy__(self, memo: object) -> _Fusion:
        return self

    def apply_model(self, executor: Executor, *args: Any, **kwargs: Any) -> Tensor:
        """One model call, b c h w: with the fusion inside the window, as it is outside and for replays."""
        call = ModelCall.read(args, kwargs, executor)
        entry, sigma = Entry.of(call.options), call.sigma
        if entry.replaying or sigma not in self.patch.window:
            return executor(*args, **kwargs)
        run = entry.runs.get(self.key) or Run(self._on(call.x), self.patch.bank, words=self._watch(call.x))
        plan = other_plan(call)
        frames = () if plan is None else plan.frames
        rerun = rerun_beside(call, self.architecture, executor, frames)
        views = step_views(run.patch, run.bank, sigma, rerun, run.lane(call.x.device), run.held(call.x), frames)
        moment = run.patch.moment(sigma, _noise_share(self.sampling, sigma))
        matches = run.correspondences.of(run.patch, run.bank, rerun, call.x.device)
        look = None if run.words is None else run.words.look(call.inputs.get("c_crossattn"))
        handlers = run.patch.handlers(views, moment, run.account, matches, run.words, look)
        laid = nullcontext() if plan is None else entered(call.options, plan=plan)
        with laid, hooked(call, self.architecture, handlers):
            out = executor(*args, **kwargs)
        if run.words is not None:
            run.words.take(look)
        run.called(self.architecture.layers_answered_by_others(call.options, self.patch.layers), self.patch.layers)
        return out

    def _on(self, latent: Tensor) -> FusionPatch:
        """The patch laid on what a run paints, a latent b c h w."""
        size = Grid(latent.shape[2:])
        return self.patch.on(Canvas(size, self.architecture.grids(size)))

    def _watch(self, latent: Tensor) -> WordWatch | None:
        """What looks for the styles' words in a run over a latent b c h w."""
        return None if self.words is None else WordWatch(self.words, Grid(latent.shape[2:]))

    def outer_sample(self, executor: Executor, *args: Any, **kwargs: Any) -> Tensor:
        """One sampling run, b c h w: checked first."""
        bank, guider = self.patch.bank, executor.class_obj
        noise, latent, sampler, sigmas, *others = args
        check_run(bank, latent, self.patch.keep, films=self.architecture.films)
        if self.patch.placer.rotary and bank.content is not None:
            check_areas(guider.conds)
        mask = others[0] if others else kwargs.get("denoise_mask")
        for warning in run_warnings(bank, guider.model_patcher, Start(noise, latent), sampler, sigmas, mask):
            say(warning)
        recorded = with_foreign_latents_recorded(guider, bank, self.patch)
        run = Run(self._on(latent), recorded, steady=not weights_change(guider), words=self._watch(latent))
        # the guider's options live for this run alone
        options = guider.model_options["transformer_options"]
        runs = MappingProxyType({**Entry.of(options).runs, self.key: run})
        options.update(with_entry(options, runs=runs))
        start = started(guider.model_patcher, sampler, sigmas, Start(noise, latent))
        out = executor(*start, sampler, sigmas, *others, **kwargs)
        for sentence in left_undone(self.patch, run, Entry.of(options).runs, sigmas, in_between(guider.model_options)):
            say(sentence)
        return out

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
        """One prediction of a guider, b c h w: says what its whole latent is, and its prompts where that counts."""
        guider = executor.class_obj if FUSIONS[self.patch.settings.method].conditional else None
        return executor(x, timestep, with_prediction_named(model_options, x, guider), *args, **kwargs)

    def prepare_sampling(
        self, executor: Executor, patcher: Model, shape: Sequence[int], *args: Any, **kwargs: Any
    ) -> Any:
        """The host's reckoning of what a run needs."""
        return executor(patcher, _with_room(patcher, shape, self.room), *args, **kwargs)


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

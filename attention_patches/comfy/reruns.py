"""Reruns: a stored latent through the host's model, beside a running call and with nothing of the user's in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...banks.trajectory import Trajectory, map_inputs
from ..architectures.base import HostArchitecture
from ..call import Handlers
from ..entry import with_entry
from ..model_call import ModelCall
from ..replay import Rerun
from ..seam import OVERRIDE, hooked
from .others import CACHES
from .walks import ModelSource

# the host's options that change what a network answers: patches, the attention's override, scaled positions
ANSWERING = ("patches", "patches_replace", OVERRIDE, "rope_options")
# of a network, which function wrappers replace for the time of a call
METHODS = ("forward", "_forward", "forward_orig")


def rerun_beside(
    running: ModelCall, architecture: HostArchitecture, apply_model: Callable[..., Tensor], frames: tuple[int, ...] = ()
) -> Rerun:
    """Runs stored latents through `apply_model`, on the device and in the precision of the running latent b c h w.

    Of films those `frames` alone that run, as the host's context window would show them; none at all: all.
    """

    def rerun(trajectory: Trajectory, group: int, handlers: Handlers) -> None:
        x = trajectory.latents[group]
        if frames and trajectory.header.size.frames > 1:
            x = x[:, :, list(frames)]
        x = x.to(running.x)
        level = x.new_full((x.shape[0],), trajectory.header.kept_sigmas[group])
        inputs = map_inputs(trajectory.inputs, lambda tensor: tensor.to(x.device))
        call = ModelCall(x, level, inputs, None, replay_options(trajectory, running.options, level), running.network)
        with own_methods(architecture, apply_model), hooked(call, architecture, handlers, alone=True):
            call.run(apply_model)

    return rerun


@contextmanager
def own_methods(architecture: HostArchitecture, apply_model: Callable[..., Tensor]) -> Iterator[None]:
    """The network with the methods of its class: what a function wrapper has put over them is for the run alone.

    What the running model has patched for good stays.
    """
    network = architecture.module
    patcher = getattr(getattr(apply_model, "class_obj", None), "current_patcher", None)
    kept = {name.removeprefix("diffusion_model.") for name in getattr(patcher, "object_patches", ())}
    over = {name: network.__dict__[name] for name in METHODS if name in network.__dict__ and name not in kept}
    for name in over:
        delattr(network, name)
    try:
        yield
    finally:
        for name, method in over.items():
            setattr(network, name, method)


def _wrappers(trajectory: Trajectory, options: Mapping[str, Any]) -> dict[str, Any]:
    """The host's wrappers for a replay: around the network those of the model that made the trajectory alone.

    Of a trajectory from a file, whose model is not known, those of the running model without its caches.
    """
    wrappers, around = options.get("wrappers") or {}, WrappersMP.DIFFUSION_MODEL
    if isinstance(trajectory.source, ModelSource):
        model = trajectory.source.model
        inner = (model.model_options["transformer_options"].get("wrappers") or {}).get(around, {})
        return {**wrappers, around: {**inner, **model.wrappers.get(around, {})}}
    return {**wrappers, around: {key: own for key, own in wrappers.get(around, {}).items() if key not in CACHES}}


def replay_options(trajectory: Trajectory, options: dict[str, Any], level: Tensor) -> dict[str, Any]:
    """The host's transformer_options for a call with the trajectory's rows alone, at a noise level b.

    What of them changes the network's answer is that of the model that made the trajectory, where it is known.
    """
    # by their uuids caches know whose answers they hold: no cond of the run has this one
    rows = {"cond_or_uncond": [0], "uuids": [uuid.UUID(int=id(trajectory))], "sigmas": level}
    own = {**with_entry(options, replaying=True, plan=None), **rows, "wrappers": _wrappers(trajectory, options)}
    if isinstance(trajectory.source, ModelSource):
        kept = trajectory.source.model.model_options["transformer_options"]
        for key in ANSWERING:
            own.pop(key, None)
            own.update({key: kept[key]} if key in kept else {})
    return own

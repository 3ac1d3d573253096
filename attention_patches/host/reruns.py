"""Reruns: a stored latent through the host's model, beside a running call and with nothing of the user's in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...core.trajectory import Trajectory, mapped_inputs
from ..architectures.base import HostArchitecture
from ..call import Handlers
from ..entry import with_entry
from ..model_call import ModelCall
from ..replay import Rerun
from ..seam import OVERRIDE, hooked
from .walks import ModelSource

# the host's options that change what a network answers: patches, the attention's override, scaled positions
ANSWERING = ("patches", "patches_replace", OVERRIDE, "rope_options")


def rerun_beside(running: ModelCall, architecture: HostArchitecture, apply_model: Callable[..., Tensor]) -> Rerun:
    """Runs stored latents through `apply_model`, on the device and in the precision of the running latent b c h w."""

    def rerun(trajectory: Trajectory, group: int, handlers: Handlers) -> None:
        x = trajectory.latents[group].to(running.x)
        level = x.new_full((x.shape[0],), trajectory.header.kept_sigmas[group])
        inputs = mapped_inputs(trajectory.inputs, lambda tensor: tensor.to(x.device))
        call = ModelCall(x, level, inputs, None, replay_options(trajectory, running.options, level))
        with hooked(call, architecture, handlers, alone=True):
            call.run(apply_model)

    return rerun


def replay_options(trajectory: Trajectory, options: dict[str, Any], level: Tensor) -> dict[str, Any]:
    """The host's transformer_options for a call with the trajectory's rows alone, at a noise level b.

    What of them changes the network's answer is that of the model that made the trajectory, where it is known.
    """
    own = {**with_entry(options, replaying=True), "cond_or_uncond": [0], "uuids": [None], "sigmas": level}
    if isinstance(trajectory.source, ModelSource):
        kept = trajectory.source.model.model_options["transformer_options"]
        for key in ANSWERING:
            own.pop(key, None)
            own.update({key: kept[key]} if key in kept else {})
    return own

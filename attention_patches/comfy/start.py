"""The start of a flow model's sampling run from inverted noise.

The host makes its first latent as sigma_0 noise + (1 - sigma_0) latent. Below sigma_0 = 1 the LATENT of a walk's end x
is therefore x / (1 - sigma_0), like the host's own leftover noise. At sigma_0 = 1 the host would erase a LATENT that
comes without noise: there x itself travels as the LATENT, and a wrapper hands it over as the noise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import comfy.model_sampling
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..protocols import Executor, Model
from .models import KEY

# a share of the latent that is too small to carry it
ERASED = 1e-4


class Start(NamedTuple):
    """What a sampling run begins with, b c h w each."""

    noise: Tensor
    latent: Tensor


def is_flow(sampling: Any) -> bool:
    """Whether x = (1 - sigma) x0 + sigma n."""
    return isinstance(sampling, comfy.model_sampling.CONST)


def erases(sampling: Any, sigma: float) -> bool:
    """Whether a run that begins at this level has nothing of its LATENT left."""
    return is_flow(sampling) and 1.0 - sigma <= ERASED


def latent_share(sampling: Any, sigma: float) -> float:
    """The share of a LATENT in the first latent of a run, 1 where the LATENT is the walk's end itself."""
    return 1.0 - sigma if is_flow(sampling) and not erases(sampling, sigma) else 1.0


def started(model: Model, sampler: Any, sigmas: Tensor, start: Start) -> Start:
    """The start from a LATENT that the host would erase, as noise; any other as it is; levels n."""
    sampling = model.get_model_object("model_sampling")
    erased = isinstance(sampler, comfy.samplers.KSAMPLER) and erases(sampling, float(sigmas[0]))
    if not erased or bool(torch.count_nonzero(start.noise)) or not bool(torch.count_nonzero(start.latent)):
        return start
    scale = float(sigmas[0]) * getattr(sampling, "noise_scale", 1.0)
    noise = model.model.process_latent_in(start.latent) / scale
    return Start(noise.to(start.noise), torch.zeros_like(start.latent))


def install_start(model: Model) -> Model:
    """A clone of the model that begins sampling runs with inverted noise, as a patched one does."""

    def outer_sample(
        executor: Executor,
        noise: Tensor,
        latent: Tensor,
        sampler: Any,
        sigmas: Tensor,
        *args: Any,
        **kw: Any,
    ) -> Tensor:
        """One sampling run on levels n, noise and latent b c h w: from its start, b c h w."""
        start = started(executor.class_obj.model_patcher, sampler, sigmas, Start(noise, latent))
        return executor(*start, sampler, sigmas, *args, **kw)

    starting = model.clone()
    starting.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, f"{KEY}.start", outer_sample)
    return starting

"""DDIM in both directions: from an image latent to its noise, and from the noise back to the image latent.

Everything is in the variance-exploding form of k-diffusion, x = x0 + sigma eps, in which a DDIM step is exactly an
Euler step of the probability-flow ODE (Song et al. 2021; Karras et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

Denoiser = Callable[..., Tensor]
Record = Callable[[int, Tensor], AbstractContextManager[Any]]


def no_record(step: int, x: Tensor) -> AbstractContextManager[Any]:
    """The `record` that keeps nothing."""
    return nullcontext()


def sampling_grid(sigmas: Tensor) -> Tensor:
    """The noise levels that a sampler evaluates: a descending schedule without its final zero."""
    return sigmas[:-1] if float(sigmas[-1]) == 0.0 else sigmas


def sample_ddim_inversion(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    record: Record = no_record,
) -> Tensor:
    """DDIM inversion (Song et al. 2021, sec. 4.3) over the descending sampling grid, walked upwards: b c h w.

    `model(x, sigma)` returns the denoised picture, as k-diffusion's denoisers do. The walk evaluates the model at every
    noise level that sampling will evaluate, each time on a latent of just that level, inside `record(step, x)`, where
    step indexes the sampling grid. The first estimate, which lifts the clean latent to the lowest level, costs one call
    more: N + 1 calls for N levels.
    """
    grid = sampling_grid(sigmas)
    last = len(grid) - 1
    eps = _noise(model, x, grid[last], extra_args)
    x = x + grid[last] * eps
    for step in range(last, -1, -1):
        with record(step, x):
            eps = _noise(model, x, grid[step], extra_args)
        if callback is not None:
            denoised = x - grid[step] * eps
            callback({"i": last - step, "x": x, "sigma": grid[step], "sigma_hat": grid[step], "denoised": denoised})
        if step > 0:
            x = x + (grid[step - 1] - grid[step]) * eps
    return x


def sample_ddim(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
) -> Tensor:
    """Deterministic DDIM sampling (Song et al. 2021, eq. 12) down a descending schedule to its last level: b c h w."""
    for step in range(len(sigmas) - 1):
        eps = _noise(model, x, sigmas[step], extra_args)
        if callback is not None:
            denoised = x - sigmas[step] * eps
            callback({"i": step, "x": x, "sigma": sigmas[step], "sigma_hat": sigmas[step], "denoised": denoised})
        x = x + (sigmas[step + 1] - sigmas[step]) * eps
    return x


def _noise(model: Denoiser, x: Tensor, sigma: Tensor, extra_args: dict[str, Any] | None) -> Tensor:
    denoised = model(x, sigma * x.new_ones(x.shape[0]), **(extra_args or {}))
    return (x - denoised) / sigma

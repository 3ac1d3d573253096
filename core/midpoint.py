"""Second-order steps at the price of first-order ones: each step's predictor is the last step's midpoint.

In any form in which a step is x + dt v(x, s), the midpoint rule evaluates v in the middle of the step, on a latent that
half a plain step has brought there. FireFlow (Deng et al. 2024, arXiv 2412.07517, for flow models) takes that half step
with the velocity found in the middle of the previous one: what this is off by is of first order, so that the latent in
the middle is off by the second, the step by the third and a whole walk by the second.

In the variance-exploding form of k-diffusion, x = x0 + sigma eps, the velocity is the predicted noise; of a flow model,
x = (1 - sigma) x0 + sigma n, it is the predicted n - x0. Both are (x - denoised) / sigma, hence one code for both.

Between levels s_0 > .. > s_{N-1} > s_N = 0 the model is evaluated at m_i = (s_i + s_{i+1}) / 2, up and down alike. The
first step of a walk has no predecessor: sampling evaluates at s_0 for it, and inversion, since nothing is predicted at
level 0, the clean latent at the lowest of the middles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .inversion import Denoiser, Record, no_record, predicted_noise, predictions, step_state, with_zero


def middles(sigmas: Tensor) -> Tensor:
    """The levels between the neighbours of a schedule: n -> n - 1."""
    return (sigmas[:-1] + sigmas[1:]) / 2


def sample_midpoint_inversion(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    record: Record = no_record,
) -> Tensor:
    """FireFlow's inversion of a clean latent over the descending schedule, walked upwards: b c h w.

    Recorded: the evaluation in the middle of every step, which are the levels that `sample_midpoint` comes by again.
    N + 1 calls for N levels.
    """
    levels = with_zero(sigmas)
    between = middles(levels)
    predicted = predictions(model, between, extra_args, callback, record)
    velocity = predicted_noise(model, x, between[-1], extra_args)
    for step in range(len(between) - 1, -1, -1):
        velocity = predicted(step, x + (between[step] - levels[step + 1]) * velocity)
        x = x + (levels[step] - levels[step + 1]) * velocity
    return x


def sample_midpoint(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
) -> Tensor:
    """FireFlow's sampling down a descending schedule to its last level, N + 1 calls for N steps: b c h w."""
    between = middles(sigmas)
    velocity = predicted_noise(model, x, sigmas[0], extra_args)
    for step in range(len(between)):
        middle = x + (between[step] - sigmas[step]) * velocity
        velocity = predicted_noise(model, middle, between[step], extra_args)
        if callback is not None:
            callback(step_state(step, middle, between[step], velocity))
        x = x + (sigmas[step + 1] - sigmas[step]) * velocity
    return x

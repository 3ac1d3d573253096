"""A two-step scheme that can be run backwards exactly: sampling computes again what inversion computed.

In the variance-exploding form, x = x0 + sigma eps, with levels s_0 > .. > s_{N-1} > s_N = 0, steps h_i = s_i - s_{i+1}
and e_i = eps(x_i, s_i), bidirectional integration (BDIA, arXiv 2307.10829) is

    x_{i+1} = x_i - h_i e_i + gamma_i (x_{i-1} - x_i - h_{i-1} e_i),

a DDIM step, plus gamma_i times what the DDIM step backwards from x_i misses x_{i-1} by. It is linear in both ends,
so that x_{i-1} follows from x_i and x_{i+1} with the same e_i. Published members of this family: BDIA in the
variance-preserving form has gamma_i = gamma alpha_{i-1} / alpha_{i+1}, and O-BELM (arXiv 2410.07273) gamma_i =
(h_i / h_{i-1})^2. What the two ends disagree by shrinks by gamma in sampling and grows by 1 / gamma in inversion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .inversion import Denoiser, Record, no_record, predicted_noise, predictions, sampling_grid, step_state, with_zero
from .noise_pair import NoisePair

GROWTH = 30.0
# gamma of step i from the levels, descending, the final zero among them
Gamma = Callable[[Tensor, int], float]


def damped(levels: Tensor, step: int) -> float:
    """The gamma of this pack: the same at all levels n, so that over an inversion a disagreement grows by GROWTH."""
    return GROWTH ** (-1.0 / (len(levels) - 1))


def sample_exact_inversion(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    record: Record = no_record,
    gamma: Gamma = damped,
) -> NoisePair:
    """Reversible inversion of a clean latent b c h w, walked upwards over the descending sampling grid.

    Recorded at each level: the one evaluation there, which sampling repeats. N + 1 calls for N levels; the first lifts
    the clean latent to the lowest level, as in plain DDIM inversion, and sampling need not repeat it: that step down
    follows from the two latents above.
    """
    levels, grid = with_zero(sigmas), sampling_grid(sigmas)
    predicted = predictions(model, grid, extra_args, callback, record)
    below, x = x, x + grid[-1] * predicted_noise(model, x, grid[-1], extra_args)
    for step in range(len(grid) - 1, -1, -1):
        eps = predicted(step, x)
        missed = below - (x - (levels[step] - levels[step + 1]) * eps)
        if step == 0:
            return NoisePair(x, x + missed)
        below, x = x, x + (levels[step - 1] - levels[step]) * eps + missed / gamma(levels, step)
    raise AssertionError


def sample_exact(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    step_from: Tensor | None = None,
    gamma: Gamma = damped,
) -> Tensor:
    """The sampler that undoes `sample_exact_inversion`: one call a step, b c h w.

    The first step goes from `step_from`, or from x itself.
    """
    levels, above = with_zero(sigmas), None
    for step in range(len(sigmas) - 1):
        eps = predicted_noise(model, x, sigmas[step], extra_args)
        if callback is not None:
            callback(step_state(step, x, sigmas[step], eps))
        down = (sigmas[step + 1] - sigmas[step]) * eps
        if above is None:
            above, x = x, (x if step_from is None else step_from) + down
        else:
            missed = above - (x + (sigmas[step - 1] - sigmas[step]) * eps)
            above, x = x, x + down + gamma(levels, step) * missed
    return x

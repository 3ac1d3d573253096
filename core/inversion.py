"""DDIM in both directions: from an image latent to its noise, and from the noise back to the image latent.

Of the inversion methods, `sample_ddim_inversion` is the plain one, `sample_fixed_point_inversion` looks for the latents
that sampling would come from, and `sample_noising` inverts nothing. The method that loses nothing is in `reversible`,
the one of second order in `midpoint`, and one that is half a straight line in `gamma`.

Everything is in the variance-exploding form of k-diffusion, x = x0 + sigma eps, in which a DDIM step is exactly an
Euler step of the probability-flow ODE (Song et al. 2021; Karras et al. 2022). In flow matching, x = (1 - sigma) x0 +
sigma n, (x - denoised) / sigma is the velocity n - x0, and the same step follows it: no walk here needs to know.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .grid import Grid

Denoiser = Callable[..., Tensor]
Steps = tuple[int, ...]  # those of one model call: x holds the rows of the first, then those of the second, ..
Record = Callable[[Steps, Tensor], AbstractContextManager[Any]]
CONVERGED = 1e-5  # of a latent's norm: what a fixed-point iteration may leave
NOISE_SEED = 0
ROWS_AT_ONCE = 4  # rows of one model call where steps are independent


def no_record(steps: Steps, x: Tensor) -> AbstractContextManager[Any]:
    """The `record` that keeps nothing of x, b c h w."""
    return nullcontext()


def sampling_grid(sigmas: Tensor) -> Tensor:
    """The noise levels that a sampler evaluates: a descending schedule n without its final zero."""
    return sigmas[:-1] if float(sigmas[-1]) == 0.0 else sigmas


def with_zero(sigmas: Tensor) -> Tensor:
    """A descending schedule of levels n that ends with zero, whether it did or not."""
    return torch.cat([sampling_grid(sigmas), sigmas.new_zeros(1)])


def predictions(
    model: Denoiser,
    levels: Tensor,
    extra_args: dict[str, Any] | None,
    callback: Callable[[dict[str, Any]], None] | None,
    record: Record,
) -> Callable[[int, Tensor], Tensor]:
    """What each step of a walk up descending levels n predicts: (step, x) -> eps, b c h w each, recorded and told."""

    def predicted(step: int, x: Tensor) -> Tensor:
        """The noise in x at the level of a step, b c h w each."""
        with record((step,), x):
            eps = predicted_noise(model, x, levels[step], extra_args)
        if callback is not None:
            callback(step_state(len(levels) - 1 - step, x, levels[step], eps))
        return eps

    return predicted


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
    noise level that sampling will evaluate, each time on a latent of just that level, inside `record((step,), x)`,
    where step indexes the sampling grid. The first estimate, which lifts the clean latent to the lowest level, costs
    one call more: N + 1 calls for N levels.
    """
    grid = sampling_grid(sigmas)
    predicted = predictions(model, grid, extra_args, callback, record)
    x = x + grid[-1] * predicted_noise(model, x, grid[-1], extra_args)
    for step in range(len(grid) - 1, -1, -1):
        eps = predicted(step, x)
        if step > 0:
            x = x + (grid[step - 1] - grid[step]) * eps
    return x


class _Iterate(NamedTuple):
    """A guess at the latent of a step, the noise predicted on it, and by how much it misses the equation."""

    x: Tensor  # b c h w
    eps: Tensor  # b c h w
    residual: Tensor  # b 1 1 1, of the norm of the latent below

    @property
    def converged(self) -> Tensor:
        """Which pictures need no better guess: b 1 1 1."""
        return self.residual <= CONVERGED

    def or_better(self, other: _Iterate) -> _Iterate:
        """Picture by picture the one that misses by less."""
        better = other.residual < self.residual
        return _Iterate(*(torch.where(better, new, old) for old, new in zip(self, other, strict=True)))


def sample_fixed_point_inversion(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    corrections: int = 2,
    record: Record = no_record,
) -> Tensor:
    """DDIM inversion in which every step undoes the DDIM step that sampling will take: b c h w.

    Sampling goes from x to y = x - dt eps(x, sigma), so x is looked for with x = y + dt eps(x, sigma), by fixed-point
    iteration (AIDI, Pan et al. 2023; ReNoise, Garibi et al. 2024) from plain inversion's guess. Iteration may diverge:
    each picture keeps the iterate that misses by least. Recorded at each level: the evaluation on the kept iterate.
    At most corrections + 1 calls a level, one more where the last iterate is not the kept one; fewer where all pictures
    have converged.
    """
    below: float | Tensor = 0.0
    eps: Tensor | None = None
    grid = sampling_grid(sigmas)
    last = len(grid) - 1
    for step in range(last, -1, -1):
        sigma, dt = grid[step], grid[step] - below

        def evaluate(guess: Tensor, y: Tensor = x, step: int = step, dt: Tensor = dt) -> _Iterate:
            """The model called on a guess b c h w."""
            with record((step,), guess):
                found = predicted_noise(model, guess, grid[step], extra_args)
            return _Iterate(guess, found, _norm(y + dt * found - guess) / _norm(y).clamp(min=1e-9))

        kept = _solve(evaluate, x, dt, x if eps is None else x + dt * eps, corrections)
        if callback is not None:
            callback(step_state(last - step, kept.x, sigma, kept.eps))
        x, eps, below = kept.x, kept.eps, sigma
    return x


def _solve(evaluate: Callable[[Tensor], _Iterate], y: Tensor, dt: Tensor, x: Tensor, corrections: int) -> _Iterate:
    """The best of the first iterates of x = y + dt eps(x), b c h w each, evaluated last."""
    best = latest = evaluate(x)
    for _ in range(corrections):
        if bool(best.converged.all()):
            break
        # a picture that has converged stays, so that its neighbours in the batch do not change it
        latest = evaluate(torch.where(best.converged, best.x, y + dt * latest.eps))
        best = best.or_better(latest)
    return latest if torch.equal(best.x, latest.x) else evaluate(best.x)


def _norm(x: Tensor) -> Tensor:
    """The norm of each picture: b c h w -> b 1 1 1."""
    return per_row(x.flatten(1).norm(dim=1), x)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """A number for each row b, to be multiplied with b c h w or b c 1 h w."""
    return values.view(-1, *(1,) * (like.ndim - 1))


# how a latent mixes a picture and noise: (x0, noise, sigma)
Mix = Callable[[Tensor, Tensor, Tensor], Tensor]


def noised(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x0 + sigma n: diffusion."""
    return x + sigma * noise


def flowed(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(1 - sigma) x0 + sigma n: flow matching."""
    return (1.0 - sigma) * x + sigma * noise


def steps_together(batch: int, levels: int) -> int:
    """How many independent steps share a model call, for so many pictures, the frames of films among them."""
    return min(max(ROWS_AT_ONCE // batch, 1), levels)


def pictures(x: Tensor) -> int:
    """How many pictures b c h w has; a film of b c t h w counts as many as fill a call, as it is one by itself."""
    return x.shape[0] if Grid(x.shape[2:]).frames == 1 else ROWS_AT_ONCE


def fixed_noise(x: Tensor) -> Tensor:
    """White noise of one fixed seed, the same for every picture: 1 c h w."""
    generator = torch.Generator().manual_seed(NOISE_SEED)
    return torch.randn((1, *x.shape[1:]), generator=generator).to(x)


def sample_noising(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    record: Record = no_record,
    mix: Mix = noised,
) -> Tensor:
    """No inversion: the clean latent with one fixed noise at the level of every step (after ZePo, 2408.05492): b c h w.

    What comes back does not sample into the picture again. One call a level; levels are independent and share model
    calls of up to ROWS_AT_ONCE rows. `record` gets the tuple of steps of a call and their rows.
    """
    grid, noise, batch = sampling_grid(sigmas), fixed_noise(x), x.shape[0]
    together = steps_together(pictures(x), len(grid))
    for done in range(0, len(grid), together):
        steps = tuple(range(done, min(done + together, len(grid))))
        levels = grid[done : done + together].repeat_interleave(batch)
        rows = mix(x.repeat(len(steps), *(1,) * (x.ndim - 1)), noise, per_row(levels, x))
        with record(steps, rows):
            denoised = model(rows, levels, **(extra_args or {}))
        for step, noisy, clean in zip(steps, rows.split(batch), denoised.split(batch), strict=True):
            if callback is not None:
                callback({"i": step, "x": noisy, "sigma": grid[step], "sigma_hat": grid[step], "denoised": clean})
    return mix(x, noise, grid[0])


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
        eps = predicted_noise(model, x, sigmas[step], extra_args)
        if callback is not None:
            callback(step_state(step, x, sigmas[step], eps))
        x = x + (sigmas[step + 1] - sigmas[step]) * eps
    return x


def predicted_noise(model: Denoiser, x: Tensor, sigma: Tensor, extra_args: dict[str, Any] | None) -> Tensor:
    """eps of x = x0 + sigma eps, one sigma for all rows: b c h w."""
    denoised = model(x, sigma * x.new_ones(x.shape[0]), **(extra_args or {}))
    return (x - denoised) / sigma


def step_state(i: int, x: Tensor, sigma: Tensor, eps: Tensor) -> dict[str, Any]:
    """What k-diffusion's samplers tell their callback after step i, x and eps b c h w."""
    return {"i": i, "x": x, "sigma": sigma, "sigma_hat": sigma, "denoised": x - sigma * eps}

"""The demo models' noise schedule, and the walks that judge a trained model: the pack's own.

A rectified flow (Liu et al. 2022) goes from latents at t = 0 to noise at t = 1 and steps dx = velocity dt.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from magicstyle.core.inversion import Denoiser, per_row, sample_ddim, sample_ddim_inversion
from magicstyle.core.schedule import LEVELS, ddim_uniform, signal_shares, timesteps
from torch import Tensor

TRAINING_STEPS = LEVELS
Eps = Callable[[Tensor, int], Tensor]
Velocity = Callable[[Tensor, float], Tensor]


def alphas_cumprod() -> Tensor:
    """Share of signal variance left at every timestep, as models are trained with it -> 1000."""
    return signal_shares().float()


def sigmas() -> Tensor:
    """Noise level of every timestep -> 1000."""
    alphas = alphas_cumprod()
    return ((1 - alphas) / alphas).sqrt()


def denoiser(eps: Eps) -> Denoiser:
    """A noise predictor of timesteps as core's walks ask it: x b c h w at levels b -> the denoised latents."""
    levels = sigmas()

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """x b c h w, all rows at one level, for which its nearest timestep stands -> b c h w."""
        return x - per_row(sigma, x) * eps(x, int(timesteps(sigma[:1], levels)))

    return denoised


def ddim_inversion(eps: Eps, x: Tensor, steps: int) -> Tensor:
    """Clean latents b c h w -> the noisy latents from which DDIM sampling returns to them."""
    return sample_ddim_inversion(denoiser(eps), x, ddim_uniform(sigmas(), steps))


def ddim_sample(eps: Eps, x: Tensor, steps: int) -> Tensor:
    """Latents b c h w at the highest noise level -> clean latents."""
    return sample_ddim(denoiser(eps), x, ddim_uniform(sigmas(), steps))


def pure_noise(shape: tuple[int, ...], steps: int, generator: torch.Generator) -> Tensor:
    """Noise at the highest sampling level, as a fresh generation starts from it: b c h w."""
    top = ddim_uniform(sigmas(), steps)[0]
    return torch.randn(shape, generator=generator) * (1 + top**2).sqrt()


def flow_times_of_sampling(steps: int) -> list[float]:
    """Times at which sampling a rectified flow evaluates the network, from 1 down; the final 0 is not among them."""
    return [1 - i / steps for i in range(steps)]


def flow_denoiser(velocity: Velocity) -> Denoiser:
    """A rectified flow as core's walks ask it: x b c h w at levels b, which are its times -> the denoised latents."""

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """x b c h w, all rows at one level -> b c h w."""
        return x - per_row(sigma, x) * velocity(x, float(sigma[0]))

    return denoised


def flow_schedule(steps: int) -> Tensor:
    """ComfyUI's `ddim_uniform` of a flow model, which begins a little below full noise; the last is zero -> n."""
    return ddim_uniform(torch.arange(1, TRAINING_STEPS + 1) / TRAINING_STEPS, steps)


def flow_sample(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Noise b c h w -> latents, by Euler steps."""
    times = [*flow_times_of_sampling(steps), 0.0]
    for here, below in zip(times, times[1:], strict=False):
        x = x + (below - here) * velocity(x, here)
    return x

"""Stable Diffusion's noise schedule, and DDIM in sigma space for judging the trained model.

In sigma space a noisy latent is x = x0 + sigma eps, and DDIM (Song et al. 2021) is an Euler step dx = eps dsigma.
A rectified flow (Liu et al. 2022) goes from latents at t = 0 to noise at t = 1 and steps dx = velocity dt.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TRAINING_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
Eps = Callable[[Tensor, int], Tensor]
Velocity = Callable[[Tensor, float], Tensor]


def alphas_cumprod() -> Tensor:
    """Share of signal variance left at every timestep -> 1000."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAINING_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


def sigmas() -> Tensor:
    """Noise level of every timestep -> 1000."""
    alphas = alphas_cumprod()
    return ((1 - alphas) / alphas).sqrt()


def sampling_timesteps(steps: int) -> list[int]:
    """The timesteps of ComfyUI's `ddim_uniform`, descending; the final sigma 0 is not among them."""
    return list(range(1, TRAINING_STEPS, max(TRAINING_STEPS // steps, 1)))[::-1]


def ddim_inversion(eps: Eps, x: Tensor, steps: int) -> Tensor:
    """Clean latents b c h w -> the noisy latents from which DDIM sampling returns to them."""
    times, sigma = sampling_timesteps(steps), sigmas()
    x = x + sigma[times[-1]] * eps(x, times[-1])
    for above, here in zip(times[-2::-1], times[:0:-1], strict=True):
        x = x + (sigma[above] - sigma[here]) * eps(x, here)
    return x


def ddim_sample(eps: Eps, x: Tensor, steps: int) -> Tensor:
    """Latents b c h w at the highest noise level -> clean latents."""
    times, sigma = sampling_timesteps(steps), sigmas()
    levels = [*sigma[times].tolist(), 0.0]
    for t, here, below in zip(times, levels, levels[1:], strict=False):
        x = x + (below - here) * eps(x, t)
    return x


def pure_noise(shape: tuple[int, ...], steps: int, generator: torch.Generator) -> Tensor:
    """Noise at the highest sampling level, as a fresh generation starts from it."""
    top = sigmas()[sampling_timesteps(steps)[0]]
    return torch.randn(shape, generator=generator) * (1 + top**2).sqrt()


def flow_times_of_sampling(steps: int) -> list[float]:
    """Times at which sampling a rectified flow evaluates the network, from 1 down; the final 0 is not among them."""
    return [1 - i / steps for i in range(steps)]


def flow_inversion(velocity: Velocity, x: Tensor, steps: int, corrections: int = 2) -> Tensor:
    """Latents b c h w -> the noise from which sampling returns to them; each step solved by fixed-point iteration."""
    times = [*flow_times_of_sampling(steps), 0.0]
    for above, here in zip(times[-2::-1], times[:0:-1], strict=True):
        step = velocity(x, above)
        for _ in range(corrections):
            step = velocity(x + (above - here) * step, above)
        x = x + (above - here) * step
    return x


def flow_sample(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Noise b c h w -> latents, by Euler steps."""
    times = [*flow_times_of_sampling(steps), 0.0]
    for here, below in zip(times, times[1:], strict=False):
        x = x + (below - here) * velocity(x, here)
    return x

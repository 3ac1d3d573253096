"""The demo models' noise schedule, and the walks that judge a trained model: the pack's own.

A rectified flow (Liu et al. 2022) goes from latents at t = 0 to noise at t = 1 and steps dx = velocity dt.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from magicstyle.core.inversion import Denoiser, per_row
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
    """A noise predictor of timesteps as core's walks call it: x b c h w at levels b -> the denoised latents."""
    levels = sigmas()

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """x b c h w, all rows at one level, for which its nearest timestep stands -> b c h w."""
        return x - per_row(sigma, x) * eps(x, int(timesteps(sigma[:1], levels)))

    return denoised


def flow_denoiser(velocity: Velocity) -> Denoiser:
    """A rectified flow as core's walks call it: x b c h w at levels b, which are its times -> the denoised latents."""

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """x b c h w, all rows at one level -> b c h w."""
        return x - per_row(sigma, x) * velocity(x, float(sigma[0]))

    return denoised


def flow_schedule(steps: int) -> Tensor:
    """ComfyUI's `ddim_uniform` of a flow model, which begins a little below full noise; the last is zero -> n."""
    return ddim_uniform(torch.arange(1, TRAINING_STEPS + 1) / TRAINING_STEPS, steps)


def shifted(times: Tensor, shift: float) -> Tensor:
    """Times of a flow, moved towards noise where the shift is above 1 (Esser et al. 2024) -> as they came."""
    return shift * times / (1 + (shift - 1) * times)


def guided(velocity: Velocity, weaker: Velocity, scale: float, above: float) -> Velocity:
    """A flow led away from what a weaker model answers, at times above one: v + scale (v - weaker).

    Hyung et al. 2024 ("Spatiotemporal skip guidance") take the same model without some of its blocks for the weaker.
    """

    def led(x: Tensor, t: float) -> Tensor:
        """x b c h w, all rows at one time -> b c h w."""
        own = velocity(x, t)
        return own + scale * (own - weaker(x, t)) if t > above else own

    return led


def flow_in_sigmas(denoised: Denoiser) -> Denoiser:
    """A rectified flow in the form x0 + s noise: its latents at time t are 1 - t times those at s = t / (1 - t)."""

    def rescaled(x: Tensor, sigma: Tensor) -> Tensor:
        """x b c h w, all rows at one level -> b c h w."""
        return denoised(x / per_row(1 + sigma, x), sigma / (1 + sigma))

    return rescaled


def ancestral_sample(denoised: Denoiser, x: Tensor, levels: Tensor, generator: torch.Generator) -> Tensor:
    """Down the levels with fresh noise at each, as models are sampled freely: x0 + s noise b c h w -> clean latents.

    The steps of DDPM (Ho et al. 2020), which Song et al. 2021 give as DDIM with eta 1. Unlike DDIM's, they
    wash out what a small network does wrong at high noise.
    """
    for above, below in itertools.pairwise(levels):
        clean = denoised(x, above.expand(len(x)))
        kept = below**2 / above
        fresh = (below**2 - kept**2).sqrt()
        x = clean + (x - clean) / above * kept + fresh * torch.randn(x.shape, generator=generator)
    return x

"""Stable Diffusion's noise levels: the training table, the schedule to sample on, and the way back to timesteps."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 1000
BETA_START, BETA_END = 0.00085, 0.012


def signal_shares() -> Tensor:
    """The share of a picture's variance that is left at every training timestep, in double precision -> 1000."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, LEVELS, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


def noise_levels() -> Tensor:
    """The sigma of every training timestep, ascending, for betas whose roots are evenly spaced -> 1000."""
    signal = signal_shares()
    return ((1.0 - signal) / signal).sqrt().float()


def ddim_uniform(levels: Tensor, steps: int) -> Tensor:
    """ComfyUI's schedule of that name: of levels n a stride apart, from the second on, descending, and a final zero.

    Where `steps` does not divide the table there are some levels more than `steps`, as in ComfyUI.
    """
    stride = max(len(levels) // steps, 1)
    return torch.cat([levels[1::stride].flip(0), levels.new_zeros(1)])


def timesteps(sigma: Tensor, levels: Tensor) -> Tensor:
    """The training timestep nearest to each sigma in log space: b -> b."""
    distances = sigma.log() - levels.to(sigma).log().unsqueeze(1)
    return distances.abs().argmin(dim=0)

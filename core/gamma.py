"""An inversion method that is part inversion, part a straight line to white noise (RF-gamma).

ComfyUI-Krea2-StyleTransfer and BigStationW's Untwisting-RoPE nodes take it for flow-matching models:
v = gamma v_model + (1 - gamma) (n - x) / (1 - sigma), with one fixed noise n. Written as a step of the model's and one
of the line that leads from the present latent to n, it serves x = x0 + sigma n as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .inversion import (
    Denoiser,
    Mix,
    Record,
    fixed_noise,
    no_record,
    noised,
    predicted_noise,
    predictions,
    sampling_grid,
)

GAMMA = 0.5  # of both packs


def sample_gamma_inversion(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    record: Record = no_record,
    mix: Mix = noised,
    gamma: float = GAMMA,
) -> Tensor:
    """Walk up the levels, each step `gamma` of plain inversion's and the rest of the straight line's: b c h w.

    gamma 1 is `sample_ddim_inversion`, gamma 0 walks through the latents of `sample_noising`. The higher the noise, the
    more of the line has come in: the end is nearer to white noise than an inversion's, and gives less of the picture
    back. Recorded at every level; N + 1 calls for N levels.
    """
    grid, noise = sampling_grid(sigmas), fixed_noise(x)
    zero, predicted = torch.zeros_like(grid[-1]), predictions(model, grid, extra_args, callback, record)

    def higher(x: Tensor, eps: Tensor, sigma: Tensor, above: Tensor) -> Tensor:
        """From one level to the next: b c h w, along the model's noise or velocity and along the line."""
        picture = (x - sigma * noise) / mix(torch.ones_like(sigma), zero, sigma)
        return gamma * (x + (above - sigma) * eps) + (1.0 - gamma) * mix(picture, noise, above)

    x = higher(x, predicted_noise(model, x, grid[-1], extra_args), zero, grid[-1])
    for step in range(len(grid) - 1, -1, -1):
        eps = predicted(step, x)
        if step > 0:
            x = higher(x, eps, grid[step], grid[step - 1])
    return x

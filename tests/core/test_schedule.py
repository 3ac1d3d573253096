"""The noise table, the schedule and the rounding to timesteps, against diffusers."""

import diffusers
import pytest
import torch
from magicstyle.core.inversion import sample_ddim, sample_ddim_inversion
from magicstyle.core.schedule import ddim_uniform, noise_levels, timesteps
from torch.testing import assert_close


def test_noise_levels_are_those_of_stable_diffusion():
    scheduler = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    alphas = scheduler.alphas_cumprod.double()
    assert_close(noise_levels().double(), ((1 - alphas) / alphas).sqrt(), rtol=2e-4, atol=0)


@pytest.mark.parametrize("steps, levels", [(1, 1), (30, 31), (50, 50), (999, 999), (5000, 999)])
def test_ddim_uniform_descends_from_a_whole_stride_to_zero(steps, levels):
    sigmas = ddim_uniform(noise_levels(), steps)
    assert len(sigmas) == levels + 1
    assert sigmas[-1] == 0 and bool((sigmas[:-1] > sigmas[1:]).all())
    assert sigmas[-2] == noise_levels()[1]


def test_timesteps_invert_the_table_and_round_between_its_levels():
    levels = noise_levels()
    assert torch.equal(timesteps(levels, levels), torch.arange(1000))
    between = (levels[400] * levels[401]).sqrt()
    assert timesteps(torch.stack([between * 0.9999, between * 1.0001]), levels).tolist() == [400, 401]


def test_sampling_undoes_inversion_for_a_gaussian():
    def denoiser(x, sigma):
        return x * 0.49 / (0.49 + sigma.view(-1, 1, 1, 1) ** 2)

    x = torch.randn(3, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigmas = ddim_uniform(noise_levels(), 250).double()
    seen = []
    back = sample_ddim(denoiser, sample_ddim_inversion(denoiser, x, sigmas), sigmas, callback=seen.append)
    assert float((back - x).norm() / x.norm()) < 0.03
    assert [state["i"] for state in seen] == list(range(250))

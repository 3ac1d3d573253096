"""The noise table, the schedule and the rounding to timesteps, against diffusers."""

import diffusers
import pytest
import torch
from magicstyle.core.inversion import sample_ddim, sample_ddim_inversion
from magicstyle.core.schedule import ddim_uniform, noise_levels, timesteps
from magicstyle.tools.demo_model import schedule as demo
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


def test_the_demo_models_are_trained_on_the_same_schedule_and_judged_by_the_same_walks():
    """The walks by hand, with a noise predictor that is called by timestep."""
    sigma = demo.sigmas()
    assert_close(sigma, noise_levels(), rtol=1e-4, atol=0)
    called = []

    def eps(x, t):
        called.append(t)
        return x * sigma[t] / (0.49 + sigma[t] ** 2)

    x = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    levels = ddim_uniform(sigma, 4)
    top = sample_ddim_inversion(demo.denoiser(eps), x, levels)
    assert called == [1, 1, 251, 501, 751]
    expected = x + sigma[1] * eps(x, 1)
    for here, above in ((1, 251), (251, 501), (501, 751)):
        expected = expected + (sigma[above] - sigma[here]) * eps(expected, here)
    assert_close(top, expected, rtol=1e-5, atol=1e-5)
    called.clear()
    back = sample_ddim(demo.denoiser(eps), top, levels)
    assert called == [751, 501, 251, 1]
    for here, below in ((751, sigma[501]), (501, sigma[251]), (251, sigma[1]), (1, 0.0)):
        top = top + (below - sigma[here]) * eps(top, here)
    assert_close(back, top, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flow", [False, True])
def test_the_demo_models_are_sampled_freely_to_the_spread_of_their_data(flow):
    """Data of deviation 0.7, whose denoiser is known: what is sampled has that deviation, whatever it began from."""
    levels = demo.flow_schedule(100) if flow else ddim_uniform(noise_levels(), 100)

    def denoised(x, sigma):
        s = sigma.view(-1, 1, 1, 1)
        signal = 1 - s if flow else 1.0
        return x * signal * 0.49 / (signal**2 * 0.49 + s**2)

    if flow:
        denoised, levels = demo.flow_in_sigmas(denoised), levels / (1 - levels)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(16, 4, 16, 16, generator=generator) * levels[0]
    found = demo.ancestral_sample(denoised, start, levels, generator)
    assert float(found.std()) == pytest.approx(0.7, rel=0.05)
    again = demo.ancestral_sample(denoised, start, levels, generator)
    assert abs(float((found * again).mean())) < 0.35 * 0.49, "fresh noise at each level"


def test_shifted_times_keep_their_ends_and_move_towards_noise():
    times = torch.linspace(0, 1, 5)
    assert_close(demo.shifted(times, 3.0), torch.tensor([0.0, 0.5, 0.75, 0.9, 1.0]))
    assert torch.equal(demo.shifted(times, 1.0), times)


def test_guidance_leads_away_from_the_weaker_answer_where_noise_is_high():
    x = torch.ones(2, 1, 1, 1)
    led = demo.guided(lambda x, t: 3 * x, lambda x, t: t * x, scale=2.0, above=0.4)
    assert led(x, 0.5).flatten().tolist() == [8.0, 8.0]
    assert led(x, 0.4).flatten().tolist() == [3.0, 3.0]

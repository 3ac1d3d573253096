"""The inversion method that is part inversion, part a straight line, against the published recurrence."""

import pytest
import torch
from magicstyle.core.gamma import GAMMA, sample_gamma_inversion
from magicstyle.core.inversion import fixed_noise, flowed, noised, sample_ddim_inversion
from magicstyle.tests.core.test_inversion import clean, ddim_uniform, gaussian_denoiser
from magicstyle.tests.core.test_inversion_methods import Recorder, eps
from torch.testing import assert_close

SPREAD = 0.7
FLOW = torch.linspace(1.0, 0.0, 9, dtype=torch.float64) ** 1.5


def velocity(x, sigma):
    """Of flow matching on Gaussian data N(0, SPREAD^2): x = (1 - sigma) x0 + sigma n."""
    expected = (1 - sigma) * SPREAD**2 * x / ((1 - sigma) ** 2 * SPREAD**2 + sigma**2)
    return (x - expected) / sigma


def flow_denoiser(x, sigma):
    """As k-diffusion's denoisers are called."""
    level = sigma.view(-1, 1, 1, 1)
    return x - level * velocity(x, level)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("top", [0, 2])  # full noise, or a schedule that begins below it
def test_on_flow_models_it_is_the_published_recurrence(gamma, top):
    sigmas, z, below = FLOW[top:], clean(), 0.0
    noise, states = fixed_noise(z), []
    for sigma in sigmas[:-1].flip(0):
        # the model cannot be evaluated without noise: the first step takes the velocity at the lowest level
        own = velocity(z, sigma if below == 0.0 else below)
        z = z + (sigma - below) * (gamma * own + (1 - gamma) * (noise - z) / (1 - below))
        below = sigma
        states.append(z)
    visits = Recorder()
    given = {"record": visits, "mix": flowed, "gamma": gamma}
    found = sample_gamma_inversion(visits.watching(flow_denoiser), clean(), sigmas, **given)
    assert_close(found, states[-1])
    for step, expected in enumerate(reversed(states)):
        assert_close(visits.last[step][0], expected)
        assert visits.last[step][1] == float(sigmas[step])
    assert len(visits.visits) == len(sigmas)


def test_on_diffusion_models_the_line_has_the_velocity_of_its_noise():
    sigmas, x, below = ddim_uniform(12), clean(), 0.0
    noise = fixed_noise(x)
    for sigma in sigmas[:-1].flip(0):
        own = eps(x, sigma if below == 0.0 else below)
        x = x + (sigma - below) * (GAMMA * own + (1 - GAMMA) * noise)
        below = sigma
    assert_close(sample_gamma_inversion(gaussian_denoiser, clean(), sigmas), x)


@pytest.mark.parametrize("denoiser, mix, sigmas", [(flow_denoiser, flowed, FLOW), (gaussian_denoiser, noised, None)])
def test_its_ends_are_plain_inversion_and_noising(denoiser, mix, sigmas):
    sigmas, visits = ddim_uniform(12) if sigmas is None else sigmas, Recorder()
    whole = sample_gamma_inversion(denoiser, clean(), sigmas, mix=mix, gamma=1.0)
    assert_close(whole, sample_ddim_inversion(denoiser, clean(), sigmas))
    sample_gamma_inversion(visits.watching(denoiser), clean(), sigmas, record=visits, mix=mix, gamma=0.0)
    for rows, level in visits.last.values():
        assert_close(rows, mix(clean(), fixed_noise(clean()), torch.tensor(level, dtype=torch.float64)))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_a_model_whose_paths_are_straight_lines_to_the_noise_keeps_the_line(gamma):
    x0, noise = clean(), fixed_noise(clean())

    def straight(x, sigma):
        return x - sigma.view(-1, 1, 1, 1) * (noise - x0)

    assert_close(sample_gamma_inversion(straight, x0, FLOW, mix=flowed, gamma=gamma), noise.expand_as(x0))

"""DDIM inversion against an analytic model with a known solution and against diffusers' schedulers."""

import math

import diffusers
import pytest
import torch
from magicstyle.core.inversion import sample_ddim_inversion, sampling_grid
from torch.testing import assert_close

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHAS_BAR = torch.cumprod(1 - BETAS, 0)
TABLE = ((1 - ALPHAS_BAR) / ALPHAS_BAR).sqrt()


def ddim_uniform(steps):
    """The host's ddim_uniform schedule for the SD noise table, descending, with the final zero."""
    return torch.cat([TABLE[1 :: 1000 // steps].flip(0), torch.zeros(1, dtype=torch.float64)])


def gaussian_denoiser(x, sigma, spread=0.7):
    """The exact denoiser of data ~ N(0, spread^2): its ODE is x(sigma) = x0 sqrt(1 + sigma^2 / spread^2)."""
    return x * spread**2 / (spread**2 + sigma.view(-1, 1, 1, 1) ** 2)


def euler(model, x, sigmas):
    """Plain sampling, the other direction."""
    for sigma, below in zip(sigmas[:-1], sigmas[1:], strict=True):
        eps = (x - model(x, sigma.expand(len(x)))) / sigma
        x = x + (below - sigma) * eps
    return x


def clean(batch=2):
    return torch.randn(batch, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_inversion_approaches_the_analytic_noise_at_first_order():
    x = clean()
    errors = []
    for steps in (10, 50, 200):
        sigmas = ddim_uniform(steps)
        expected = x * math.sqrt(1 + (float(sigmas[0]) / 0.7) ** 2)
        errors.append(float((sample_ddim_inversion(gaussian_denoiser, x, sigmas) - expected).norm() / expected.norm()))
    assert errors[0] > 3 * errors[1] > 9 * errors[2], errors


def test_round_trip_converges_at_least_at_first_order():
    x = clean()
    errors = []
    for steps in (10, 50, 200):
        sigmas = ddim_uniform(steps)
        back = euler(gaussian_denoiser, sample_ddim_inversion(gaussian_denoiser, x, sigmas), sigmas)
        errors.append(float((back - x).norm() / x.norm()))
    assert errors[1] < errors[0] / 3.5 and errors[2] < errors[1] / 3.5 and errors[2] < 0.02, errors


def test_every_sampling_level_is_recorded_once_from_a_latent_of_that_level():
    sigmas = ddim_uniform(20)
    visits, inside = [], []

    class Record:
        def __init__(self, step, x):
            self.step, self.x = step, x

        def __enter__(self):
            inside.append(self)

        def __exit__(self, *_):
            inside.pop()

    def model(x, sigma):
        visits.append((inside[0].step if inside else None, float(sigma[0]), x))
        return gaussian_denoiser(x, sigma)

    sample_ddim_inversion(model, clean(), sigmas, record=Record)
    assert len(visits) == 21
    assert [step for step, _, _ in visits] == [None, *((step,) for step in range(19, -1, -1))]
    assert [sigma for _, sigma, _ in visits[1:]] == sigmas[:-1].flip(0).tolist()
    for _, sigma, x in visits[1:]:
        expected = clean() * math.sqrt(1 + (sigma / 0.7) ** 2)
        assert (x - expected).norm() / expected.norm() < 0.1


def test_callback_reports_each_level_with_the_clean_prediction():
    seen = []
    sample_ddim_inversion(gaussian_denoiser, clean(), ddim_uniform(10), callback=seen.append)
    assert [state["i"] for state in seen] == list(range(10))
    for state in seen:
        assert_close(state["denoised"], gaussian_denoiser(state["x"], state["sigma"].expand(2)))


def test_the_input_latent_is_not_written_to():
    x = clean()
    sample_ddim_inversion(gaussian_denoiser, x, ddim_uniform(5))
    assert torch.equal(x, clean())


@pytest.mark.parametrize("tail", [[0.0], []])
def test_grid_leaves_out_only_a_final_zero(tail):
    assert sampling_grid(torch.tensor([3.0, 1.0, *tail])).tolist() == [3.0, 1.0]


def eps_model(x, t):
    """Any smooth eps prediction will do for comparing arithmetic: x in variance-preserving scale, t an index."""
    return torch.tanh(x * 0.8 + 0.001 * t) + 0.1 * x.flip(-1)


def as_denoiser(x, sigma):
    """The same eps prediction as k-diffusion sees it: x = sqrt(1 + sigma^2) x_vp."""
    t = int((TABLE - sigma[0]).abs().argmin())
    return x - sigma[0] * eps_model(x / (1 + sigma[0] ** 2).sqrt(), t)


def scheduler(cls):
    return cls(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=cls is diffusers.DDIMInverseScheduler,
        steps_offset=1,
        prediction_type="epsilon",
    )


def test_sampling_steps_equal_diffusers_ddim_scheduler():
    ddim, sigmas = scheduler(diffusers.DDIMScheduler), ddim_uniform(50)
    ddim.set_timesteps(50)
    x = clean()
    x_vp = x / (1 + sigmas[0] ** 2).sqrt()
    for step, t in enumerate(ddim.timesteps[:-1].tolist()):
        assert float(TABLE[t]) == pytest.approx(float(sigmas[step]))
        x_vp = ddim.step(eps_model(x_vp, t), t, x_vp).prev_sample
    assert_close(euler(as_denoiser, x, sigmas[:50]) / (1 + sigmas[49] ** 2).sqrt(), x_vp.double(), atol=1e-5, rtol=1e-5)


def test_inversion_steps_equal_diffusers_ddim_inverse_scheduler():
    """diffusers evaluates eps for the target level; given our recorded eps its steps are our steps."""
    inverse, sigmas = scheduler(diffusers.DDIMInverseScheduler), ddim_uniform(50)
    inverse.set_timesteps(50)
    grid = sigmas[:-1].flip(0)
    states = []
    sample_ddim_inversion(as_denoiser, clean(), sigmas, callback=lambda state: states.append(state["x"]))
    ratio = 1000 // 50
    compared = 0
    for index, t in enumerate(inverse.timesteps.tolist()):
        below = t - ratio
        if below < 0 or t > 999 or below not in range(1, 1000, ratio):
            continue
        level = (below - 1) // ratio
        x_vp = states[level] / (1 + grid[level] ** 2).sqrt()
        stepped = inverse.step(eps_model(x_vp, below), t, x_vp).prev_sample
        ours = states[level + 1] / (1 + grid[level + 1] ** 2).sqrt()
        assert_close(ours, stepped.double(), atol=2e-5, rtol=2e-5, msg=f"step {index}")
        compared += 1
    assert compared >= 45

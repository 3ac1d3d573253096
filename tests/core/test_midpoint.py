"""FireFlow's midpoint reuse on models whose solution is known: of noise prediction and of velocity."""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from magicstyle.core.inversion import sample_ddim, sample_ddim_inversion
from magicstyle.core.inversion_methods import visited_levels
from magicstyle.core.midpoint import middles, sample_midpoint, sample_midpoint_inversion
from magicstyle.tests.core.test_inversion import clean, gaussian_denoiser
from magicstyle.tests.core.test_inversion_methods import SPREAD, Recorder, relative
from torch.testing import assert_close

STEPS = (40, 160, 320)


def velocity(x, sigma):
    """n - x0 expected of x = (1 - sigma) x0 + sigma n, for data N(0, SPREAD^2)."""
    return x * (sigma - (1 - sigma) * SPREAD**2) / ((1 - sigma) ** 2 * SPREAD**2 + sigma**2)


def flow_denoiser(x, sigma):
    """The host's denoised picture of a flow model: x - sigma v."""
    sigma = sigma.view(-1, 1, 1, 1)
    return x - sigma * velocity(x, sigma)


def karras(steps):
    high, low = 14.6 ** (1 / 3), 0.03 ** (1 / 3)
    grid = (high + torch.linspace(0, 1, steps, dtype=torch.float64) * (low - high)) ** 3
    return torch.cat([grid, grid.new_zeros(1)])


def uniform(steps):
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def shifted(steps):
    """The schedule of flow models at higher resolution."""
    return 3 * uniform(steps) / (1 + 2 * uniform(steps))


class Case(NamedTuple):
    model: Callable
    schedule: Callable
    growth: Callable  # of a latent, from level 0 to a level


CASES = {
    "noise": Case(gaussian_denoiser, karras, lambda s: math.sqrt(1 + (s / SPREAD) ** 2)),
    "velocity": Case(flow_denoiser, uniform, lambda s: math.sqrt((1 - s) ** 2 + (s / SPREAD) ** 2)),
    "velocity, shifted": Case(flow_denoiser, shifted, lambda s: math.sqrt((1 - s) ** 2 + (s / SPREAD) ** 2)),
}


def round_trip(case, steps, up=sample_midpoint_inversion, down=sample_midpoint):
    sigmas = case.schedule(steps)
    return relative(down(case.model, up(case.model, clean(), sigmas), sigmas), clean())


@pytest.mark.parametrize("name", CASES)
def test_both_directions_are_of_second_order_where_plain_steps_are_of_first(name):
    case = CASES[name]
    up, down, plain = [], [], []
    for steps in STEPS:
        sigmas = case.schedule(steps)
        noise = clean() * case.growth(float(sigmas[0]))
        up.append(relative(sample_midpoint_inversion(case.model, clean(), sigmas), noise))
        down.append(relative(sample_midpoint(case.model, noise, sigmas), clean()))
        plain.append(relative(sample_ddim(case.model, noise, sigmas), clean()))
    for errors in (up, down):
        assert 1.75 < math.log2(errors[1] / errors[2]) < 2.4, errors
        assert errors[0] < plain[0] / 10
    assert math.log2(plain[1] / plain[2]) < 1.1, plain


@pytest.mark.parametrize("name", CASES)
def test_the_round_trip_is_of_third_order_at_least_and_far_nearer_than_plain_at_the_same_calls(name):
    errors = [round_trip(CASES[name], steps) for steps in STEPS]
    plain = round_trip(CASES[name], STEPS[0], sample_ddim_inversion, sample_ddim)
    assert math.log2(errors[1] / errors[2]) > 2.7, errors
    assert errors[0] < plain / 20, (errors[0], plain)


def test_inversion_records_the_middles_and_sampling_comes_by_them_again_in_one_call_more_than_steps():
    sigmas, up, down = karras(20), Recorder(), Recorder()
    noise = sample_midpoint_inversion(up.watching(gaussian_denoiser), clean(), sigmas, record=up)
    sample_midpoint(down.watching(gaussian_denoiser), noise, sigmas)
    between = middles(sigmas).tolist()
    assert len(up.visits) == len(down.visits) == 21
    assert {step: level for step, (_, level) in up.last.items()} == dict(enumerate(between))
    assert [float(level[0]) for _, _, level in down.visits] == [float(sigmas[0]), *between]
    for step, (_, x, _) in enumerate(down.visits[1:]):
        assert relative(up.last[step][0], x) < 0.02


def test_a_step_uses_the_velocity_of_the_last_middle_alone():
    """Written out by hand for two steps, up and down."""
    sigmas = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)

    def eps(x, s):
        return x * s / (s**2 + SPREAD**2)

    x = clean()
    low = eps(x + 0.5 * eps(x, 0.5), 0.5)
    one = x + 1.0 * low
    high = eps(one + 1.0 * low, 2.0)
    noise = one + 2.0 * high
    assert_close(sample_midpoint_inversion(gaussian_denoiser, x, sigmas), noise)
    high = eps(noise - 1.0 * eps(noise, 3.0), 2.0)
    one = noise - 2.0 * high
    low = eps(one - 0.5 * high, 0.5)
    assert_close(sample_midpoint(gaussian_denoiser, noise, sigmas), one - 1.0 * low)


def test_a_schedule_without_its_final_zero_is_inverted_the_same():
    sigmas = karras(10)
    with_zero, without = (sample_midpoint_inversion(gaussian_denoiser, clean(), s) for s in (sigmas, sigmas[:-1]))
    assert torch.equal(with_zero, without)


def test_sampling_stops_and_goes_on_where_a_schedule_is_split():
    sigmas = karras(40)
    noise = clean() * CASES["noise"].growth(float(sigmas[0]))
    halfway = sample_midpoint(gaussian_denoiser, noise, sigmas[:21])
    assert relative(halfway, clean() * CASES["noise"].growth(float(sigmas[20]))) < 0.005
    assert relative(sample_midpoint(gaussian_denoiser, halfway, sigmas[20:]), clean()) < 0.005


def test_every_step_is_reported_with_the_clean_prediction():
    for walk in (sample_midpoint_inversion, sample_midpoint):
        seen = []
        walk(gaussian_denoiser, clean(), karras(10), callback=seen.append)
        assert [state["i"] for state in seen] == list(range(10))
        for state in seen:
            assert_close(state["denoised"], gaussian_denoiser(state["x"], state["sigma"].expand(2)))


def test_the_levels_that_need_features_are_the_samplers_own():
    sigmas = karras(5)
    assert torch.equal(visited_levels(sample_midpoint, sigmas), middles(sigmas))
    for other in (sample_ddim, None):
        assert torch.equal(visited_levels(other, sigmas), sigmas[:-1])

"""Every inversion method, on an analytic model whose solution is known and against the published recurrences."""

import math

import pytest
import torch
from magicstyle.benchmarks.gammas import bdia, o_belm
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.inversion import (
    CONVERGED,
    ROWS_AT_ONCE,
    fixed_noise,
    sample_ddim,
    sample_ddim_inversion,
    sample_fixed_point_inversion,
    sample_noising,
)
from magicstyle.core.inversion_methods import INVERSIONS, InversionSettings, RoundTrip, invert_latent, sample_back
from magicstyle.core.noise_pair import NoisePair
from magicstyle.core.reversible import GROWTH, damped, sample_exact, sample_exact_inversion
from magicstyle.tests.core.test_inversion import clean, ddim_uniform, gaussian_denoiser
from torch.testing import assert_close

SPREAD = 0.7


def relative(a, b):
    return float((a - b).norm() / b.norm())


def eps(x, sigma):
    """Gaussian data N(0, SPREAD^2) exactly."""
    return x * sigma / (sigma**2 + SPREAD**2)


class Recorder:
    """What was evaluated inside `record`, by step."""

    def __init__(self):
        self.visits = []
        self.steps = None

    def __call__(self, steps, x):
        self.now = (steps, x)
        return self

    def __enter__(self):
        self.steps = self.now

    def __exit__(self, *_):
        self.steps = None

    def watching(self, model):
        def watched(x, sigma):
            self.visits.append((self.steps, x, sigma))
            return model(x, sigma)

        return watched

    @property
    def last(self):
        """The last evaluation of each step: x, and its level."""
        found = {}
        for (steps, _), x, sigma in (visit for visit in self.visits if visit[0]):
            for step, rows, level in zip(steps, x.chunk(len(steps)), sigma.chunk(len(steps)), strict=True):
                found[step] = (rows, float(level[0]))
        return found


# --- fixed point ---------------------------------------------------------------------------------------------------


def test_fixed_point_finds_the_closed_form_of_the_implicit_step():
    """On Gaussian data x_up (1 - h s / (s^2 + v)) = x_down: the product of these is the noise."""
    sigmas = ddim_uniform(50)
    expected, below = clean(), 0.0
    for sigma in sigmas[:-1].flip(0).tolist():
        expected = expected / (1 - (sigma - below) * sigma / (sigma**2 + SPREAD**2))
        below = sigma
    found = sample_fixed_point_inversion(gaussian_denoiser, clean(), sigmas, corrections=40)
    assert relative(found, expected) < 50 * CONVERGED


@pytest.mark.parametrize("steps", [20, 50])
def test_each_correction_brings_the_round_trip_closer(steps):
    sigmas, errors = ddim_uniform(steps), []
    for corrections in (0, 1, 2, 4):
        noise = sample_fixed_point_inversion(gaussian_denoiser, clean(), sigmas, corrections=corrections)
        errors.append(relative(sample_ddim(gaussian_denoiser, noise, sigmas), clean()))
    assert errors[0] > 5 * errors[1] > 25 * errors[2], errors
    assert errors[3] < 50 * CONVERGED


def test_without_corrections_the_fixed_point_is_plain_inversion_but_for_the_lowest_level():
    sigmas = ddim_uniform(20)
    visits = Recorder()
    sample_fixed_point_inversion(visits.watching(gaussian_denoiser), clean(), sigmas, corrections=0, record=visits)
    xs = {step: x for step, (x, _) in visits.last.items()}
    for step in range(18, 0, -1):
        expected = xs[step] + (sigmas[step - 1] - sigmas[step]) * eps(xs[step], sigmas[step])
        assert_close(xs[step - 1], expected)
    assert len(visits.visits) == 20


def diverging(x, sigma):
    """Its fixed-point iteration overshoots more from one correction to the next."""
    return x - sigma.view(-1, 1, 1, 1) * (-3.0 * x)


def test_a_diverging_iteration_keeps_and_records_the_guess_that_misses_by_least():
    sigmas = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64)
    visits = Recorder()
    noise = sample_fixed_point_inversion(visits.watching(diverging), clean(), sigmas, corrections=5, record=visits)
    plain = sample_fixed_point_inversion(diverging, clean(), sigmas, corrections=0)
    assert torch.equal(noise, plain)
    assert torch.equal(visits.last[0][0], noise)
    assert len(visits.visits) == 2 * (1 + 5 + 1)


def test_a_converged_iteration_stops_early():
    def constant(x, sigma):
        return x - sigma.view(-1, 1, 1, 1) * torch.ones_like(x)

    visits = Recorder()
    sample_fixed_point_inversion(visits.watching(constant), clean(), ddim_uniform(10), corrections=9, record=visits)
    assert len(visits.visits) == 11  # the first level needs one correction, the others none


def test_a_picture_inverts_the_same_alone_and_beside_another():
    x = clean()
    x[1] *= 30.0
    sigmas = ddim_uniform(20)
    together = sample_fixed_point_inversion(gaussian_denoiser, x, sigmas, corrections=9)
    alone = torch.cat([sample_fixed_point_inversion(gaussian_denoiser, row[None], sigmas, corrections=9) for row in x])
    assert torch.equal(together, alone)


def test_a_picture_that_has_converged_is_not_moved_by_one_that_has_not():
    """Of a noise that saturates, the strong picture's is almost constant: its iteration ends before the weak one's."""

    def saturating(x, sigma):
        return x - sigma.view(-1, 1, 1, 1) * torch.tanh(0.5 * x)

    x, sigmas = clean(), ddim_uniform(10)
    x[0] *= 6.0
    alone, calls = [], []
    for row in x:
        visits = Recorder()
        model = visits.watching(saturating)
        alone.append(sample_fixed_point_inversion(model, row[None], sigmas, corrections=20, record=visits))
        calls.append(len(visits.visits))
    assert calls[0] < calls[1]
    assert torch.equal(sample_fixed_point_inversion(saturating, x, sigmas, corrections=20), torch.cat(alone))


# --- exact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [damped, bdia, o_belm])
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
def test_exact_returns_the_latent(gamma, steps):
    sigmas = ddim_uniform(steps)
    pair = sample_exact_inversion(gaussian_denoiser, clean(), sigmas, gamma=gamma)
    back = sample_exact(gaussian_denoiser, pair.noise, sigmas, step_from=pair.step_from, gamma=gamma)
    assert relative(back, clean()) < 1e-10


def test_exact_in_single_precision_returns_the_latent_to_1e_4():
    x = clean().float()
    for steps in (10, 50, 200):
        sigmas = ddim_uniform(steps).float()
        pair = sample_exact_inversion(gaussian_denoiser, x, sigmas)
        assert relative(sample_exact(gaussian_denoiser, pair.noise, sigmas, step_from=pair.step_from), x) <= 1e-4


@pytest.mark.parametrize(
    "gamma, bounds", [(damped, (0.001, 0.0015, 0.002)), (bdia, (0.02, 0.004, 0.002)), (o_belm, (0.05, 0.01, 0.001))]
)
def test_exact_is_near_the_analytic_noise(gamma, bounds):
    """The published gammas approach it with more steps; the damped one is near it with few."""
    for steps, bound in zip((20, 50, 200), bounds, strict=True):
        sigmas = ddim_uniform(steps)
        expected = clean() * math.sqrt(1 + (float(sigmas[0]) / SPREAD) ** 2)
        assert relative(sample_exact_inversion(gaussian_denoiser, clean(), sigmas, gamma=gamma).noise, expected) < bound


@pytest.mark.parametrize("levels", [1, 2, 7, 50, 1000])
def test_over_all_steps_the_damped_gammas_let_a_disagreement_grow_by_what_is_promised(levels):
    sigmas = torch.linspace(10.0, 0.0, levels + 1)
    assert math.prod(damped(sigmas, step) for step in range(levels)) == pytest.approx(1 / GROWTH)


def variance_preserving(sigmas):
    signal = (1 + sigmas**2).rsqrt()
    return signal, sigmas * signal


def published_bdia(sigmas, first, second):
    """BDIA-DDIM, gamma 1: z' = z_above - [DDIM from z back to above] + [DDIM from z down], variance preserving."""
    a, s = variance_preserving(sigmas)
    above, z = first, second
    for i in range(1, len(sigmas) - 1):
        e = eps(z / a[i], sigmas[i])
        estimate = (z - s[i] * e) / a[i]
        down, up = (a[j] * estimate + s[j] * e for j in (i + 1, i - 1))
        above, z = z, above - up + down
    return z


def published_o_belm(sigmas, first, second):
    """O-BELM, eq. 18 of 2410.07273, variance preserving; its h_i is the step from level i down."""
    a, _ = variance_preserving(sigmas)
    above, z = first, second
    for i in range(1, len(sigmas) - 1):
        h, h_above = sigmas[i] - sigmas[i + 1], sigmas[i - 1] - sigmas[i]
        e = eps(z / a[i], sigmas[i])
        ratio = h**2 / h_above**2
        new = ratio * a[i + 1] / a[i - 1] * above + (1 - ratio) * a[i + 1] / a[i] * z
        above, z = z, new - h * (h + h_above) / h_above * a[i + 1] * e
    return z


@pytest.mark.parametrize("gamma, published", [(bdia, published_bdia), (o_belm, published_o_belm)])
def test_sampling_equals_the_published_recurrence(gamma, published):
    sigmas = ddim_uniform(20)
    pair = sample_exact_inversion(gaussian_denoiser, clean(), sigmas, gamma=gamma)
    states = []
    back = sample_exact(
        gaussian_denoiser,
        pair.noise,
        sigmas,
        callback=lambda state: states.append(state["x"]),
        step_from=pair.step_from,
        gamma=gamma,
    )
    signal, _ = variance_preserving(sigmas)
    assert_close(back, published(sigmas, signal[0] * states[0], signal[1] * states[1]))


def test_exact_without_a_companion_starts_with_a_ddim_step_and_is_more_accurate_than_ddim():
    sigmas = ddim_uniform(50)
    noise = clean() * math.sqrt(1 + (float(sigmas[0]) / SPREAD) ** 2)
    errors = [relative(sample(gaussian_denoiser, noise, sigmas), clean()) for sample in (sample_exact, sample_ddim)]
    assert errors[0] < errors[1] / 2, errors


def test_inversion_and_sampling_evaluate_the_same_latents():
    sigmas, up, down = ddim_uniform(20), Recorder(), []
    pair = sample_exact_inversion(up.watching(gaussian_denoiser), clean(), sigmas, record=up)
    sample_exact(
        gaussian_denoiser, pair.noise, sigmas, callback=lambda state: down.append(state["x"]), step_from=pair.step_from
    )
    assert len(up.visits) == 21 and len(down) == 20
    for step, x in enumerate(down):
        assert_close(up.last[step][0], x)
        assert up.last[step][1] == float(sigmas[step])


# --- noising -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_noising_evaluates_the_clean_latent_with_one_noise_at_every_level(batch):
    x, sigmas, visits = clean(batch), ddim_uniform(7), Recorder()
    noise = sample_noising(visits.watching(gaussian_denoiser), x, sigmas, record=visits)
    assert sorted(visits.last) == list(range(len(sigmas) - 1))
    for step, (rows, level) in visits.last.items():
        assert level == float(sigmas[step])
        assert_close(rows, x + level * fixed_noise(x))
    assert_close(noise, x + sigmas[0] * fixed_noise(x))
    assert max(len(rows) for _, rows, _ in visits.visits) <= max(ROWS_AT_ONCE, batch)


def test_the_fixed_noise_is_white_the_same_each_time_and_the_same_for_each_picture():
    x = torch.zeros(3, 4, 64, 64)
    noise = fixed_noise(x)
    assert noise.shape == (1, 4, 64, 64) and torch.equal(noise, fixed_noise(x[:1]))
    assert abs(float(noise.mean())) < 0.03 and float(noise.std()) == pytest.approx(1.0, abs=0.02)


# --- all -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", INVERSIONS)
def test_every_method_records_each_level_on_a_latent_of_that_level_and_counts_its_calls(method):
    x, sigmas, visits, seen = clean(), ddim_uniform(20), Recorder(), []
    settings = InversionSettings(method, corrections=3)
    found = invert_latent(visits.watching(gaussian_denoiser), x, sigmas, settings, callback=seen.append, record=visits)
    assert found.calls == len(visits.visits)
    assert found.calls <= settings.spec.calls(20, 3) and (found.calls == 21 or method in ("fixed_point", "noising"))
    assert len(seen) == 20
    assert sorted(visits.last) == list(range(20))
    for step, (rows, level) in visits.last.items():
        assert level == float(settings.spec.levels(sigmas)[step])
        if method in ("noising", "gamma"):
            assert float(rows.var()) == pytest.approx(float(x.var()) + level**2, rel=0.35)
        else:
            assert relative(rows, x * math.sqrt(1 + (level / SPREAD) ** 2)) < 0.15, step
    assert torch.equal(x, clean())


@pytest.mark.parametrize("method", INVERSIONS)
def test_every_method_calls_back_once_a_level_in_the_order_of_its_walk(method):
    """Inversions walk up from the lowest level; noising goes down with the schedule, as samplers do."""
    sigmas, seen, settings = ddim_uniform(10), [], InversionSettings(method)
    invert_latent(gaussian_denoiser, clean(), sigmas, settings, callback=seen.append)
    grid = settings.spec.levels(sigmas).tolist()
    assert [state["i"] for state in seen] == list(range(10))
    assert [float(state["sigma"]) for state in seen] == (grid if method == "noising" else grid[::-1])
    for state in seen:
        level = state["sigma"].expand(len(state["x"]))
        assert_close(state["denoised"], gaussian_denoiser(state["x"], level), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", [sample_ddim, sample_exact])
def test_samplers_call_back_once_a_level_downwards(sampler):
    sigmas, seen = ddim_uniform(10), []
    sampler(gaussian_denoiser, clean(), sigmas, callback=seen.append)
    assert [state["i"] for state in seen] == list(range(10))
    assert [float(state["sigma"]) for state in seen] == sigmas[:-1].tolist()
    assert torch.equal(seen[0]["x"], clean())


@pytest.mark.parametrize(
    "method, most, sampling",
    [
        ("ddim", {0: 21, 5: 21}, 20),
        ("fixed_point", {0: 20, 1: 60, 2: 80}, 20),
        ("exact", {0: 21, 5: 21}, 20),
        ("noising", {0: 20, 5: 20}, 20),
        ("midpoint", {0: 21, 5: 21}, 21),
        ("gamma", {0: 21, 5: 21}, 20),
    ],
)
def test_the_calls_of_a_method_are_known_before_it_runs(method, most, sampling):
    way = INVERSIONS[method]
    assert {corrections: way.calls(20, corrections) for corrections in most} == most
    assert way.sampling_calls(20) == sampling
    together = [way.steps_per_call(batch, 20) for batch in (1, 2, 3, 4, 5)]
    assert together == ([4, 2, 1, 1, 1] if method == "noising" else [1] * 5)


def test_fewer_corrections_cost_fewer_calls():
    calls = [
        invert_latent(gaussian_denoiser, clean(), ddim_uniform(20), InversionSettings("fixed_point", n)).calls
        for n in (0, 1, 3)
    ]
    assert calls[0] == 20 and calls[1] == 40 and 40 < calls[2] <= 80


@pytest.mark.parametrize("method, bound", [("ddim", 0.2), ("fixed_point", 0.02), ("exact", 1e-10), ("midpoint", 0.02)])
def test_what_belongs_to_a_method_samples_back(method, bound):
    sigmas = ddim_uniform(20)
    found = invert_latent(gaussian_denoiser, clean(), sigmas, InversionSettings(method))
    assert relative(sample_back(gaussian_denoiser, found.noise_pair, sigmas, method), clean()) < bound


def test_ddim_is_the_plain_inversion():
    sigmas = ddim_uniform(20)
    found = invert_latent(gaussian_denoiser, clean(), sigmas, InversionSettings())
    assert torch.equal(found.noise_pair.noise, sample_ddim_inversion(gaussian_denoiser, clean(), sigmas))
    assert found.noise_pair.step_from is None and found.calls == 21


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(MagicStyleError, match="method 'heun' is unknown: choose from ddim, fixed_point"):
        InversionSettings("heun")
    with pytest.raises(MagicStyleError, match="corrections is -1: choose a number from 0 to 20"):
        InversionSettings("fixed_point", -1)


def test_a_round_trip_is_measured_against_the_latents_own_size():
    x = clean()
    trip = RoundTrip.between(1.01 * x, x)
    assert trip.relative == pytest.approx(0.01) and not trip.poor
    span = float(x.max() - x.min())
    assert trip.psnr == pytest.approx(20 * math.log10(span / float((0.01 * x).square().mean().sqrt())))
    assert RoundTrip.between(2 * x, x).poor and RoundTrip.between(x * float("nan"), x).poor
    assert isinstance(sample_exact_inversion(gaussian_denoiser, x, ddim_uniform(3)), NoisePair)

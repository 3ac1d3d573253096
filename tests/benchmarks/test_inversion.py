"""The pieces of the inversion benchmark that are not the pack's own."""

import pytest
import torch
from magicstyle.benchmarks import inversion
from magicstyle.core.inversion import sampling_grid
from magicstyle.core.schedule import noise_levels, timesteps
from magicstyle.tests.core.test_inversion import clean, gaussian_denoiser


def test_heun_round_trips_are_of_second_order_where_plain_ones_are_of_first():
    relative = [inversion.heun_round_trip(gaussian_denoiser, clean(), log_levels(n)).relative for n in (50, 100, 200)]
    plain = [
        inversion.round_trip(gaussian_denoiser, clean(), log_levels(n), inversion.METHODS[0].settings).trip.relative
        for n in (50, 100, 200)
    ]
    assert relative[0] > 3 * relative[1] > 9 * relative[2], relative
    assert plain[0] < 3 * plain[1] < 9 * plain[2] and plain[2] > relative[2], plain


def log_levels(steps):
    """Levels evenly spaced in log space, the lowest far below the data's spread."""
    grid = torch.logspace(1, -3, steps, dtype=torch.float64)
    return torch.cat([grid, grid.new_zeros(1)])


def test_snapped_schedules_lie_on_the_models_levels_and_karras_ones_between():
    levels, between = noise_levels(), sampling_grid(inversion.karras(20))
    snapped = sampling_grid(inversion.snapped(inversion.karras(20)))
    assert torch.equal(levels[timesteps(snapped, levels)], snapped)
    assert (snapped[:-1] > snapped[1:]).all() and (between[:-1] > between[1:]).all()
    assert not torch.equal(levels[timesteps(between, levels)], between)
    assert torch.isclose(between[0], levels[-1]) and torch.isclose(between[-1], levels[0])


@pytest.mark.parametrize("calls", inversion.CALLS)
def test_methods_are_compared_at_nearly_the_same_calls(calls):
    for method in inversion.METHODS:
        assert abs(method.steps(calls) * method.calls_per_step - calls) <= method.calls_per_step


def test_only_the_measured_part_of_the_page_is_renewed():
    page = inversion.PAGE.read_text(encoding="utf-8")
    assert page.count(inversion.START) == page.count(inversion.END) == 1
    renewed = inversion.replaced(inversion.replaced(page, "old"), "new")
    assert "\n\nnew\n\n" in renewed and "old" not in renewed.partition(inversion.START)[2].partition(inversion.END)[0]
    assert renewed.partition(inversion.START)[0] == page.partition(inversion.START)[0]
    assert renewed.partition(inversion.END)[2] == page.partition(inversion.END)[2]

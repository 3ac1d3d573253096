"""The recipes cost what they promise."""

import pytest
from magicstyle.core.inversion_methods import invert_latent, sample_back
from magicstyle.core.presets import PRESETS
from magicstyle.core.schedule import ddim_uniform, noise_levels
from magicstyle.tests.core.test_inversion import clean, gaussian_denoiser


@pytest.mark.parametrize("name, most", [("fast", 45), ("balanced", 65), ("faithful", 155)])
def test_a_preset_costs_the_model_calls_that_it_says(name, most):
    preset, calls = PRESETS[name], []
    sigmas = ddim_uniform(noise_levels(), preset.steps).double()

    def counted(x, sigma):
        calls.append(1)
        return gaussian_denoiser(x, sigma)

    ends = [invert_latent(counted, clean(), sigmas, preset.inversion).noise_pair for _ in ("content", "style")]
    sample_back(counted, ends[0], sigmas, preset.inversion.method)
    assert len(calls) == preset.calls <= most


def test_presets_cost_more_from_one_to_the_next():
    calls = [preset.calls for preset in PRESETS.values()]
    assert calls == sorted(set(calls))

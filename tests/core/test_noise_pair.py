"""Where an inversion ends, as one value."""

import torch
from magicstyle.core.noise_pair import NoisePair

NOISE, COMPANION = torch.full((1, 4, 2, 3), 2.0), torch.full((1, 4, 2, 3), 3.0)


def test_both_ends_go_through_one_map_and_what_is_not_there_stays_away():
    both = NoisePair(NOISE, COMPANION).map(lambda end: 10.0 * end)
    assert torch.equal(both.noise, 10.0 * NOISE) and torch.equal(both.step_from, 10.0 * COMPANION)
    alone = NoisePair(NOISE).map(lambda end: end + 1.0)
    assert torch.equal(alone.noise, NOISE + 1.0) and alone.step_from is None


def test_the_ends_that_there_are_have_names():
    assert NoisePair(NOISE).tensors == {"noise": NOISE}
    assert NoisePair(NOISE, COMPANION).tensors == {"noise": NOISE, "companion": COMPANION}

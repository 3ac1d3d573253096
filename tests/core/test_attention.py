import math
from dataclasses import replace

import pytest
import torch
from magicstyle.core.attention import Part, Source, attend, attend_to_parts, log_weight, query_groups
from magicstyle.tests.core.oracle import dense_attention, kernel, randn
from torch.testing import assert_close

HEADS, N, C = 2, 15, 24  # a 3 x 5 grid
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def source(seed, m=N, b=3, **bias):
    return Source(randn(seed, b, m, C), randn(seed + 50, b, m, C), **bias)


def dense(q, sources, tau=1.0):
    """The oracle: one dense n x m bias per source."""
    parts = []
    for s in sources:
        weight = s.log_weight if torch.is_tensor(s.log_weight) else torch.full((1, q.shape[1]), float(s.log_weight))
        keys = torch.zeros(1, s.k.shape[1]) if s.key_bias is None else s.key_bias
        rows = max(weight.shape[0], keys.shape[0])
        parts.append((weight.unsqueeze(2) + keys.unsqueeze(1)).expand(rows, -1, -1))
    rows = max(part.shape[0] for part in parts)
    bias = torch.cat([part.expand(rows, -1, -1) for part in parts], dim=2)
    k, v = torch.cat([s.k for s in sources], 1), torch.cat([s.v for s in sources], 1)
    return dense_attention(q, k, v, HEADS, bias, tau)


SOURCES = {
    "one source": [source(1)],
    "equal weights": [source(1, log_weight=0.4), source(2, 20, log_weight=0.4)],
    "weights": [source(1, log_weight=math.log(2.5)), source(2, 20, log_weight=math.log(0.3))],
    "key mask": [source(1, key_bias=log_weight(randn(7, 1, N).sigmoid())), source(2, 20)],
    "key mask per row": [source(1, key_bias=log_weight(randn(7, 3, N).sigmoid())), source(2, 20, log_weight=1.0)],
    "region": [source(1, log_weight=log_weight(randn(8, 1, N).sigmoid())), source(2, 20, log_weight=-0.5)],
    "region per row and key mask": [
        source(1, log_weight=log_weight(randn(8, 3, N).sigmoid()), key_bias=log_weight(randn(9, 1, N).sigmoid())),
        source(2, 20, log_weight=-0.5),
        source(3, 7, log_weight=log_weight(randn(10, 1, N).sigmoid())),
    ],
    "nine sources": [source(i, 5, log_weight=0.1 * i) for i in range(9)],
}


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("tau", [1.0, 1.5])
@pytest.mark.parametrize("name", SOURCES)
def test_any_mix_of_weights_regions_and_masks_equals_a_dense_bias(name, tau, takes_key_mask):
    q = randn(0, 3, N, C)
    assert_close(attend(kernel(HEADS, takes_key_mask), q, SOURCES[name], tau), dense(q, SOURCES[name], tau), **CLOSE)


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("bias", [None, log_weight(randn(7, 1, 6).sigmoid())])
@pytest.mark.parametrize("name", SOURCES)
def test_what_stands_beside_is_asked_with_every_mix_as_one_source_more(name, bias, takes_key_mask):
    q, text = randn(0, 3, N, C), source(40, 6, key_bias=bias)
    beside = replace(kernel(HEADS, takes_key_mask), text_source=text)
    assert_close(attend(beside, q, SOURCES[name], 1.5), dense(q, [*SOURCES[name], text], 1.5), **CLOSE)


def test_it_is_one_call_and_no_bias_is_as_large_as_tokens_times_tokens():
    for sources in SOURCES.values():
        for takes_key_mask in (True, False):
            calls = []
            attend(kernel(HEADS, takes_key_mask, calls), randn(0, 3, N, C), sources)
            ((_, _, mask),) = calls
            assert mask is None or mask[1] == 1


def test_one_unweighted_source_reaches_the_kernel_untouched():
    q, only = randn(0, 3, N, C), source(1)
    seen = []
    spy = kernel(HEADS, True)
    attend(type(spy)(lambda *qkv: seen.extend(qkv) or q, HEADS, True), q, [only])
    assert seen[0] is q and seen[1] is only.k and seen[2] is only.v and seen[3] is None


def test_doubling_a_weight_doubles_the_sources_mass_whatever_the_sign_of_the_logits():
    q = randn(0, 1, N, C)
    for sign in (1.0, -1.0):
        k = sign * q.abs().mean() * torch.ones(1, 4, C)
        marked = [Source(k, torch.ones(1, 4, C), math.log(w)) for w in (1.0, 2.0)]
        other = Source(randn(3, 1, 4, C), torch.zeros(1, 4, C))
        single, double = (attend(kernel(HEADS, True), q, [mark, other]) for mark in marked)
        assert_close(double / (1 - double), 2 * single / (1 - single), atol=1e-4, rtol=1e-4)


def test_order_of_sources_does_not_matter():
    q, sources = randn(0, 3, N, C), SOURCES["region per row and key mask"]
    assert_close(attend(kernel(HEADS, False), q, sources), attend(kernel(HEADS, False), q, sources[::-1]), **CLOSE)


def test_a_weight_of_zero_inside_a_region_leaves_nothing_of_the_source():
    q = randn(0, 1, N, C)
    nothing = Source(randn(1, 1, N, C), torch.full((1, N, C), 1e3), log_weight(torch.zeros(1, N)))
    other = Source(randn(2, 1, N, C), randn(3, 1, N, C))
    assert_close(attend(kernel(HEADS, False), q, [nothing, other]), dense(q, [other]), atol=1e-5, rtol=1e-5)


def half(soft=()):
    """A region over the first half of the tokens, with an edge of these values."""
    values = torch.zeros(1, N)
    values[:, : N // 2] = 1.0
    values[:, N // 2 : N // 2 + len(soft)] = torch.tensor(soft)
    return values


REGIONS = {
    "hard": (half(), 1 - half(), 2),
    "soft edge": (half((0.7, 0.4)), 1 - half((0.7, 0.4)), 3),
    "disjoint with a gap": (half(), half().flip(1) * 0.5, 3),
    "everywhere": (torch.ones(1, N), torch.full((1, N), 0.3), 1),
    "per row": (torch.cat([half(), 1 - half(), half()]), half(), 1),
}


@pytest.mark.parametrize("takes_key_mask", [True, False])
@pytest.mark.parametrize("name", REGIONS)
def test_regions_are_asked_group_by_group_and_equal_a_dense_bias(name, takes_key_mask):
    one, two, count = REGIONS[name]
    q, calls = randn(0, 3, N, C), []
    sources = [source(1, log_weight=log_weight(one)), source(2, 20, log_weight=log_weight(two)), source(3, 7)]
    assert_close(attend(kernel(HEADS, takes_key_mask, calls), q, sources, 1.3), dense(q, sources, 1.3), **CLOSE)
    assert len(calls) == count
    assert sum(q_shape[1] for q_shape, _, _ in calls) == N


def test_a_group_does_not_pay_for_sources_that_it_does_not_see():
    calls = []
    sources = [source(1, log_weight=log_weight(half())), source(2, 20, log_weight=log_weight(1 - half()))]
    attend(kernel(HEADS, False, calls), randn(0, 3, N, C), sources)
    assert sorted(k[1:] for _, k, _ in calls) == [(N, C), (20, C)]


def test_tokens_without_two_alike_form_no_group():
    assert query_groups([torch.linspace(0, 1, N).unsqueeze(0), 0.0]) == []
    assert query_groups([0.0, 1.0]) == []


def test_at_a_soft_edge_a_source_acts_where_it_weighs_and_nowhere_else():
    """Two flat groups, and an edge of single tokens: half of them see the second source, half weigh it 0."""
    n, edge = 64, 8
    region = torch.ones(1, n)
    region[:, : n // 2] = 0.0
    region[:, :edge] = torch.tensor([0.0, 0.3] * (edge // 2))
    other = torch.ones(1, n)
    other[:, :edge] = torch.linspace(0.2, 0.9, edge)
    q = randn(0, 3, n, C)
    sources = [source(1, n), source(2, 20, log_weight=log_weight(region)), source(3, 9, log_weight=log_weight(other))]
    assert {group.log_weights is None for group in query_groups([s.log_weight for s in sources])} == {True, False}
    assert_close(attend(kernel(HEADS, False), q, sources), dense(q, sources), **CLOSE)


def test_heads_widen_by_eight_channels_at_a_time_as_fused_kernels_want():
    for count, channels in ((1, 8), (6, 8), (7, 8), (8, 16)):
        calls = []
        sources = [source(i, 5, key_bias=torch.zeros(1, 5), log_weight=0.1 * i) for i in range(count)]
        attend(kernel(HEADS, False, calls), randn(0, 3, N, C), sources)
        assert calls[0][0][2] == C + HEADS * channels


@pytest.mark.parametrize("takes_key_mask", [True, False])
def test_a_source_of_several_frames_is_another_one_for_each_part_of_the_queries(takes_key_mask):
    frames, n, m = 3, 4, 5
    q, (k, v), (k2, v2) = randn(1, 2, frames * n, C), randn(2, 2, 2, frames * m, C), randn(3, 2, 2, m, C)
    weight, bias = randn(4, 1, frames * n), randn(5, 1, frames * m)
    timed, still = Source(k, v, weight, bias, frames), Source(k2, v2, 0.3)
    kernel_of = kernel(HEADS, takes_key_mask)
    parts = []
    for f in range(frames):
        own, keys = slice(f * n, (f + 1) * n), slice(f * m, (f + 1) * m)
        alone = Source(k[:, keys], v[:, keys], weight[:, own], bias[:, keys])
        parts.append(attend(kernel_of, q[:, own], [alone, still], 1.2))
    torch.testing.assert_close(attend(kernel_of, q, [timed, still], 1.2), torch.cat(parts, 1), atol=1e-6, rtol=1e-5)
    mass = torch.rand(1, frames * n, 1, generator=torch.Generator().manual_seed(6))
    timed, rest = timed._replace(log_weight=0.0), Part(1.0 - mass, q, still._replace(log_weight=0.0))
    expected = [
        mass[:, s * n : (s + 1) * n] * attend(kernel_of, q[:, s * n : (s + 1) * n], [timed.at(s, frames)])
        + (1.0 - mass[:, s * n : (s + 1) * n]) * attend(kernel_of, q[:, s * n : (s + 1) * n], [still])
        for s in range(frames)
    ]
    found = attend_to_parts(kernel_of, [Part(mass, q, timed), rest])
    torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-5, rtol=1e-4)

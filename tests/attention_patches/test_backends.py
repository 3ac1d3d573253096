"""Weights and regions beside attention backends of low precision: simulated kernels, no host."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from magicstyle.attention_patches.architectures import backends
from magicstyle.attention_patches.architectures.base import Mark, RawCall
from magicstyle.core.attention import Source, attend, log_weight
from magicstyle.tests.core.oracle import dense_attention, randn
from magicstyle.tests.int8_attention import int8_attention

HEADS, WIDTH, N = 2, 64, 1024
C = HEADS * WIDTH


def source(seed, log_weight=0.0, key_bias=None, c=C):
    return Source(randn(seed, 1, N, c), randn(seed + 50, 1, N, c), log_weight, key_bias)


SOFT = torch.linspace(0.0, 1.0, N).unsqueeze(0)
SOURCES = {
    "weights 1 and 2": [source(1), source(2, math.log(2.0))],
    "content_weight 0.003": [source(1), source(2, math.log(0.003))],
    "soft region": [source(1, log_weight(SOFT)), source(2, log_weight(1.0 - SOFT))],
    "soft style mask": [source(1, 0.0, log_weight(SOFT)), source(2)],
}


def dense(q, sources, heads=HEADS):
    """The oracle's answer: a bias for every query and key."""
    rows = [
        (s.log_weight.unsqueeze(2) if torch.is_tensor(s.log_weight) else torch.full((1, N, 1), s.log_weight))
        + (torch.zeros(1, 1, N) if s.key_bias is None else s.key_bias.unsqueeze(1))
        for s in sources
    ]
    k, v = (torch.cat([getattr(s, name) for s in sources], dim=1) for name in "kv")
    return dense_attention(q, k, v, heads, torch.cat(rows, dim=2))


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def attention_sage(q, k, v, heads, mask=None, **kwargs):
    """The host's own function where it was started with --use-sage-attention."""
    return int8_attention(q, k, v, heads, mask)


def attention_pytorch(q, k, v, heads, mask=None, **kwargs):
    q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (q, k, v))
    mask = None if mask is None else mask.unsqueeze(1)
    return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "b h n d -> b n (h d)")


def node_that_chooses_a_backend(func, *args, **kwargs):
    """An override of a node that sets the attention of a model, as ModelAttentionBackend and Sage nodes do."""
    return attention_sage(*args, **kwargs)


def node_around_the_hosts_function(func, *args, **kwargs):
    return func(*args, **kwargs)


class Unhashable:
    """An override that no dictionary takes, which answers by itself."""

    __hash__ = None

    def __call__(self, func, *args, **kwargs):
        return attention_sage(*args, **kwargs)


def raw(func, previous=None, heads=HEADS, c=C, n=N, **kwargs):
    q, k, v = (randn(seed, 1, n, c) for seed in (7, 8, 9))
    return RawCall(func, q, k, v, (heads,), kwargs, {}, Mark(), previous)


LOW = {
    "the host's flag": (attention_sage, None),
    "the host's flag, a node around it": (attention_sage, node_around_the_hosts_function),
    "a node": (attention_pytorch, node_that_chooses_a_backend),
    "a partial": (attention_pytorch, partial(node_that_chooses_a_backend)),
    "an object without a hash": (attention_pytorch, Unhashable()),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("low", LOW)
def test_weights_and_regions_are_exact_beside_an_int8_kernel(low, name):
    q = randn(0, 1, N, C)
    kernel = replace(raw(*LOW[low]).kernel(), takes_key_mask=False)
    assert error(attend(kernel, q, SOURCES[name]), dense(q, SOURCES[name])) < 1e-5


def test_the_simulated_kernel_loses_a_soft_region_and_hardly_anything_else():
    """Otherwise the tests above would show nothing."""
    q, kernel = randn(0, 1, N, C), replace(raw(attention_sage).kernel(), exact=None)
    plain = [source(1), source(2)]
    assert error(attend(kernel, q, plain), dense(q, plain)) < 0.04
    assert error(attend(kernel, q, SOURCES["soft region"]), dense(q, SOURCES["soft region"])) > 0.2
    assert error(attend(kernel, q, SOURCES["content_weight 0.003"]), dense(q, SOURCES["content_weight 0.003"])) > 0.08


@pytest.mark.parametrize("low", LOW)
def test_what_needs_no_channels_stays_with_the_backend(low):
    q, sources = randn(0, 1, N, C), [source(1), source(2)]
    k, v = (torch.cat([getattr(s, name) for s in sources], dim=1) for name in "kv")
    assert torch.equal(attend(raw(*LOW[low]).kernel(), q, sources), attention_sage(q, k, v, HEADS))


@pytest.mark.parametrize("low", LOW)
def test_heads_of_128_are_not_widened_in_a_kernel_that_takes_no_more(low):
    q, sources = randn(0, 1, N, 128), [source(1, c=128), source(2, 0.5, c=128)]
    kernel = replace(raw(*LOW[low], heads=1, c=128).kernel(), takes_key_mask=False)
    assert error(attend(kernel, q, sources), dense(q, sources, heads=1)) < 1e-5
    with pytest.raises(ValueError, match="136"):
        attend(replace(kernel, exact=None, call=lambda q, k, v, mask: attention_sage(q, k, v, 1)), q, sources)


EXACT = {"alone": None, "a node around it": node_around_the_hosts_function}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("around", EXACT)
def test_with_an_exact_backend_the_channels_go_to_it_as_before(around, name):
    calls = []

    def attention_pytorch_counted(*args, **kwargs):
        calls.append(args[0].shape)
        return attention_pytorch(*args, **kwargs)

    attention_pytorch_counted.__name__ = "attention_pytorch"
    q = randn(0, 1, N, C)
    kernel = replace(raw(attention_pytorch_counted, EXACT[around]).kernel(), takes_key_mask=False)
    found = attend(kernel, q, SOURCES[name])
    assert torch.equal(found, attend(replace(kernel, exact=None), q, SOURCES[name]))
    assert (1, N, HEADS * (WIDTH + 8)) in calls


def test_an_override_is_looked_at_once_for_each_shape():
    seen = []

    def around(func, q, *args, **kwargs):
        seen.append(q.shape[-1])
        return func(q, *args, **kwargs)

    q, sources = randn(0, 1, N, C), SOURCES["weights 1 and 2"]
    for _ in range(3):
        attend(replace(raw(attention_pytorch, around).kernel(), takes_key_mask=False), q, sources)
    assert seen == [C] + 3 * [HEADS * (WIDTH + 8)]


def test_our_own_override_is_looked_through():
    def ours(func, *args, **kwargs):
        raise AssertionError("it is silent during a fused call")

    vars(ours)[backends.BENEATH] = node_that_chooses_a_backend
    q, sources = randn(0, 1, N, C), SOURCES["soft region"]
    assert error(attend(raw(attention_pytorch, ours).kernel(), q, sources), dense(q, sources)) < 1e-5


@pytest.mark.parametrize("split_in, split_out", [(False, False), (True, True), (True, False)])
def test_pytorchs_attention_takes_both_layouts(split_in, split_out):
    q, k, v = (randn(seed, 2, n, 3 * 8) for seed, n in ((1, 5), (2, 7), (3, 7)))
    given = (rearrange(t, "b n (h d) -> b h n d", h=3) for t in (q, k, v)) if split_in else (q, k, v)
    bias = randn(4, 2, 1, 7)
    out = backends.torch_attention(*given, 3, bias, skip_reshape=split_in, skip_output_reshape=split_out)
    out = rearrange(out, "b h n d -> b n (h d)") if split_out else out
    torch.testing.assert_close(out, dense_attention(q, k, v, 3, bias), atol=1e-5, rtol=1e-5)

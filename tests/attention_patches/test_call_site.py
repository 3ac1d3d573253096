"""The override called by hand, with the options dict that the host's UNet would pass."""

import threading

import pytest
import torch
from magicstyle.attention_patches.call_site import OVERRIDE, CallSite, hooked, replaced_layers
from magicstyle.core.layers import LayerId

HEADS, GRID = 2, (7, 11)
N = GRID[0] * GRID[1]


def options(**more):
    return {
        "block": ("output", 9),
        "block_index": 1,
        "activations_shape": [2, 16, *GRID],
        "cond_or_uncond": [1, 0],
        "sigmas": torch.tensor([3.5, 3.5]),
        **more,
    }


def tensors(q=N, k=N):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, n, 16, generator=generator) for n in (q, k, k)]


def attention_basic(q, k, v, heads, attn_precision=None, transformer_options=None, **kwargs):
    return torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v


def call_attention(live, q, k, v, *args, **kwargs):
    """What the host's wrap_attn does."""
    args = args or (HEADS,)
    if OVERRIDE in live:
        return live[OVERRIDE](attention_basic, q, k, v, *args, transformer_options=live, **kwargs)
    return attention_basic(q, k, v, *args, transformer_options=live, **kwargs)


def block(live, *, replaced=False, self_tokens=(N, N), cross_tokens=77, **kwargs):
    """One transformer block: attn1 between its patches, then attn2 -> both outputs."""
    q, k, v = tensors(*self_tokens)
    for patch in live["patches"]["attn1_patch"]:
        q, k, v = patch(q, k, v, live)
    first = q if replaced else call_attention(live, q, k, v, **kwargs)
    for patch in live["patches"]["attn1_output_patch"]:
        first = patch(first, live)
    return first, call_attention(live, *tensors(N, cross_tokens), **kwargs)


class Handler:
    def __init__(self, answer=None):
        self.sites, self.kernels, self.answer = [], [], answer

    def __call__(self, site, kernel, q, k, v):
        self.sites.append(site)
        self.kernels.append(kernel)
        return kernel.call(q, k, v, None) if self.answer is None else torch.full_like(q, self.answer)


def test_only_self_attention_reaches_the_handler_even_on_a_grid_of_77_tokens():
    live, handler = options(), Handler(answer=5.0)
    with hooked(live, handler):
        first, second = block(live)
    assert handler.sites == [CallSite(LayerId("output", 9, 1), GRID, 2)]
    assert handler.kernels[0].heads == HEADS
    assert (first == 5.0).all()
    assert torch.equal(second, attention_basic(*tensors(), HEADS))


def test_an_idle_handler_is_bit_identical():
    live = options()
    plain = attention_basic(*tensors(), HEADS)
    with hooked(live, Handler()):
        first, second = block(live)
    assert torch.equal(first, plain) and torch.equal(second, plain)


def test_after_a_replaced_attn1_the_cross_attention_is_not_mistaken():
    live, handler = options(), Handler()
    with hooked(live, handler):
        block(live, replaced=True)
    assert handler.sites == []


@pytest.mark.parametrize("self_tokens", [(50, N), (N, 50), (50, 50)])
def test_merged_or_tiled_tokens_pass_by_and_are_told_of(self_tokens):
    live, handler, missed = options(), Handler(answer=5.0), []
    with hooked(live, handler, missed=missed.append):
        block(live, self_tokens=self_tokens)
        assert [site.layer for site in missed] == [LayerId("output", 9, 1)]
        block(live)
    assert len(missed) == len(handler.sites) == 1


def test_replaced_layers_are_known_by_block_or_by_transformer():
    layers = [LayerId("output", 9, 0), LayerId("output", 9, 1), LayerId("middle", 0, 0), LayerId("output", 3, 0)]
    live = options(
        patches_replace={"attn1": {("output", 9, 1): len, ("middle", 0): len}, "attn2": {("output", 3): len}}
    )
    assert replaced_layers(live, layers) == layers[1:3]
    assert replaced_layers(options(), layers) == []


OTHER_CONVENTIONS = [{"mask": torch.zeros(1, N, N)}, {"skip_reshape": True}, {"skip_output_reshape": True}]


@pytest.mark.parametrize("extra", OTHER_CONVENTIONS, ids=lambda extra: next(iter(extra)))
def test_calls_in_another_convention_pass_by(extra):
    live, handler = options(), Handler(answer=5.0)
    with hooked(live, handler):
        block(live, **extra)
    assert handler.sites == []


def test_a_mask_by_position_passes_by():
    live, handler = options(), Handler(answer=5.0)
    with hooked(live, handler):
        live["patches"]["attn1_patch"][0](*tensors(), live)
        call_attention(live, *tensors(), HEADS, torch.zeros(1, N, N))
    assert handler.sites == []


class Theirs:
    """An override that another node has set, which adds one to every answer."""

    def __init__(self):
        self.calls = []

    def __call__(self, func, q, k, v, *args, **kwargs):
        self.calls.append(kwargs)
        return func(q, k, v, *args, **kwargs) + 1.0


def test_an_earlier_override_is_called_for_every_attention():
    theirs = Theirs()
    live, handler = options(**{OVERRIDE: theirs}), Handler()
    with hooked(live, handler):
        first, _ = block(live, attn_precision=torch.float32, unknown=3)
    assert len(theirs.calls) == 2 and len(handler.sites) == 1
    assert all(call["attn_precision"] == torch.float32 and call["unknown"] == 3 for call in theirs.calls)
    assert torch.equal(first, attention_basic(*tensors(), HEADS) + 1.0)
    assert live[OVERRIDE] is theirs


@pytest.mark.parametrize("extra", OTHER_CONVENTIONS, ids=lambda extra: next(iter(extra)))
def test_an_earlier_override_is_given_what_passes_by_as_it_came(extra):
    theirs = Theirs()
    live, handler = options(**{OVERRIDE: theirs}), Handler(answer=5.0)
    with hooked(live, handler):
        block(live, **extra)
    assert handler.sites == [] and len(theirs.calls) == 2
    assert all(call[name] is value for call in theirs.calls for name, value in extra.items())


def test_an_earlier_override_is_not_asked_to_take_a_mask_of_keys(monkeypatch):
    """It may be a kernel that knows none; some of the host's own functions do."""
    monkeypatch.setattr(attention_basic, "__name__", "attention_pytorch")
    handler = Handler()
    for live in (options(), options(**{OVERRIDE: Theirs()})):
        with hooked(live, handler):
            block(live)
    assert [kernel.takes_key_mask for kernel in handler.kernels] == [True, False]


@pytest.mark.parametrize("fails", [False, True])
def test_options_leave_as_they_came_also_after_an_error(fails):
    theirs = {"attn1_patch": [lambda n, c, v, _: (n, c, v)]}
    live = options(patches=theirs)
    before = dict(live)
    try:
        with hooked(live, Handler()):
            assert len(live["patches"]["attn1_patch"]) == 2
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert live == before and live["patches"] is theirs and len(theirs["attn1_patch"]) == 1


def test_two_hooks_do_not_fuse_each_others_result():
    live, outer, inner = options(), Handler(answer=1.0), Handler()
    with hooked(live, outer), hooked(live, inner):
        first, _ = block(live)
    assert len(inner.sites) == 1 and len(outer.sites) == 0
    assert torch.equal(first, attention_basic(*tensors(), HEADS))


def test_an_error_in_a_handler_does_not_leave_the_hook_busy():
    def broken(site, kernel, q, k, v):
        raise ValueError

    live, handler = options(), Handler()
    with hooked(live, broken), pytest.raises(ValueError):
        block(live)
    with hooked(live, handler):
        block(live)
    assert len(handler.sites) == 1


def test_threads_do_not_see_each_others_self_attention():
    first, second = options(), options()
    handler, other = Handler(), Handler()
    with hooked(first, handler), hooked(second, other):
        first["patches"]["attn1_patch"][0](*tensors(), first)
        thread = threading.Thread(target=call_attention, args=(second, *tensors()))
        thread.start()
        thread.join()
    assert other.sites == []


def test_a_call_without_block_or_grid_passes_by():
    live, handler = options(), Handler()
    del live["activations_shape"]
    with hooked(live, handler):
        block(live)
    assert handler.sites == []

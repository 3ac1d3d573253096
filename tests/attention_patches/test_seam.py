"""The override called by hand, with the options dict that the host's UNet would pass."""

import threading

import pytest
import torch
from magicstyle.attention_patches.architectures.unet import Unet
from magicstyle.attention_patches.call import Handlers, RowPlan, TokenLayout
from magicstyle.attention_patches.entry import KEY, Entry, with_entry
from magicstyle.attention_patches.model_call import ModelCall
from magicstyle.attention_patches.seam import OVERRIDE, hooked
from magicstyle.core.grid import Window
from magicstyle.core.layers import LayerId

UNET = Unet("SD15", None)
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
    """Answers self-attention, and holds on to the calls."""

    def __init__(self, answer=None):
        self.calls, self.answer = [], answer

    def __call__(self, call):
        self.calls.append(call)
        return call.plain() if self.answer is None else torch.full_like(call.live.q, self.answer)


def hook(live, handler, **more):
    x = torch.zeros(2, 4, *GRID)
    return hooked(ModelCall(x, torch.tensor([9.0, 9.0]), {}, None, live), UNET, Handlers(handler, **more))


def test_only_self_attention_reaches_the_handler_even_on_a_grid_of_77_tokens():
    live, handler = options(original_shape=[2, 4, 14, 22]), Handler(answer=5.0)
    with hook(live, handler):
        first, second = block(live)
    (call,) = handler.calls
    assert call.layer == LayerId("output", 9, 1) and call.kind == "self"
    assert call.layout == TokenLayout(GRID) and call.rows == RowPlan(2, latent=(14, 22))
    assert call.kernel.heads == HEADS
    assert (first == 5.0).all()
    assert torch.equal(second, attention_basic(*tensors(), HEADS))


def test_cross_attention_reaches_the_handler_that_asks_for_it():
    live, handler, cross = options(), Handler(), Handler(answer=3.0)
    with hook(live, handler, cross=cross):
        _, second = block(live, cross_tokens=5)
    (call,) = cross.calls
    assert call.kind == "cross" and call.live.k.shape[1] == 5 and len(handler.calls) == 1
    assert (second == 3.0).all()


def test_rows_are_told_by_the_entry():
    window = Window(1, 2, 3, 4)
    live = options(uuids=["a", "b"])
    live = with_entry(live, negative=frozenset({1}), areas={"b": window})
    handler = Handler()
    with hook(live, handler):
        block(live)
    assert handler.calls[0].rows == RowPlan(2, (True, False), (None, window))


def test_an_idle_handler_is_bit_identical():
    live = options()
    plain = attention_basic(*tensors(), HEADS)
    with hook(live, Handler()):
        first, second = block(live)
    assert torch.equal(first, plain) and torch.equal(second, plain)


def test_after_a_replaced_attn1_the_cross_attention_is_not_mistaken():
    live, handler = options(), Handler()
    with hook(live, handler):
        block(live, replaced=True)
    assert handler.calls == []


@pytest.mark.parametrize("self_tokens", [(50, N), (N, 50), (50, 50)])
def test_merged_or_tiled_tokens_pass_by_and_are_told_of(self_tokens):
    live, handler, missed = options(), Handler(answer=5.0), []
    with hook(live, handler, missed=missed.append):
        block(live, self_tokens=self_tokens)
        assert missed == [LayerId("output", 9, 1)]
        block(live)
    assert len(missed) == len(handler.calls) == 1


def test_replaced_layers_are_known_by_block_or_by_transformer():
    layers = [LayerId("output", 9, 0), LayerId("output", 9, 1), LayerId("middle", 0, 0), LayerId("output", 3, 0)]
    live = options(
        patches_replace={"attn1": {("output", 9, 1): len, ("middle", 0): len}, "attn2": {("output", 3): len}}
    )
    assert UNET.layers_answered_by_others(live, layers) == layers[1:3]
    assert UNET.layers_answered_by_others(options(), layers) == []


OTHER_CONVENTIONS = [{"mask": torch.zeros(1, N, N)}, {"skip_reshape": True}, {"skip_output_reshape": True}]


@pytest.mark.parametrize("extra", OTHER_CONVENTIONS, ids=lambda extra: next(iter(extra)))
def test_calls_in_another_convention_pass_by(extra):
    live, handler = options(), Handler(answer=5.0)
    with hook(live, handler):
        block(live, **extra)
    assert handler.calls == []


def test_a_mask_by_position_passes_by():
    live, handler = options(), Handler(answer=5.0)
    with hook(live, handler):
        live["patches"]["attn1_patch"][0](*tensors(), live)
        call_attention(live, *tensors(), HEADS, torch.zeros(1, N, N))
    assert handler.calls == []


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
    with hook(live, handler):
        first, _ = block(live, attn_precision=torch.float32, unknown=3)
    assert len(theirs.calls) == 2 and len(handler.calls) == 1
    assert all(call["attn_precision"] == torch.float32 and call["unknown"] == 3 for call in theirs.calls)
    assert torch.equal(first, attention_basic(*tensors(), HEADS) + 1.0)
    assert live[OVERRIDE] is theirs


@pytest.mark.parametrize("extra", OTHER_CONVENTIONS, ids=lambda extra: next(iter(extra)))
def test_an_earlier_override_is_given_what_passes_by_as_it_came(extra):
    theirs = Theirs()
    live, handler = options(**{OVERRIDE: theirs}), Handler(answer=5.0)
    with hook(live, handler):
        block(live, **extra)
    assert handler.calls == [] and len(theirs.calls) == 2
    assert all(call[name] is value for call in theirs.calls for name, value in extra.items())


def test_an_earlier_override_is_not_asked_to_take_a_mask_of_keys(monkeypatch):
    """It may be a kernel that knows none; some of the host's own functions do."""
    monkeypatch.setattr(attention_basic, "__name__", "attention_pytorch")
    handler = Handler()
    for live in (options(), options(**{OVERRIDE: Theirs()})):
        with hook(live, handler):
            block(live)
    assert [call.kernel.takes_key_mask for call in handler.calls] == [True, False]


@pytest.mark.parametrize("fails", [False, True])
def test_options_leave_as_they_came_also_after_an_error(fails):
    theirs = {"attn1_patch": [lambda n, c, v, _: (n, c, v)]}
    live = options(patches=theirs)
    before = dict(live)
    try:
        with hook(live, Handler()):
            assert len(live["patches"]["attn1_patch"]) == 2
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert live == before and live["patches"] is theirs and len(theirs["attn1_patch"]) == 1


def test_two_hooks_do_not_fuse_each_others_result():
    live, outer, inner = options(), Handler(answer=1.0), Handler()
    with hook(live, outer), hook(live, inner):
        first, _ = block(live)
    assert len(inner.calls) == 1 and len(outer.calls) == 0
    assert torch.equal(first, attention_basic(*tensors(), HEADS))


def test_a_call_that_is_left_alone_goes_to_the_hook_outside():
    live, outer = options(), Handler(answer=1.0)
    with hook(live, outer), hook(live, lambda call: None):
        first, _ = block(live)
    assert (first == 1.0).all()


def test_a_hook_that_is_alone_silences_the_one_outside():
    live, outer = options(), Handler(answer=1.0)
    call = ModelCall(torch.zeros(2, 4, *GRID), torch.ones(2), {}, None, live)
    with hook(live, outer), hooked(call, UNET, Handlers(lambda call: None), alone=True):
        first, _ = block(live)
    assert outer.calls == [] and torch.equal(first, attention_basic(*tensors(), HEADS))


def test_an_error_in_a_handler_does_not_leave_the_hook_busy():
    def broken(call):
        raise ValueError

    live, handler = options(), Handler()
    with hook(live, broken), pytest.raises(ValueError):
        block(live)
    with hook(live, handler):
        block(live)
    assert len(handler.calls) == 1


def test_threads_do_not_see_each_others_self_attention():
    first, second = options(), options()
    handler, other = Handler(), Handler()
    with hook(first, handler), hook(second, other):
        first["patches"]["attn1_patch"][0](*tensors(), first)
        thread = threading.Thread(target=call_attention, args=(second, *tensors()))
        thread.start()
        thread.join()
    assert other.calls == []


def test_a_call_without_block_or_grid_passes_by():
    live, handler = options(), Handler()
    del live["activations_shape"]
    with hook(live, handler):
        block(live)
    assert handler.calls == []


@pytest.mark.parametrize("number, seen", [(4, True), (5, False)])
def test_what_enters_the_resnet_is_shown_and_may_be_replaced(number, seen):
    live, calls = options(block=("output", number)), []

    def copy(call):
        calls.append(call)
        return call.x + 1.0

    h, skip = torch.zeros(2, 3, *GRID), torch.ones(2, 5, *GRID)
    with hook(live, Handler(), resnet=copy):
        (patch,) = live["patches"]["output_block_patch"]
        after = patch(h, skip, live)
    expected = (h + seen, skip + seen)
    assert all(torch.equal(a, b) for a, b in zip(after, expected, strict=True))
    assert [call.grid for call in calls] == ([GRID] if seen else [])
    assert not calls or calls[0].x.shape == (2, N, 8)


def test_the_entry_is_one_value_that_is_replaced():
    live = options()
    later = with_entry(live, negative=frozenset({1}))
    assert KEY not in live and Entry.of(live).negative == frozenset()
    assert Entry.of(with_entry(later, replaying=True)).negative == frozenset({1})

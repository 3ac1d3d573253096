"""A transformer's attention call taken apart and put together again, without a host."""

from types import SimpleNamespace

import pytest
import torch
from einops import rearrange
from magicstyle.attention_patches.architectures.base import LayerFacts
from magicstyle.attention_patches.architectures.transformer import Stack, Transformer
from magicstyle.attention_patches.call import Handlers
from magicstyle.attention_patches.model_call import ModelCall
from magicstyle.attention_patches.seam import OVERRIDE, hooked
from magicstyle.core.attention import Source, attend
from magicstyle.core.layers import LayerId
from magicstyle.tests.core.oracle import randn

ROWS, TEXT, GRID, HEADS, WIDTH, BEHIND = 2, 5, (2, 3), 2, 8, 4
PICTURE = slice(TEXT, TEXT + GRID[0] * GRID[1])
COUNT = PICTURE.stop + BEHIND


class Joint(Transformer):
    network = "nowhere"
    stacks = (Stack("double", "blocks"),)

    def _facts(self, block):
        return LayerFacts(WIDTH, HEADS)


def attention(q, k, v, heads, mask=None, skip_reshape=False, transformer_options=None):
    """A host's attention function: b n (h d), or b h n d where it says so; b n (h d) comes out."""
    if not skip_reshape:
        q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    if mask is not None and mask.ndim == 3:
        mask = mask.unsqueeze(1)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return rearrange(out, "b h n d -> b n (h d)")


def answered(handler, *, mask=None, split=False, missed=None, text=TEXT):
    """(what the block gets, what the host alone would have answered) for one attention call of block 3."""
    q, k, v = (randn(seed, ROWS, COUNT, WIDTH) for seed in (1, 2, 3))
    if split:
        q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=HEADS) for x in (q, k, v))
    more = ({"skip_reshape": True} if split else {}) | ({} if mask is None else {"mask": mask})
    network = SimpleNamespace(patch_size=2, blocks=[None] * 4)
    options = {"cond_or_uncond": [0]}
    inputs = torch.zeros(ROWS, 4, 2 * GRID[0] - 1, 2 * GRID[1]), torch.ones(ROWS), None, torch.zeros(ROWS, 9, 7)
    call = ModelCall.read((*inputs, None, options), {})

    def block(args):
        return options[OVERRIDE](attention, q, k, v, HEADS, transformer_options=options, **more)

    with hooked(call, Joint("Joint", network), Handlers(handler, missed=missed)):
        patch = options["patches_replace"]["dit"]["double_block", 3]
        found = patch({"img": None, "txt": torch.zeros(ROWS, text, 7)}, {"original_block": block})
    assert options == {"cond_or_uncond": [0]}
    return found, attention(q, k, v, HEADS, **more)


def itself(call):
    """The picture attends to its own keys: what the host would answer."""
    assert call.layer == LayerId("double", 3, 0)
    assert call.layout.grid == GRID and call.layout.picture == PICTURE
    return attend(call.kernel, call.live.q, [Source(call.live.k, call.live.v)])


def padding(dtype):
    """A mask of keys that hides two of the text, other ones in each row."""
    seen = torch.ones(ROWS, 1, COUNT, dtype=torch.bool)
    seen[0, 0, :2] = seen[1, 0, 2:4] = False
    return seen if dtype == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, -1e4)


MASKS = {
    "none": None,
    "of keys": padding(torch.float32),
    "of keys, true or false": padding(torch.bool),
    "weak text": torch.zeros(COUNT, COUNT).index_fill(1, torch.tensor([1, 2]), -0.7),
}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_a_picture_that_attends_to_itself_changes_nothing(name, split):
    found, plain = answered(itself, mask=MASKS[name], split=split)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)


def test_text_and_what_stands_behind_the_picture_keep_their_answer():
    found, plain = answered(lambda call: torch.full_like(call.live.q, 7.0))
    assert bool((found[:, PICTURE] == 7.0).all())
    for rest in (slice(0, TEXT), slice(PICTURE.stop, COUNT)):
        torch.testing.assert_close(found[:, rest], plain[:, rest], rtol=0, atol=1e-6)


def test_a_call_that_nobody_answers_is_the_hosts_to_the_last_bit():
    found, plain = answered(lambda call: None)
    assert torch.equal(found, plain)


def test_a_mask_that_differs_by_query_is_left_alone_and_told():
    mask, missed = torch.zeros(COUNT, COUNT), []
    mask[TEXT + 1, 2] = -3.0
    found, plain = answered(itself, mask=mask, missed=missed.append)
    assert torch.equal(found, plain)
    assert missed == [LayerId("double", 3, 0)]


def test_fewer_tokens_than_a_picture_has_are_left_alone_and_told():
    missed = []
    found, plain = answered(itself, text=COUNT, missed=missed.append)
    assert torch.equal(found, plain)
    assert missed == [LayerId("double", 3, 0)]


def test_attention_outside_of_blocks_is_nobodys():
    network, options = SimpleNamespace(patch_size=2, blocks=[None]), {}
    inputs = torch.zeros(1, 4, 4, 6), torch.ones(1), None, torch.zeros(1, 5, 7), None, options
    x = randn(1, 1, 11, WIDTH)
    with hooked(ModelCall.read(inputs, {}), Joint("Joint", network), Handlers(lambda call: 1 / 0)):
        found = options[OVERRIDE](attention, x, x, x, HEADS)
    assert torch.equal(found, attention(x, x, x, HEADS))

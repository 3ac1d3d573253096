"""Styles that act where a running model sees their words: what is read, of whom, and what one layer makes of it."""

import pytest
import torch
from magicstyle.attention_patches.call import Call, RowPlan, TokenLayout
from magicstyle.attention_patches.rows import Canvas, Rows
from magicstyle.attention_patches.word_maps import WordWatch, rows_of_prompt, seen_by
from magicstyle.core.attention import Kernel
from magicstyle.core.features import AttentionFeatures
from magicstyle.core.fusion import FusionSettings, fuse
from magicstyle.core.grid import Grid, Window
from magicstyle.core.layers import LayerId
from magicstyle.core.scene import Moment, Scene, StyleFeatures
from magicstyle.core.word_regions import StyleWords, attention_map, gaussian3, phrase_masks, spread
from magicstyle.tests.core.oracle import cat, dense_attention, randn
from torch.testing import assert_close

LATENT, COARSE, FINE, HEADS, TOKENS = Grid((8, 12)), Grid((2, 3)), Grid((4, 6)), 2, 7
LAYER, SPANS, OTHERS = LayerId("output", 5, 0), ((1,), (3, 4)), (0, 5)
PROMPT = randn(0, 1, TOKENS, 6)
KERNEL = Kernel(lambda q, k, v, mask: dense_attention(q, k, v, HEADS, mask), HEADS, takes_key_mask=True)


def watch(**more):
    return WordWatch(StyleWords(SPANS, OTHERS, PROMPT, **more), LATENT)


def features(seed, rows, n, m=None):
    m = m or n
    return AttentionFeatures(randn(seed, rows, n, 8), randn(seed + 50, rows, m, 8), randn(seed + 90, rows, m, 8))


def calls(rows, plan, grid=COARSE):
    """Self- and cross-attention of one layer."""
    n, layout = grid.tokens, TokenLayout(grid)
    own, asked = features(1, rows, n), features(2, rows, n, TOKENS)
    return Call(LAYER, layout, plan, own, KERNEL), Call(LAYER, layout, plan, asked, KERNEL, "cross")


def shown(watched, prompts, plan, grid=COARSE):
    """The regions after one model call."""
    look = watched.look(prompts)
    both = calls(prompts.shape[0], plan, grid)
    for call in both if look else ():
        assert seen_by(look)(call) is None
    watched.take(look)
    return both


def test_regions_are_read_from_the_rows_of_the_prompt_that_is_positive():
    prompts = torch.cat([PROMPT, randn(9, 1, TOKENS, 6), PROMPT]).repeat_interleave(2, dim=0)
    watched = watch()
    own, asked = shown(watched, prompts, RowPlan(3, (True, False, False)))
    for picture, row in enumerate((4, 5)):  # of two pictures those of the third prompt: the first is a negative one
        one = slice(row, row + 1)
        maps = [attention_map(call.live.q[one], call.live.k[one], HEADS)[0] for call in (own, asked)]
        image = spread(*maps).T.reshape(1, TOKENS, *COARSE)
        large = torch.nn.functional.interpolate(image, LATENT, mode="bilinear")
        large = gaussian3(large)[0]
        expected = phrase_masks(large / large.mean(dim=(1, 2), keepdim=True), SPANS, OTHERS, 0.6)
        assert torch.equal(watched.regions[:, picture], expected)


@pytest.mark.parametrize(
    "plan, grid, prompt",
    [
        (RowPlan(1), COARSE, randn(9, 1, TOKENS, 6)),
        (RowPlan(1, (True,)), COARSE, PROMPT),
        (RowPlan(1, windows=(Window(0, 0, 4, 6),)), COARSE, PROMPT),
        (RowPlan(1, pictures=(0,)), COARSE, PROMPT),
        (RowPlan(1, lost=True), COARSE, PROMPT),
        (RowPlan(1), FINE, PROMPT),
    ],
    ids=["another prompt", "negative", "a part", "picked rows", "lost", "fine grid"],
)
def test_what_says_nothing_of_the_words_is_not_read(plan, grid, prompt):
    watched = watch()
    shown(watched, prompt, plan, grid)
    assert watched.regions is None and watched.shares(rows(), 1.0) is None


def test_a_prompt_is_known_beside_a_longer_one_for_which_the_host_repeats_it():
    assert rows_of_prompt(torch.cat([randn(3, 1, 14, 6), PROMPT.repeat(1, 2, 1)]), PROMPT) == [1]
    assert rows_of_prompt(PROMPT.half(), PROMPT) == [0]
    assert rows_of_prompt(None, PROMPT) == [] and rows_of_prompt(randn(0, 1, 9, 6), PROMPT) == []


def rows(count=1):
    canvas = Canvas(LATENT, {LAYER: FINE})
    return Rows.on(canvas, LAYER, FINE, RowPlan(count), count)


def regions():
    """Half of the picture the first style's, a quarter the second's, a quarter nobody's: p b h w."""
    first, second = torch.zeros(2, 1, *LATENT)
    first[..., :6], second[:, :4, 6:] = 1.0, 1.0
    return torch.stack([first, second])


def test_a_layer_answers_each_group_of_places_with_its_own_style():
    watched = watch()
    watched.regions = regions()
    live, drawn = features(3, 1, FINE.tokens), [features(seed, 1, 5) for seed in (4, 5)]
    shares = watched.shares(rows(), 0.5)
    styles = tuple(StyleFeatures(each, region=share) for each, share in zip(drawn, shares, strict=True))
    ours = fuse(KERNEL, Scene(live, live, styles, Moment(0.5)), FusionSettings(method="rsa"))
    expected = dense_attention(live.q, live.k, live.v, HEADS)
    for number, style in enumerate(drawn):
        bias = cat(torch.zeros(1, FINE.tokens), torch.full((1, 5), 3.0)).unsqueeze(1)
        answer = dense_attention(live.q, cat(live.k, style.k), cat(live.v, style.v), HEADS, bias)
        mine = regions()[number][:, ::2, ::2].flatten() == 1.0
        expected[:, mine] = answer[:, mine]
    assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_styles_act_everywhere_until_their_share_of_the_steps_is_done():
    watched = watch(after=0.4)
    watched.regions = regions()
    assert watched.shares(rows(), 0.4) is None
    shares = watched.shares(rows(), 0.42)
    assert [float(share.sum()) for share in shares] == [FINE.tokens / 2, FINE.tokens / 4]

"""MagicFace's two stages in a real ComfyUI: styles everywhere, then each where the model sees its words.

The oracle is plain torch on the host's bare UNet: own DDIM loops, own maps, own masks, own grouped attention.
"""

import types

import pytest
import torch
import torch.nn.functional as F
from magicstyle.attention_patches.checks import check_words
from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.word_regions import StyleWords
from magicstyle.tests.core.oracle import cat, dense_attention, split
from magicstyle.tests.host.fusion_oracle import DECODER, invert
from magicstyle.tests.host.scene import SCALE, difference, inversion, own_lines, picture, sample
from magicstyle.tests.host.test_methods import with_lora
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_sigmas
from magicstyle.tests.host.tiny import tiny_model as host_model

STEPS, SIZE, CFG, AFTER, BACKGROUND = 4, (16, 24), 3.0, 0.25, 0.8
COARSE = {("input", 7), ("input", 8), ("middle", 0), ("output", 3), ("output", 4), ("output", 5)}
SPANS, OTHERS = ((3, 4), (9,)), (0, 1, 2, 5, 6)
PROMPT, AGAINST = tiny_conditioning(seed=5), tiny_conditioning(seed=4)
RSA = FusionSettings(method="rsa")


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def words(**more):
    return StyleWords(SPANS, OTHERS, PROMPT[0][0], **{"background": BACKGROUND, "after": AFTER, **more})


@pytest.fixture(scope="module")
def inverted():
    """(content inversion, bank of two styles)."""
    with torch.inference_mode():
        model = host_model()
        content, *styles = (inversion(model, picture(*SIZE, seed=seed), STEPS) for seed in (2, 9, 11))
        return content, FeatureBank(content.features, tuple(StyleEntry(style.features) for style in styles))


def patched(model, bank, chosen, settings=RSA):
    return install_fusion(model, bank, settings, "output.6-11", 0.0, 1.0, words=chosen)


def smoothed(image):
    """A 3 x 3 Gaussian of half a cell, edges repeated: h w."""
    line = torch.tensor([-1.0, 0.0, 1.0]).square().mul(-2.0).exp()
    kernel = torch.outer(line, line) / line.sum() ** 2
    around = F.pad(image[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    high, wide = image.shape
    return sum(kernel[y, x] * around[y : y + high, x : x + wide] for y in range(3) for x in range(3))


def token_images(seen):
    """Where each token is seen, t h w: four powers of self-attention spread what cross-attention shows."""
    grids = {}
    for kind, block, weights in seen:
        grids.setdefault(weights.shape[0], {"attn1": {}, "attn2": {}})[kind][block] = weights
    images = []
    for tokens, kinds in grids.items():
        s, c = (torch.stack(list(kinds[kind].values())).mean(0) for kind in ("attn1", "attn2"))
        spread = (s + s @ s + s @ s @ s + s @ s @ s @ s) @ c / 4
        shrunk = round((SIZE[0] * SIZE[1] / tokens) ** 0.5)
        small = spread.T.reshape(-1, SIZE[0] // shrunk, SIZE[1] // shrunk)
        large = F.interpolate(small[None], SIZE, mode="bilinear")[0]
        images.append(torch.stack([smoothed(image) / smoothed(image).mean() for image in large]))
    return torch.stack(images).mean(0)


def owners(images):
    """The number of the style to which each place belongs, h w; as many as there are styles: to none."""
    best = [torch.stack([images[token] for token in span]).amax(0) for span in SPANS]
    best.append(torch.stack([images[token] for token in OTHERS]).amax(0) * BACKGROUND)
    return torch.stack(best).argmax(0)


def on_tokens(owner, tokens):
    """Whose most of each token is, n, on a grid of so many tokens."""
    shrunk = round((owner.numel() / tokens) ** 0.5)
    shares = torch.stack([F.avg_pool2d((owner == i).float()[None], shrunk)[0] for i in range(len(SPANS) + 1)])
    return shares.argmax(0).flatten()


def grouped(q, k, v, styles, owner, heads):
    """The places of each style attend to the running picture and to that style, plus three; others to the picture."""
    out = dense_attention(q, k, v, heads)
    groups = on_tokens(owner, q.shape[1])
    for number, (_, style_k, style_v) in enumerate(styles):
        mine = groups == number
        bias = cat(torch.zeros(1, k.shape[1]), torch.full((1, style_k.shape[1]), 3.0)).unsqueeze(1)
        answer = dense_attention(q, cat(k, style_k), cat(v, style_v), heads, bias)
        out[:, mine] = answer[:, mine]
    return out


def everywhere(q, k, v, styles, heads):
    """All styles in one softmax, each plus three."""
    bias = cat(torch.zeros(1, k.shape[1]), *(torch.full((1, each[1].shape[1]), 3.0) for each in styles)).unsqueeze(1)
    return dense_attention(q, cat(k, *(each[1] for each in styles)), cat(v, *(each[2] for each in styles)), heads, bias)


def magicface(model, content, styles, sigmas):
    """(the latent, the owners of the last step)."""
    grid, context = sigmas[:-1], tiny_conditioning()[0][0]
    x, _ = invert(model, content, grid, context)
    kept = [invert(model, style, grid, context)[1] for style in styles]
    owner = None
    for step in range(len(grid)):
        seen = []

        def watch(kind, seen=seen):
            def replace(q, k, v, extra):
                heads = extra["n_heads"]
                qh, kh = split(q, heads), split(k, heads)
                weights = (qh @ kh.transpose(-1, -2) * qh.shape[-1] ** -0.5).softmax(-1).mean(1)[0]
                seen.append((kind, tuple(extra["block"]), weights))
                return dense_attention(q, k, v, heads)

            return replace

        def inject(q, k, v, options, step=step, owner=owner):
            drawn, heads = [each[step, options["block"]] for each in kept], options["n_heads"]
            if owner is None or step / len(grid) <= AFTER:
                return everywhere(q, k, v, drawn, heads)
            return grouped(q, k, v, drawn, owner, heads)

        replaced = {
            "attn1": {**dict.fromkeys(COARSE, watch("attn1")), **dict.fromkeys(DECODER, inject)},
            "attn2": dict.fromkeys(COARSE, watch("attn2")),
        }
        plain, guided = (
            model.apply_model(x, grid[step].expand(1), c_crossattn=prompt[0][0], transformer_options=options)
            for prompt, options in ((AGAINST, {}), (PROMPT, {"patches_replace": replaced}))
        )
        owner = owners(token_images(seen))
        e = (x - (plain + CFG * (guided - plain))) / grid[step]
        x = x + (sigmas[step + 1] - sigmas[step]) * e
    return x, owner


def test_each_style_paints_where_its_words_are_seen(tiny_model, inverted):
    content, bank = inverted
    latents = [picture(*SIZE, seed=seed) * SCALE for seed in (2, 9, 11)]
    theirs, owner = magicface(tiny_model.model, latents[0], latents[1:], tiny_sigmas(tiny_model, STEPS))
    ours = sample(patched(tiny_model, bank, words()), content, CFG, PROMPT, AGAINST) * SCALE
    without = sample(patched(tiny_model, bank, None), content, CFG, PROMPT, AGAINST) * SCALE
    assert set(owner.unique().tolist()) == {0, 1, 2}
    assert difference(ours, theirs) <= 1e-4
    assert difference(without, theirs) > 1e-3


def test_before_their_time_words_change_no_bit(tiny_model, inverted):
    content, bank = inverted
    without, never = (
        sample(patched(tiny_model, bank, chosen), content, CFG, PROMPT, AGAINST) for chosen in (None, words(after=1.0))
    )
    assert torch.equal(without, never)


def test_each_picture_of_a_batch_has_its_own_regions_whatever_is_split(tiny_model, inverted):
    """With a longer negative prompt the host calls the model for each prompt alone; one content is replayed."""
    samples, (_, bank), against = picture(*SIZE, batch=2), inverted, tiny_conditioning(100, seed=4)

    def painted(samples, **more):
        content = inversion(tiny_model, samples, STEPS, **more)
        of_these = FeatureBank(content.features, bank.styles)
        return sample(patched(tiny_model, of_these, words()), content, CFG, PROMPT, against)

    assert difference(painted(samples)[1:], painted(samples[1:], storage="latents")) <= 1e-4


def test_a_lora_and_words_both_act(tiny_model, inverted):
    content, bank = inverted
    lora = with_lora(tiny_model, 0.5)
    both, no_lora, no_words = (
        sample(patched(model, bank, chosen), content, CFG, PROMPT, AGAINST)
        for model, chosen in ((lora, words()), (tiny_model, words()), (lora, None))
    )
    assert min(difference(both, no_lora), difference(both, no_words)) > 1e-3


def test_another_prompt_than_that_of_the_words_is_said(tiny_model, inverted, caplog):
    content, bank = inverted
    ours = sample(patched(tiny_model, bank, words()), content, 1.0, tiny_conditioning(seed=8))
    assert torch.equal(ours, sample(patched(tiny_model, bank, None), content, 1.0, tiny_conditioning(seed=8)))
    (message,) = own_lines(caplog)
    assert "Words for Styles: the model was never shown their prompt" in message


def test_what_words_cannot_do_is_refused_in_one_sentence(tiny_model, inverted):
    _, bank = inverted
    with pytest.raises(MagicStyleError, match="Words for Styles act in method rsa alone, and method is ffa"):
        patched(tiny_model, bank, words(), FusionSettings())
    with pytest.raises(MagicStyleError, match="Words for Styles name 2 things and the bank holds 1 styles"):
        patched(tiny_model, FeatureBank(bank.content, bank.styles[:1]), words())
    with pytest.raises(MagicStyleError, match="Words for Styles cannot be seen in Flux"):
        check_words(types.SimpleNamespace(shows_words=False, name="Flux"), bank, RSA, words())

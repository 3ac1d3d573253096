"""Regions from words in a real ComfyUI, against the maps of its bare UNet."""

import comfy.sample
import comfy.sd
import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.nodes.attention_look import PromptTokens, look
from magicstyle.nodes.regions_from_words import RegionsFromWords
from magicstyle.tests.core.oracle import dense_attention, split
from magicstyle.tests.host.scene import SCALE, picture
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_sigmas
from magicstyle.tests.tiny_checkpoint import save_tiny_checkpoint
from torch.testing import assert_close

SIZE = (16, 24)
COARSE = {("input", 7), ("input", 8), ("middle", 0), ("output", 3), ("output", 4), ("output", 5)}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = save_tiny_checkpoint(tmp_path_factory.mktemp("words") / "tiny.ckpt", "full")
    return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False)[:2]


def bare_maps(model, x, sigma, context):
    """(n n, n t) by block, from the UNet's own replacement hooks."""
    seen = {}

    def keep(kind):
        def replace(q, k, v, options):
            qh, kh = (split(t, options["n_heads"]) for t in (q, k))
            weights = torch.softmax(qh @ kh.transpose(-1, -2) * qh.shape[-1] ** -0.5, dim=-1)
            seen[kind, tuple(options["block"])] = weights.mean(dim=1)[0]
            return dense_attention(q, k, v, options["n_heads"])

        return replace

    replaced = {kind: dict.fromkeys(COARSE, keep(kind)) for kind in ("attn1", "attn2")}
    model.apply_model(x, sigma.expand(1), c_crossattn=context, transformer_options={"patches_replace": replaced})
    return seen


def test_the_maps_are_those_of_the_models_own_attention(tiny_model):
    samples, level, seed = picture(*SIZE), 0.4, 7
    maps = look(tiny_model, samples, tiny_conditioning(), level, seed).maps
    sigma = torch.tensor(tiny_model.get_model_object("model_sampling").percent_to_sigma(1 - level))
    x = samples * SCALE + sigma * comfy.sample.prepare_noise(samples, seed)
    seen = bare_maps(tiny_model.model, x, sigma, tiny_conditioning()[0][0])
    layers = {(4, 6): COARSE - {("middle", 0)}, (2, 3): {("middle", 0)}}
    assert maps.self_maps.keys() == maps.cross_maps.keys() == layers.keys()
    for grid, blocks in layers.items():
        for kind, mine in (("attn1", maps.self_maps), ("attn2", maps.cross_maps)):
            expected = sum(seen[kind, block] for block in blocks) / len(blocks)
            assert_close(torch.stack(mine[grid]).mean(dim=0), expected, atol=1e-5, rtol=1e-4)


def test_looking_leaves_the_model_as_it_was(tiny_model):
    sigmas = tiny_sigmas(tiny_model, 2)
    before = run_sampler(tiny_model, picture(), sigmas)
    look(tiny_model, picture(), tiny_conditioning(), 0.4, 0)
    assert torch.equal(run_sampler(tiny_model, picture(), sigmas), before)


def regions(checkpoint, **more):
    arguments = {
        "latent": {"samples": picture(*SIZE)},
        "words": "hair, red hat",
        "prompt": "",
        "background": 0.6,
        "noise_level": 0.4,
        "seed": 0,
        **more,
    }
    return RegionsFromWords.execute(model=checkpoint[0], clip=checkpoint[1], **arguments).result[0]


def test_each_pixel_belongs_to_one_phrase_or_none(checkpoint):
    masks = regions(checkpoint)
    assert masks.shape == (2, 8 * SIZE[0], 8 * SIZE[1])
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert masks.sum(dim=0).max() <= 1.0
    assert (regions(checkpoint, background=0.0).sum(dim=0) == 1.0).all()
    assert regions(checkpoint, background=2.0).sum() < masks.sum()


def test_phrases_are_found_by_the_hosts_tokenizer(checkpoint):
    tokens = PromptTokens(checkpoint[1], "a photo of a (red hat:1.3) and long hair", ["hair", "red hat"])
    assert tokens.spans == [[9], [5, 6]]
    assert tokens.others == [0, 1, 2, 3, 4, 7, 8, 10]  # with the start and the first end token, without padding
    late = PromptTokens(checkpoint[1], "blue " * 80 + "hat", ["hat"])
    assert late.spans == [[77 + 1 + 5]]


def test_a_phrase_is_found_across_the_border_of_75_tokens(checkpoint):
    tokens = PromptTokens(checkpoint[1], "blue " * 74 + "red hat", ["red hat"])
    assert tokens.spans == [[75, 78]]  # 76 ends the first chunk, 77 begins the second
    assert tokens.others == [*range(75), 76, 77, 79]
    words = [f"word{number}" for number in range(60)]
    assert len(PromptTokens(checkpoint[1], ", ".join(words), words).spans) == 60


@pytest.mark.parametrize("phrase", [r"face \(oval\)", "\U0001f600", "\u8138", "hat!", "#hat"])
@pytest.mark.parametrize("prompt", ["{}, hair", "hair,{}", "a ({}:1.2), hair", "{};{}", "{}"])
def test_a_phrase_of_signs_is_found_wherever_it_touches_others(checkpoint, phrase, prompt):
    tokens = PromptTokens(checkpoint[1], prompt.format(phrase, phrase), [phrase])
    assert len(tokens.spans) == 1 and tokens.spans[0]


def test_words_in_chinese_are_two_masks(checkpoint):
    assert regions(checkpoint, words="\u8138\uff0c\u5934\u53d1").shape[0] == 2


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"words": " ,"}, "words is empty"),
        ({"prompt": "a photo of a cat"}, "'hair' does not stand in the prompt"),
        ({"latent": {"samples": torch.ones(2, 4, 8, 8)}}, "latent must hold one still picture"),
        (
            {"latent": {"samples": torch.ones(1, 4, 2, 3)}},
            "latent is a picture of 24x16 pixels, too small to see words",
        ),
        ({"words": "hair, hair"}, "words names 'hair' twice"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(checkpoint, inputs, message):
    with pytest.raises(MagicStyleError, match=message):
        regions(checkpoint, **inputs)

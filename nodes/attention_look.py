"""A look at a picture: one model call in the host, and the regions that its attention shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from einops import repeat
from torch import Tensor

from ..attention_patches.architectures import find
from ..attention_patches.comfy import check_model, install_word_reader, plain_model
from ..attention_patches.word_maps import WordReader
from ..core.errors import MagicStyleError
from ..core.grid import Grid
from ..core.ranges import check_range
from ..core.word_regions import COARSE, find_phrases, phrase_masks, set_apart, split_phrases

PIXELS = 8  # per latent pixel


class PromptTokens:
    """A prompt as the model sees it: its conditioning, and where the phrases stand among its tokens."""

    def __init__(self, clip: Any, prompt: str, phrases: list[str]) -> None:
        prompt = set_apart(prompt, phrases)
        tokens = clip.tokenize(prompt, return_word_ids=True)
        first = [token for chunk in next(iter(tokens.values())) for token in chunk]
        # a phrase may lie across the border of two chunks of 75 tokens, with an end and a start token in its midst
        places = [i for i, (*_, word) in enumerate(first) if word]
        ids = [_number(first[i][0]) for i in places]
        self.conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
        found = find_phrases(ids, {phrase: _words(clip, phrase) for phrase in phrases})
        self.spans = [[places[i] for i in span] for span in found]
        named = {i for span in self.spans for i in span}
        # up to the end token: what follows is padding
        self.others = [i for i in range(min(places[-1] + 2, len(first))) if i not in named]


def _number(token: Any) -> int:
    return token if isinstance(token, int) else -1  # an embedding stands for no word


def _words(clip: Any, phrase: str) -> list[int]:
    tokens = next(iter(clip.tokenize(phrase, return_word_ids=True).values()))
    return [_number(token) for chunk in tokens for token, _, word in chunk if word]


class _OneLook(comfy.samplers.Sampler):
    """A sampler that calls the model once, at the first noise level, and changes nothing."""

    def sample(
        self, model_wrap: Callable[..., Tensor], sigmas: Tensor, extra_args: dict[str, Any], *args: Any, **_: Any
    ) -> Tensor:
        noise, latent = args[1], args[2]
        model_wrap(latent + sigmas[0] * noise, sigmas[0].expand(latent.shape[0]), **extra_args)
        return latent


def look(model: Any, samples: Tensor, conditioning: list[Any], noise_level: float, seed: int) -> WordReader:
    """The attention maps of a picture's latent with some noise on it."""
    reader = WordReader(Grid(samples.shape[2:]))
    sigma = model.get_model_object("model_sampling").percent_to_sigma(1.0 - noise_level)
    architecture = find(model)
    plain, _ = plain_model(model, architecture)
    reading = install_word_reader(plain, architecture, reader)
    noise = comfy.sample.prepare_noise(samples, seed)
    sigmas = torch.tensor([sigma, 0.0])
    comfy.sample.sample_custom(
        reading, noise, 1.0, _OneLook(), sigmas, conditioning, conditioning, samples, disable_pbar=True, seed=seed
    )
    return reader


def regions_from_words(
    model: Any,
    clip: Any,
    latent: dict[str, Any],
    words: str,
    prompt: str,
    background: float,
    noise_level: float,
    seed: int,
) -> Tensor:
    """One mask for each phrase of `words`: p h w in pixels of the picture."""
    architecture = check_model(model)
    check_range("background", background, 0.0, 2.0)
    check_range("noise_level", noise_level, 0.0, 1.0)
    if not architecture.shows_words:
        raise MagicStyleError(
            f"model is a {type(model.model).__name__}, but words are found by the cross-attention of a Stable "
            "Diffusion UNet: connect an SD1.5, SD2.1 or SDXL checkpoint with its CLIP, or draw the masks."
        )
    samples = latent["samples"]
    if samples.ndim != 4 or samples.shape[0] != 1:
        raise MagicStyleError("latent must hold one still picture: connect a VAEEncode of a single picture.")
    if min(samples.shape[2:]) <= COARSE:
        height, width = (PIXELS * side for side in samples.shape[2:])
        raise MagicStyleError(
            f"latent is a picture of {width}x{height} pixels, too small to see words in: "
            f"give one of more than {PIXELS * COARSE} pixels each way."
        )
    phrases = split_phrases(words)
    tokens = PromptTokens(clip, prompt.strip() or ", ".join(phrases), phrases)
    reader = look(model, samples, tokens.conditioning, noise_level, seed)
    maps = reader.maps.token_maps(Grid(samples.shape[2:]))
    masks = phrase_masks(maps, tokens.spans, tokens.others, background)
    return repeat(masks, "p h w -> p (h y) (w x)", y=PIXELS, x=PIXELS).cpu()

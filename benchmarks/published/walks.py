"""The two ways from a pair to a picture: this pack's own, and StyleID's script as its repository has it.

StyleID's script (run_styleid.py at d4ea655, 50 steps): the inversion calls the network at t = 1, 21, .., 981, takes the
clean latent for one of t = 1 and jumps from 981 to 999; sampling begins at t = 961 with that latent of t = 999, and its
last step leads to t = 0; features are those of the same t. The initial AdaIN has unbiased deviations, the latent is
drawn from the autoencoder's posterior, pixels are truncated, inversion is in single precision and sampling mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from magicstyle.attention_patches.capture import Recorder
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.image_features import FeatureHeader
from magicstyle.banks.stored_features import FeatureWriter
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.inversion import Denoiser, predicted_noise
from magicstyle.core.layers import select_layers
from magicstyle.core.noise_pair import NoisePair
from magicstyle.core.schedule import LEVELS, noise_levels
from magicstyle.headless.engine.model import (
    SD15_AUTOENCODER,
    SD15_SCALE,
    SD15_TEXT,
    SD15_UNET,
    HeadlessModel,
    empty_prompt,
    load_autoencoder,
    load_model,
    load_unet,
)
from magicstyle.headless.engine.recipe import Recipe
from magicstyle.headless.engine.stylize import InvertedPicture, fused, invert, stylize
from magicstyle.headless.pictures.reading import to_images
from magicstyle.model_files.checkpoint import read_sd15_checkpoint
from magicstyle.model_files.demo import read_demo_file
from PIL import Image
from torch import Tensor

PROTOCOLS = ("magicstyle", "styleid-repo")
SEED = 22  # of StyleID's script
Callback = Callable[[dict[str, Any]], None]


class Walk(Protocol):
    """A protocol with a model in hand."""

    model: HeadlessModel

    def invert(self, picture: Tensor, roles: str, callback: Callback | None = None) -> InvertedPicture:
        """A picture 1 3 h w in -1..1 -> its noise and the features that a method reads."""

    def paint(
        self,
        content: InvertedPicture,
        style: InvertedPicture,
        settings: FusionSettings,
        callback: Callback | None = None,
    ) -> Image.Image:
        """The result of a pair."""


def load_walk(protocol: str, checkpoint: Path | None, device: str, steps: int) -> Walk:
    """The protocol on a checkpoint, or on the demo model."""
    if protocol == "magicstyle":
        return MagicStyleWalk(load_model(checkpoint, device), steps)
    return StyleIdWalk(load_with_posterior(checkpoint, device), steps)


class MagicStyleWalk:
    """Inversion and sampling as in the nodes: each call on a latent of its own noise level."""

    def __init__(self, model: HeadlessModel, steps: int) -> None:
        self.model, self._steps = model, steps

    def invert(self, picture: Tensor, roles: str, callback: Callback | None = None) -> InvertedPicture:
        """A picture 1 3 h w in -1..1 -> its noise and features."""
        recipe = Recipe(steps=self._steps)
        return invert(self.model, self.model.encode(picture), recipe, roles=roles, callback=callback)

    def paint(
        self,
        content: InvertedPicture,
        style: InvertedPicture,
        settings: FusionSettings,
        callback: Callback | None = None,
    ) -> Image.Image:
        """The result of a pair, rounded to pixels."""
        latent = stylize(self.model, content, style, Recipe(settings, steps=self._steps), callback)
        return to_images(self.model.decode(latent))[0]


class ModelWithPosterior(NamedTuple):
    """A model in single precision, and the autoencoder's posterior besides."""

    model: HeadlessModel
    posterior: Callable[[Tensor, torch.Generator], Tensor]  # pictures b 3 h w -> sampled latents


def load_with_posterior(checkpoint: Path | None, device: str) -> ModelWithPosterior:
    """A checkpoint, or the demo model, all in single precision."""
    if checkpoint is None:
        file = read_demo_file()
        unet, autoencoder, tensors = file.header.unet_config, file.header.ddconfig, file.tensors
        prompt, scale, size = file.prompt, file.header.scale_factor, file.header.ddconfig["resolution"]
    else:
        unet, autoencoder, tensors = SD15_UNET, SD15_AUTOENCODER, read_sd15_checkpoint(checkpoint)
        prompt, scale, size = empty_prompt(SD15_TEXT, tensors), SD15_SCALE, 512
    vae = load_autoencoder(autoencoder, tensors)
    options = {"scale_factor": scale, "native_size": size, "device": device}
    model = HeadlessModel(load_unet(unet, tensors, torch.float32), vae, prompt, **options)

    def posterior(pictures: Tensor, generator: torch.Generator) -> Tensor:
        found = vae.encode(pictures.to(model.device)).latent_dist
        noise = torch.randn(found.mean.shape, generator=generator)  # on the CPU: the same on every device
        return (found.mean + found.std * noise.to(found.mean)) * scale

    return ModelWithPosterior(model, posterior)


def times(steps: int) -> list[int]:
    """The timesteps of StyleID's script, ascending: 1, 21, .., 981 for 50 steps."""
    if LEVELS % steps:
        raise MagicStyleError(
            f"--steps {steps} does not divide {LEVELS}: StyleID's script needs a divisor, such as 50."
        )
    return list(range(1, LEVELS, LEVELS // steps))


class StyleIdWalk:
    """StyleID's script."""

    def __init__(self, loaded: ModelWithPosterior, steps: int) -> None:
        self.model, self._posterior, self._times = loaded.model, loaded.posterior, times(steps)

    @torch.inference_mode()
    def invert(self, picture: Tensor, roles: str, callback: Callback | None = None) -> InvertedPicture:
        """A picture 1 3 h w in -1..1 -> its latent of t = 999, in the scale of that level, and its features."""
        latent = self._posterior(picture, torch.Generator().manual_seed(SEED))
        # in mixed precision attention reads them in half precision anyway
        dtype = torch.float16 if self.model.device.type == "cuda" else latent.dtype
        return walk_up(self.model, latent, self._times, roles, dtype=dtype, callback=callback)

    @torch.inference_mode()
    def paint(
        self,
        content: InvertedPicture,
        style: InvertedPicture,
        settings: FusionSettings,
        callback: Callback | None = None,
    ) -> Image.Image:
        """The result of a pair, truncated to pixels."""
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        start = unbiased_adain(content.noise, style.noise)
        with self._mixed_precision():
            latent = walk_down(fused(self.model, bank, Recipe(settings)), start, self._times, callback)
            return truncated(self.model.decode(latent))

    def _mixed_precision(self) -> AbstractContextManager[Any]:
        device = self.model.device.type
        return torch.autocast(device, torch.float16) if device == "cuda" else nullcontext()


def walk_up(
    model: HeadlessModel,
    latent: Tensor,
    timesteps: Sequence[int],
    roles: str = "qkv",
    *,
    layers: str = Recipe.layers,
    dtype: torch.dtype = torch.float32,
    callback: Callback | None = None,
) -> InvertedPicture:
    """The script's inversion of a latent b c h w, its steps in the form x = x0 + sigma eps.

    `timesteps` ascend; the noise comes back in the variance-preserving form, as the script's AdaIN and start have it.
    """
    sigmas = noise_levels().to(latent)
    descending = timesteps[::-1]
    recorder = Recorder(FeatureWriter(select_layers(layers, model.layers), len(timesteps), roles, dtype))
    x = latent * spread(sigmas[timesteps[0]])  # the clean latent counts as one of the lowest level
    for t, target in zip(timesteps, [*timesteps[1:], LEVELS - 1], strict=True):
        with model.hooks.answered_by(recorder.handlers), recorder.recording((descending.index(t),), x):
            eps = predicted_noise(model.denoised, x, sigmas[t], None)
        x = x + (sigmas[target] - sigmas[t]) * eps
        if callback is not None:
            callback({"x": x, "sigma": sigmas[t]})
    grid = tuple(float(sigmas[t]) for t in descending)
    header = FeatureHeader(model.id, "styleid-repo", grid, tuple(latent.shape), {})
    noise_pair = NoisePair(x / spread(sigmas[-1]))
    return InvertedPicture(noise_pair, recorder.close(header))


def walk_down(denoised: Denoiser, start: Tensor, timesteps: Sequence[int], callback: Callback | None = None) -> Tensor:
    """The script's sampling from a latent b c h w of t = 999, which it takes for one of the second highest level."""
    sigmas = noise_levels().to(start)
    visited = timesteps[-2::-1]  # the highest is left out
    x = start * spread(sigmas[visited[0]])
    for t, target in zip(visited, [*visited[1:], 0], strict=True):
        x = x + (sigmas[target] - sigmas[t]) * predicted_noise(denoised, x, sigmas[t], None)
        if callback is not None:
            callback({"x": x, "sigma": sigmas[t]})
    return x / spread(sigmas[0])


def spread(sigma: Tensor) -> Tensor:
    """What takes a variance-preserving latent of this level to x = x0 + sigma eps."""
    return (1.0 + sigma**2).sqrt()


def unbiased_adain(content: Tensor, style: Tensor) -> Tensor:
    """The script's initial latent: one content and one style, 1 c h w each."""
    (std_c, mean_c), (std_s, mean_s) = (torch.std_mean(x, dim=(0, 2, 3), keepdim=True) for x in (content, style))
    return (content - mean_c) / std_c * std_s + mean_s


def truncated(pictures: Tensor) -> Image.Image:
    """A picture 1 3 h w in -1..1 -> RGB, every value cut down to its integer."""
    pixels = ((pictures[0].float() + 1.0) / 2.0).clamp(0.0, 1.0) * 255.0
    return Image.fromarray(pixels.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy())

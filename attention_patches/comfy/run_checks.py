"""What a sampling run does to the inversion's noise that its user hardly meant: one sentence each, before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...banks.bank import FeatureBank
from ...banks.image_features import ImageFeatures
from ...core.inversion_methods import visited_levels
from ..architectures import Model
from ..fusion_patch import coverage_warning
from .manner import manner_warnings
from .start import Start, is_flow

# parts of the names of the host's samplers that draw noise at each step
DRAWING = ("ancestral", "sde", "ddpm", "lcm", "seeds", "sa_solver")
# of the standard deviation of pictures in the model's scale: what is above is mostly noise
PICTURE = 3.0
# the correlation above which two noises are one: those of two pictures have next to none
ALIKE = 0.98


def run_warnings(
    bank: FeatureBank, model: Model, start: Start, sampler: Any, sigmas: Tensor, noise_mask: Tensor | None = None
) -> Iterator[str]:
    """One sentence for each thing that a run does to its start b c h w and its features, unlike the inversion.

    `noise_mask`, h w with any axes before, is where the host changes the latent; levels n.
    """
    function = getattr(sampler, "sampler_function", None)
    if bank.content is None:  # any noise and any sampler will do
        yield from _prompt_warnings(bank, start)
    elif bank.content.header.method != "noising":  # whose models want noise and samplers of their own
        yield from _noise_warnings(bank, bank.content, model, start, sigmas)
        if (
            noise_mask is not None
            and bool((noise_mask < 1.0).any())
            and _is_noise(bank.content, model, start.latent, sigmas)
        ):
            yield (
                "the latent has a noise mask, outside of which its inverted noise stays noise: take Set Latent Noise "
                "Mask out, and paste the part that you want over the portrait at the end, as 12 Inpaint a region does; "
                "to keep a part of the portrait, connect its mask to keep of FFA Model Patcher."
            )
        if draws_noise(sampler):
            yield (
                f"the sampler {_name(sampler).removeprefix('sample_')} draws fresh noise at each step, which drowns "
                "the portrait's: choose one that draws none, such as ddim or euler."
            )
    yield from manner_warnings(bank, model)
    if warning := coverage_warning(bank, visited_levels(function, sigmas)):
        yield warning


def draws_noise(sampler: Any) -> bool:
    """Whether a sampler of the host is ancestral or SDE, and not set to draw nothing."""
    options = getattr(sampler, "extra_options", {})
    silent = any(options.get(option) == 0 for option in ("eta", "s_noise"))
    return any(part in _name(sampler) for part in DRAWING) and not silent


def _name(sampler: Any) -> str:
    return str(getattr(getattr(sampler, "sampler_function", None), "__name__", ""))


def _prompt_warnings(bank: FeatureBank, start: Start) -> Iterator[str]:
    """Of what a run without a portrait begins with, b c h w."""
    if not bool(torch.count_nonzero(start.noise)) and not bool(torch.count_nonzero(start.latent)):
        yield (
            "sampling starts from an empty latent without noise, and the bank has no portrait: turn add_noise on, or "
            "connect a portrait to content of the Feature Bank and its noise to latent_image."
        )
    if taken := _styles_that_end_in(bank, start.latent):
        yield (
            f"sampling starts from the noise of style {taken[0]}, so that the style picture is painted: connect an "
            "empty latent and turn add_noise on."
        )


def _styles_that_end_in(bank: FeatureBank, latent: Tensor) -> list[int]:
    """The numbers of the styles whose inversion ended in a latent b c h w."""
    return [i for i, style in enumerate(bank.styles, 1) if _ends_in(style.features, latent)]


def _noise_warnings(
    bank: FeatureBank, content: ImageFeatures, model: Model, start: Start, sigmas: Tensor
) -> Iterator[str]:
    """Of the noise that a run on a schedule n begins with, b c h w."""
    if bool(torch.count_nonzero(start.noise)) and _is_noise(content, model, start.latent, sigmas):
        yield "the sampler adds noise to the inverted noise, which drowns the portrait: turn add_noise off."
    taken = _styles_that_end_in(bank, start.latent)
    if taken and not _ends_in(content, start.latent):
        yield (
            f"sampling starts from the noise of style {taken[0]}, so that the style picture is painted: connect the "
            "noise of DDIM Inversion (Content), directly or as the content of Initial Latent (AdaIN)."
        )


def _is_noise(content: ImageFeatures, model: Model, latent: Tensor, sigmas: Tensor) -> bool:
    """Whether a latent b c h w is an inversion's end and no picture: by its size, where the model's noise is large."""
    if not bool(torch.count_nonzero(latent)):
        return False
    if is_flow(model.get_model_object("model_sampling")):
        return _ends_in(content, latent)
    spread = float(model.model.process_latent_in(latent.float()).std())
    return spread > max(PICTURE, float(sigmas[0]) / 2)


def _ends_in(features: ImageFeatures, latent: Tensor) -> bool:
    """Whether a picture's inversion ended in this latent b c h w, whatever mean and spread its channels have since."""
    if features.noise_pair is None or features.noise_pair.noise.shape != latent.shape:
        return False
    end, now = (_standardised(samples.to(latent).float()) for samples in (features.noise_pair.noise, latent))
    return float((end * now).mean()) > ALIKE


def _standardised(samples: Tensor) -> Tensor:
    """b c h w -> b c (h w), each channel at mean 0 and deviation 1."""
    channels = samples.flatten(2)
    spread = channels.std(dim=2, correction=0, keepdim=True)
    return (channels - channels.mean(dim=2, keepdim=True)) / spread.clamp(min=1e-6)

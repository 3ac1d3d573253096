"""What the exported models can do: numbers on held-out drawings and contact sheets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from magicstyle.core.inversion import Denoiser
from magicstyle.core.inversion_methods import InversionSettings, invert_latent, sample_back
from magicstyle.core.schedule import ddim_uniform
from torch import Tensor

from .dataset import evaluation_pictures, to_pictures, to_tensor
from .gaussian import Gaussian
from .model_file import LATENT_SIZE, DemoModel, load_model, load_transformer
from .portraits import contact_sheet
from .schedule import (
    ancestral_sample,
    denoiser,
    flow_denoiser,
    flow_in_sigmas,
    flow_schedule,
    guided,
    shifted,
    sigmas,
)

logger = logging.getLogger("demo_model")

COUNT, BATCH, STEPS, COLUMNS = 32, 8, 50, 6
SAMPLES, FREE_STEPS = 24, 100  # pictures from plain noise, and the steps of each
FREE_SHIFT = 3.0  # of the transformer's steps: a portrait is composed at high noise
SKIPPED_BLOCKS, GUIDANCE, GUIDED_ABOVE = (2, 3), 0.35, 0.4  # the transformer is led away from its answers without them
METHODS = ("ddim", "midpoint")
Walk = Callable[[Tensor], Tensor]


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of images b 3 h w in -1..1 -> b, in dB."""
    error = ((images.clamp(-1, 1) - targets) / 2).square().flatten(1).mean(dim=1)
    return -10 * error.log10()


def in_batches(images: Tensor, answer: Walk) -> Tensor:
    """Apply a function to a few images at a time."""
    return torch.cat([answer(part) for part in images.split(BATCH)])


def loop(model: DemoModel, denoised: Denoiser, levels: Tensor, method: str) -> Walk:
    """Encode, invert, sample, decode images b 3 h w -> images, by an inversion method and its own sampler."""

    def looped(images: Tensor) -> Tensor:
        found = invert_latent(denoised, model.encode(images), levels, InversionSettings(method))
        return model.decode(sample_back(denoised, found.noise_pair, levels, method))

    return looped


def samples(model: DemoModel, denoised: Denoiser, levels: Tensor, gaussian: Gaussian) -> Tensor:
    """Pictures b 3 h w from plain noise, by a denoiser in the form x0 + s noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(SAMPLES, model.header["latent_channels"], LATENT_SIZE, LATENT_SIZE, generator=generator)
    start = gaussian.carried_down(noise, float(levels[0]))
    return in_batches(start, lambda x: model.decode(ancestral_sample(denoised, x, levels, generator)))


def report(name: str, results: Tensor, images: Tensor, techniques: list[str]) -> None:
    """Log the PSNR of results b 3 h w, altogether and by technique."""
    values = psnr(results, images)
    logger.info("%s: PSNR mean %.2f dB, worst %.2f dB", name, values.mean(), values.min())
    for technique in sorted(set(techniques)):
        own = values[[t == technique for t in techniques]]
        logger.info("    %-14s %.1f dB", technique, own.mean())


@torch.inference_mode()
def evaluate_models(unet: Path, transformer: Path, work: Path, training: np.ndarray) -> None:
    """Numbers in the log; reconstructions and samples as pictures in the work folder.

    `training` n h w 3 are pictures of the training, whose mean and covariance begin the samples.
    """
    pictures, techniques = evaluation_pictures(COUNT)
    model, images = load_model(unet), to_tensor(pictures)
    decoded = in_batches(images, lambda x: model.decode(model.encode(x)))
    report("autoencoder", decoded, images, techniques)
    columns = [images, decoded]
    walks = {"unet": (denoiser(model.denoiser.eps), ddim_uniform(sigmas(), STEPS))}
    if transformer.exists():
        flow = load_transformer(transformer)
        walks["transformer"] = (flow_denoiser(flow.velocity), flow_schedule(STEPS))
    for name, (denoised, levels) in walks.items():
        for method in METHODS:
            columns.append(in_batches(images, loop(model, denoised, levels, method)))
            report(f"{name}, whole loop of {STEPS} steps by {method}", columns[-1], images, techniques)
    parts = range(0, len(training), BATCH)
    gaussian = Gaussian.of(torch.cat([model.encode(to_tensor(training[i : i + BATCH])) for i in parts]))
    free = {"unet": (walks["unet"][0], ddim_uniform(sigmas(), FREE_STEPS))}
    if "transformer" in walks:
        times = shifted(flow_schedule(FREE_STEPS), FREE_SHIFT)
        levels = times / (1 - times)
        led = guided(flow.velocity, partial(flow.velocity, without=SKIPPED_BLOCKS), GUIDANCE, GUIDED_ABOVE)
        free["transformer"] = (flow_in_sigmas(flow_denoiser(led)), levels[levels <= sigmas()[-1]])
    for name, (denoised, levels) in free.items():
        save_sheet(samples(model, denoised, levels, gaussian), work / f"samples_{name}.png")
    save_sheet(
        torch.stack([x[:12] for x in columns], dim=1).flatten(0, 1), work / "reconstructions.png", 2 * len(columns)
    )


def save_sheet(images: Tensor, path: Path, columns: int = COLUMNS) -> None:
    """Images b 3 h w -> one picture, row by row."""
    contact_sheet(list(to_pictures(images)), columns).save(path)

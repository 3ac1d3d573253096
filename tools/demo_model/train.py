"""Train, export and evaluate the demo models; run from the repository root.

    python -m tools.demo_model.train --stage ae --work DIR             the autoencoder
    python -m tools.demo_model.train --stage unet --work DIR           the noise predictor on its latents
    python -m tools.demo_model.train --stage transformer --work DIR    the transformer on the same latents
    python -m tools.demo_model.train --stage export --work DIR         both files in assets/
    python -m tools.demo_model.train --stage evaluate --work DIR       reconstruction, whole loop, samples
    python -m tools.demo_model.train --stage unpack --work DIR         the shipped weights as a start

A stage that was stopped continues where it last saved. Needs torch, safetensors, einops, numpy, scipy and Pillow.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .dataset import (
    COMPOSITION_SIZE,
    evaluation_pictures,
    random_crops,
    to_tensor,
    training_compositions,
    training_pictures,
)
from .evaluation import evaluate_models, psnr
from .model_file import LATENT_SIZE, Denoiser, FlowModel, SupervisedFlow, load_model, save_model, save_transformer
from .networks import Autoencoder, AutoencoderConfig, UNetConfig
from .schedule import TRAINING_STEPS, alphas_cumprod
from .trainer import Trainer, TrainingSettings, load_average, processes, rank, run_together
from .transformer import TransformerConfig, flow_times

logger = logging.getLogger("demo_model")

PICTURES = 4000
GAUSSIAN_PICTURES = 1000  # whose mean and covariance begin the samples
AE_SETTINGS = TrainingSettings(steps=2000, batch=16, learning_rate=1.5e-3, warmup=100)
AE_CROP = 64
AE_WHOLE_FROM = (
    0.72  # from this share of stage `ae` on one whole picture is a batch: its group statistics differ from a crop's
)
KL_WEIGHT = 2e-5
UNET_SETTINGS = TrainingSettings(steps=17500, batch=16, learning_rate=1e-3)
TRANSFORMER_SETTINGS = TrainingSettings(steps=19300, batch=64, learning_rate=1.5e-3, warmup=100)
LATENT_CROP = 16  # latent pixels: 128 pixels of the picture
WHOLE_FROM = 0.42  # from this share on, `unet` and `transformer` see whole pictures, a quarter of the batch
# half of the whole pictures get times from this share of the schedule on, where a portrait is composed
HIGH_NOISE = 0.5
COMPOSITION_WEIGHT = 1.0  # of the plain portraits' error beside the velocity's
ASSET = Path("assets/magicstyle_demo.safetensors")
TRANSFORMER_ASSET = Path("assets/magicstyle_demo_transformer.safetensors")

Place = tuple[int, int, int]  # number of a picture, and row and column of a corner in its latents
Times = Callable[[int, torch.Generator], Tensor]  # how many -> times in 0..1, from clean to noise


def half_where_fast() -> torch.autocast:
    """Half precision on processors with AVX-512; those without emulate it, ten times slower than single precision."""
    capable = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast("cpu", torch.bfloat16, enabled=capable)


def autoencoder_loss(model: Autoencoder, x: Tensor, noise: torch.Generator) -> Tensor:
    """L1 and L2 of the reconstruction from sampled latents, and a small pull of the latents to N(0, 1)."""
    mean, log_variance = model.moments(x)
    z = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=noise)
    error = model.decode(z).float() - x
    kl = 0.5 * (mean.float().square() + log_variance.float().exp() - 1 - log_variance.float()).mean()
    return error.abs().mean() + 10 * error.square().mean() + KL_WEIGHT * kl


def new_autoencoder(seed: int) -> Autoencoder:
    """An untrained autoencoder whose latents start almost without noise, or nothing is learned for a long time."""
    torch.manual_seed(seed)
    model = Autoencoder(AutoencoderConfig())
    with torch.no_grad():
        model.quant_conv.bias[model.config.z_channels :] = -6.0
    return model


def train_autoencoder(work: Path, settings: TrainingSettings = AE_SETTINGS) -> None:
    """Stage `ae`."""
    pictures, held_out = training_pictures(work, PICTURES), to_tensor(evaluation_pictures(12)[0])
    model = new_autoencoder(settings.seed)
    trainer = Trainer(model, settings, work / "ae.safetensors")

    def loss_of_step(step: int) -> Tensor:
        rng, noise = np.random.default_rng([settings.seed, step, rank()]), torch.Generator().manual_seed(step)
        whole = step >= AE_WHOLE_FROM * settings.steps
        size, batch = (pictures.shape[1], 1) if whole else (AE_CROP, settings.batch // processes())
        with half_where_fast():
            return autoencoder_loss(model, random_crops(pictures, batch, size, rng), noise)

    for step, loss in trainer.run(loss_of_step):
        quality = held_out_quality(model, held_out) if step % 500 == 0 and rank() == 0 else ""
        logger.info("ae step %d loss %.4f %.0f s%s", step, loss, trainer.seconds, quality)


@torch.inference_mode()
def held_out_quality(model: Autoencoder, images: Tensor) -> str:
    """Mean PSNR of reconstructed images b 3 h w, for the log."""
    return f" held-out psnr {psnr(model.decode(model.encode(images)), images).mean():.2f} dB"


def encoded_pictures(autoencoder: Autoencoder, pictures: np.ndarray, batch: int = 50) -> Iterator[Tensor]:
    """Encode pictures n h w 3, batch by batch -> latents b z h/f w/f."""
    with torch.inference_mode(), half_where_fast():
        for i in range(0, len(pictures), batch):
            yield autoencoder.encode(to_tensor(pictures[i : i + batch])).float()


def centre_latents(autoencoder: Autoencoder, latents: Tensor) -> None:
    """Move every latent channel to mean zero by a change of the two 1x1 convolutions; images stay the same."""
    mean, z = latents.mean(dim=(0, 2, 3)), autoencoder.config.z_channels
    with torch.no_grad():
        autoencoder.quant_conv.bias[:z] -= mean
        autoencoder.post_quant_conv.bias += autoencoder.post_quant_conv.weight[..., 0, 0] @ mean


def unpack(work: Path) -> None:
    """Stage `unpack`: the shipped weights as training states at step 0, so that `ae` and `unet` start from them."""
    model = load_model(ASSET)
    Trainer(model.autoencoder, AE_SETTINGS, work / "ae.safetensors").save()
    Trainer(model.denoiser, UNET_SETTINGS, work / "unet.safetensors").save()


def trained_autoencoder(work: Path) -> tuple[Autoencoder, float]:
    """The averaged autoencoder with centred latents, and the factor that brings them to unit variance."""
    autoencoder = Autoencoder(AutoencoderConfig())
    load_average(autoencoder, work / "ae.safetensors")
    sample = torch.cat(list(encoded_pictures(autoencoder, training_pictures(work, PICTURES)[:500])))
    centre_latents(autoencoder, sample)
    centred = sample - sample.mean(dim=(0, 2, 3), keepdim=True)
    return autoencoder.eval(), round(1 / float(centred.std()), 5)


def training_latents(work: Path) -> Tensor:
    """Latents of all training portraits, encoded on first use -> n z h/f w/f, half precision, unit variance."""
    path = work / "latents.npy"
    if not path.exists():
        autoencoder, scale_factor = trained_autoencoder(work)
        pictures = training_pictures(work, PICTURES)
        latents = torch.cat([(z * scale_factor).half() for z in encoded_pictures(autoencoder, pictures)])
        np.save(path, latents.numpy(), allow_pickle=False)
    return torch.from_numpy(np.load(path, allow_pickle=False))


def random_places(count: int, batch: int, crop: int, generator: torch.Generator) -> list[Place]:
    """Where to cut random crops out of random latents of `count` pictures."""
    picks = torch.randint(count, (batch,), generator=generator).tolist()
    corners = torch.randint(LATENT_SIZE - crop + 1, (batch, 2), generator=generator).tolist()
    return [(i, y, x) for i, (y, x) in zip(picks, corners, strict=True)]


def cut(latents: Tensor, places: list[Place], crop: int) -> Tensor:
    """Crops of latents n c h w, half precision -> b c crop crop, single precision."""
    return torch.stack([latents[i, :, y : y + crop, x : x + crop] for i, y, x in places]).float()


def beneath(compositions: np.ndarray, places: list[Place], crop: int) -> Tensor:
    """The same places of compositions n h w 3, uint8 -> b 3 h' w' in -1..1."""
    scale = COMPOSITION_SIZE // LATENT_SIZE
    size = scale * crop
    pieces = [compositions[i, scale * y :, scale * x :][:size, :size] for i, y, x in places]
    return to_tensor(np.stack(pieces))


def is_whole(step: int, settings: TrainingSettings) -> bool:
    """Whether a step trains on whole pictures: crops first, for the techniques, then whole ones, for the portraits."""
    return step >= WHOLE_FROM * settings.steps


def step_places(count: int, *, whole: bool, batch: int, generator: torch.Generator) -> tuple[list[Place], int]:
    """What a step trains on: crops, or a quarter as many whole pictures -> their places, and their side."""
    crop = LATENT_SIZE if whole else LATENT_CROP
    return random_places(count, batch // 4 if whole else batch, crop, generator), crop


def even_times(count: int, generator: torch.Generator, lowest: float = 0.0) -> Tensor:
    """Times spread evenly over lowest..1, moved together by chance -> count."""
    spread = (torch.arange(count) + torch.rand(1, generator=generator)) / count
    return lowest + (1 - lowest) * spread


def half_high(times: Times, count: int, generator: torch.Generator) -> Tensor:
    """Half of the times as a model's own distribution draws them, half spread evenly over high noise -> count."""
    own = times(count // 2, generator)
    return torch.cat([own, even_times(count - len(own), generator, HIGH_NOISE)])


def denoising_loss(model: Denoiser, latents: Tensor, generator: torch.Generator, *, whole: bool) -> Tensor:
    """Mean square error of the predicted noise; of whole pictures, that of the velocity (Salimans and Ho 2022).

    The squared error of the velocity is that of the noise divided by the share of signal that is left. It therefore
    does not vanish at high noise, where the noise is nearly the input and the small rest decides what is where.
    """
    spread = half_high(even_times, len(latents), generator) if whole else even_times(len(latents), generator)
    t = (spread * TRAINING_STEPS).long().clamp(max=TRAINING_STEPS - 1)
    noise = torch.randn(latents.shape, generator=generator)
    alpha = alphas_cumprod()[t][:, None, None, None]
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    error = (model(noisy, t).float() - noise).square()
    return (error / alpha if whole else error).mean()


def train_unet(work: Path, settings: TrainingSettings = UNET_SETTINGS) -> None:
    """Stage `unet`."""
    latents = training_latents(work)
    torch.manual_seed(settings.seed)
    model = Denoiser(UNetConfig())
    trainer = Trainer(model, settings, work / "unet.safetensors")

    def loss_of_step(step: int) -> Tensor:
        generator = torch.Generator().manual_seed((settings.seed + 1) * 1_000_003 + step * processes() + rank())
        whole = is_whole(step, settings)
        share = settings.batch // processes()
        places, crop = step_places(len(latents), whole=whole, batch=share, generator=generator)
        picked = cut(latents, places, crop)
        with half_where_fast():
            return denoising_loss(model, picked, generator, whole=whole)

    for step, loss in trainer.run(loss_of_step):
        logger.info("unet step %d loss %.4f %.0f s", step, loss, trainer.seconds)


def flow_loss(model: FlowModel, latents: Tensor, generator: torch.Generator, *, whole: bool) -> Tensor:
    """Mean square error of the predicted velocity of a rectified flow (Liu et al. 2022)."""
    t = half_high(flow_times, len(latents), generator) if whole else flow_times(len(latents), generator)
    noise, at = torch.randn(latents.shape, generator=generator), t[:, None, None, None]
    return (model(latents.lerp(noise, at), t).float() - (noise - latents)).square().mean()


def composition_loss(model: SupervisedFlow, plain: Tensor) -> Tensor:
    """Mean square error of the plain portraits b 3 h w that the last call's tokens speak of."""
    return (model.composed().float() - plain).square().mean()


def train_transformer(work: Path, settings: TrainingSettings = TRANSFORMER_SETTINGS) -> None:
    """Stage `transformer`."""
    latents, compositions = training_latents(work), training_compositions(work, PICTURES)
    torch.manual_seed(settings.seed)
    model = SupervisedFlow(TransformerConfig(), COMPOSITION_SIZE)
    trainer = Trainer(model, settings, work / "transformer.safetensors")

    def loss_of_step(step: int) -> Tensor:
        generator = torch.Generator().manual_seed((settings.seed + 2) * 1_000_003 + step * processes() + rank())
        whole = is_whole(step, settings)
        share = settings.batch // processes()
        places, crop = step_places(len(latents), whole=whole, batch=share, generator=generator)
        picked, plain = cut(latents, places, crop), beneath(compositions, places, crop)
        with half_where_fast():
            loss = flow_loss(model, picked, generator, whole=whole)
            return loss + COMPOSITION_WEIGHT * composition_loss(model, plain)

    for step, loss in trainer.run(loss_of_step):
        logger.info("transformer step %d loss %.4f %.0f s", step, loss, trainer.seconds)


def preview_factors(model: Autoencoder, scale_factor: float, pictures: np.ndarray) -> dict[str, list]:
    """Least squares from latents to the mean colours of their pixels, for previews -> z 3 factors and 3 biases."""
    latents = torch.cat(list(encoded_pictures(model, pictures))) * scale_factor
    colours = torch.nn.functional.adaptive_avg_pool2d(to_tensor(pictures), latents.shape[-2:])
    columns = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in (latents, colours)]
    design = torch.cat([columns[0], torch.ones(len(columns[0]), 1)], dim=1)
    solution = torch.linalg.lstsq(design, columns[1]).solution
    rounded = [[round(v, 5) for v in row] for row in solution.tolist()]
    return {"latent_rgb_factors": rounded[:-1], "latent_rgb_factors_bias": rounded[-1]}


def export(work: Path) -> None:
    """Stage `export`: averaged weights -> the two assets (the transformer's if it was trained)."""
    autoencoder, scale_factor = trained_autoencoder(work)
    denoiser = Denoiser(UNetConfig())
    state = load_average(denoiser, work / "unet.safetensors")
    factors = preview_factors(autoencoder, scale_factor, training_pictures(work, PICTURES)[:100])
    training = {"pictures": PICTURES, "ae_steps": AE_SETTINGS.steps, "unet_steps": int(state["step"])}
    ASSET.parent.mkdir(exist_ok=True)
    save_model(ASSET, autoencoder, denoiser, scale_factor=scale_factor, training=training, **factors)
    logger.info("%s: %.2f MB, scale factor %s", ASSET, ASSET.stat().st_size / 1e6, scale_factor)
    if (work / "transformer.safetensors").exists():
        export_transformer(work)


def export_transformer(work: Path) -> None:
    """The averaged weights of the transformer -> its asset."""
    model = SupervisedFlow(TransformerConfig(), COMPOSITION_SIZE)
    state = load_average(model, work / "transformer.safetensors")
    save_transformer(TRANSFORMER_ASSET, model, training={"pictures": PICTURES, "steps": int(state["step"])})
    logger.info("%s: %.2f MB", TRANSFORMER_ASSET, TRANSFORMER_ASSET.stat().st_size / 1e6)


def prepare(stage: str, work: Path) -> None:
    """Draw or encode what a training stage needs, once, before several processes need it."""
    training_pictures(work, PICTURES)
    if stage != "ae":
        training_latents(work)
    if stage == "transformer":
        training_compositions(work, PICTURES)


def evaluate(work: Path) -> None:
    """Stage `evaluate`."""
    evaluate_models(ASSET, TRANSFORMER_ASSET, work, training_pictures(work, PICTURES)[:GAUSSIAN_PICTURES])


TRAINING = {"ae": train_autoencoder, "unet": train_unet, "transformer": train_transformer}
OTHERS = {"export": export, "evaluate": evaluate, "unpack": unpack}


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=[*TRAINING, *OTHERS], required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for drawn pictures and training states")
    parser.add_argument("--processes", type=int, default=2, help="training processes with one thread each")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if arguments.stage in TRAINING:
        prepare(arguments.stage, arguments.work)
        run_together(arguments.processes, TRAINING[arguments.stage], arguments.work)
    else:
        OTHERS[arguments.stage](arguments.work)


if __name__ == "__main__":
    main()

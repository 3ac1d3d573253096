"""Train, export and evaluate the demo model; run from the repository root.

    python -m tools.demo_model.train --stage ae --work DIR          the autoencoder
    python -m tools.demo_model.train --stage whole --work DIR       the autoencoder again, on whole pictures
    python -m tools.demo_model.train --stage unet --work DIR        the noise predictor on its latents
    python -m tools.demo_model.train --stage export --work DIR      assets/magicstyle_demo.safetensors
    python -m tools.demo_model.train --stage evaluate --work DIR    reconstruction, whole loop, samples
    python -m tools.demo_model.train --stage unpack --work DIR      the shipped weights as a start for more of `unet`

A stage that was stopped continues where it last saved. Needs torch, safetensors, einops, numpy and Pillow.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from .dataset import evaluation_pictures, random_crops, to_pictures, to_tensor, training_pictures
from .model_file import DemoModel, Denoiser, load_model, save_model
from .networks import Autoencoder, AutoencoderConfig, UNetConfig
from .portraits import contact_sheet, portrait
from .schedule import TRAINING_STEPS, alphas_cumprod, ddim_inversion, ddim_sample, pure_noise
from .trainer import Trainer, TrainingSettings, load_average, processes, rank, run_together

logger = logging.getLogger("demo_model")

PICTURES = 10_000
AE_SETTINGS = TrainingSettings(steps=6500, batch=8, learning_rate=1.5e-3, warmup=100)
AE_CROP = 64
AE_WHOLE_FROM = 0.9  # the last tenth of stage `ae` already sees whole pictures
KL_WEIGHT = 2e-5
WHOLE_SETTINGS = TrainingSettings(steps=1600, batch=2, learning_rate=6e-4, warmup=50)
UNET_SETTINGS = TrainingSettings(steps=5000, batch=16, learning_rate=1e-3)
ASSET = Path("assets/magicstyle_demo.safetensors")
SHIPPED_PORTRAITS = {"demo_content.png": 1_000_103, "demo_style.png": 1_000_114}  # held out, like all from a million on


def half_where_fast() -> torch.autocast:
    """Half precision on processors with AVX-512; those without emulate it, ten times slower than single precision."""
    capable = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast("cpu", torch.bfloat16, enabled=capable)


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of images b 3 h w in -1..1 -> b, in dB."""
    error = ((images.clamp(-1, 1) - targets) / 2).square().flatten(1).mean(dim=1)
    return -10 * error.log10()


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
    pictures, held_out = training_pictures(work, PICTURES), to_tensor(evaluation_pictures(16))
    model = new_autoencoder(settings.seed)
    trainer = Trainer(model, settings, work / "ae.safetensors")

    def loss_of_step(step: int) -> Tensor:
        rng, noise = np.random.default_rng([settings.seed, step, rank()]), torch.Generator().manual_seed(step)
        whole = step >= AE_WHOLE_FROM * settings.steps
        size, batch = (pictures.shape[1], 1) if whole else (AE_CROP, settings.batch // processes())
        with half_where_fast():
            return autoencoder_loss(model, random_crops(pictures, batch, size, rng), noise)

    for step, loss in trainer.run(loss_of_step):
        quality = held_out_quality(model, held_out) if step % 400 == 0 and rank() == 0 else ""
        logger.info("ae step %d loss %.4f %.0f s%s", step, loss, trainer.seconds, quality)


@torch.inference_mode()
def held_out_quality(model: Autoencoder, images: Tensor) -> str:
    """Mean PSNR of reconstructed images b 3 h w, for the log."""
    return f" held-out psnr {psnr(model.decode(model.encode(images)), images).mean():.2f} dB"


def train_on_whole_pictures(work: Path, settings: TrainingSettings = WHOLE_SETTINGS) -> None:
    """Stage `whole`: the autoencoder again, on whole pictures, whose group statistics differ from those of crops."""
    pictures, held_out = training_pictures(work, PICTURES), to_tensor(evaluation_pictures(16))
    model = new_autoencoder(settings.seed)
    load_average(model, work / "ae.safetensors")
    trainer = Trainer(model, settings, work / "ae_whole.safetensors")

    def loss_of_step(step: int) -> Tensor:
        rng, noise = np.random.default_rng([settings.seed + 1, step, rank()]), torch.Generator().manual_seed(step)
        with half_where_fast():
            x = random_crops(pictures, settings.batch // processes(), pictures.shape[1], rng)
            return autoencoder_loss(model, x, noise)

    for step, loss in trainer.run(loss_of_step):
        quality = held_out_quality(model, held_out) if step % 400 == 0 and rank() == 0 else ""
        logger.info("whole step %d loss %.4f %.0f s%s", step, loss, trainer.seconds, quality)


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
    """Stage `unpack`: the shipped weights as training states, so that `unet` goes on from them."""
    model = load_model(ASSET)
    averages = {f"average.{name}": t for name, t in model.autoencoder.state_dict().items()}
    save_file(averages, work / "ae_whole.safetensors", {"step": str(model.header["training"]["whole_steps"])})
    Trainer(model.denoiser, UNET_SETTINGS, work / "unet.safetensors").save()


def trained_autoencoder(work: Path) -> tuple[Autoencoder, float]:
    """The averaged autoencoder with centred latents, and the factor that brings them to unit variance."""
    autoencoder = Autoencoder(AutoencoderConfig())
    load_average(autoencoder, work / "ae_whole.safetensors")
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


def denoising_loss(model: Denoiser, latents: Tensor, generator: torch.Generator) -> Tensor:
    """Mean square error of the predicted noise; the timesteps of a batch are spread evenly over the schedule."""
    spread = (torch.arange(len(latents)) + torch.rand(1, generator=generator)) / len(latents)
    t = (spread * TRAINING_STEPS).long().clamp(max=TRAINING_STEPS - 1)
    noise = torch.randn(latents.shape, generator=generator)
    alpha = alphas_cumprod()[t][:, None, None, None]
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    return (model(noisy, t).float() - noise).square().mean()


def train_unet(work: Path, settings: TrainingSettings = UNET_SETTINGS) -> None:
    """Stage `unet`."""
    latents = training_latents(work)
    torch.manual_seed(settings.seed)
    model = Denoiser(UNetConfig())
    trainer = Trainer(model, settings, work / "unet.safetensors")

    def loss_of_step(step: int) -> Tensor:
        generator = torch.Generator().manual_seed((settings.seed + 1) * 1_000_003 + step * processes() + rank())
        picks = torch.randint(len(latents), (settings.batch // processes(),), generator=generator)
        with half_where_fast():
            return denoising_loss(model, latents[picks].float(), generator)

    for step, loss in trainer.run(loss_of_step):
        logger.info("unet step %d loss %.4f %.0f s", step, loss, trainer.seconds)


def preview_factors(model: Autoencoder, scale_factor: float, pictures: np.ndarray) -> dict[str, list]:
    """Least squares from latents to the mean colours of their pixels, for previews -> z 3 factors and 3 biases."""
    latents = torch.cat(list(encoded_pictures(model, pictures))) * scale_factor
    colours = torch.nn.functional.adaptive_avg_pool2d(to_tensor(pictures), latents.shape[-2:])
    columns = [x.permute(0, 2, 3, 1).flatten(0, 2) for x in (latents, colours)]
    design = torch.cat([columns[0], torch.ones(len(columns[0]), 1)], dim=1)
    solution = torch.linalg.lstsq(design, columns[1]).solution
    rounded = [[round(v, 5) for v in row] for row in solution.tolist()]
    return {"latent_rgb_factors": rounded[:-1], "latent_rgb_factors_bias": rounded[-1]}


def save_shipped_portraits(folder: Path) -> None:
    """Write the content and style picture that go with the model."""
    for name, seed in SHIPPED_PORTRAITS.items():
        Image.fromarray(portrait(seed).image).save(folder / name)


def export(work: Path) -> None:
    """Stage `export`: averaged weights of both networks -> the asset, and the two portraits beside it."""
    autoencoder, scale_factor = trained_autoencoder(work)
    denoiser = Denoiser(UNetConfig())
    state = load_average(denoiser, work / "unet.safetensors")
    factors = preview_factors(autoencoder, scale_factor, training_pictures(work, PICTURES)[:100])
    steps = {"ae_steps": AE_SETTINGS.steps, "whole_steps": WHOLE_SETTINGS.steps, "unet_steps": int(state["step"])}
    training = {"pictures": PICTURES, "seed": UNET_SETTINGS.seed, **steps}
    ASSET.parent.mkdir(exist_ok=True)
    save_model(ASSET, autoencoder, denoiser, scale_factor=scale_factor, training=training, **factors)
    save_shipped_portraits(ASSET.parent)
    logger.info("%s: %.2f MB, scale factor %s", ASSET, ASSET.stat().st_size / 1e6, scale_factor)


@torch.inference_mode()
def whole_loop(model: DemoModel, images: Tensor, steps: int) -> Tensor:
    """Encode, invert, sample, decode images b 3 h w -> images."""
    eps = model.denoiser.eps
    return model.decode(ddim_sample(eps, ddim_inversion(eps, model.encode(images), steps), steps))


def evaluate(work: Path, count: int = 32, steps: int = 50) -> None:
    """Stage `evaluate`: numbers on held-out portraits and two contact sheets in the work folder."""
    model, images = load_model(ASSET), to_tensor(evaluation_pictures(count))
    with torch.inference_mode():
        decoded = model.decode(model.encode(images))
        noise = pure_noise((24, *model.encode(images[:1]).shape[1:]), steps, torch.Generator().manual_seed(0))
        samples = model.decode(ddim_sample(model.denoiser.eps, noise, steps))
    looped = whole_loop(model, images, steps)
    for name, result in (("autoencoder", decoded), (f"whole loop, {steps} steps", looped)):
        values = psnr(result, images)
        logger.info("%s: PSNR mean %.2f dB, worst %.2f dB", name, values.mean(), values.min())
    rows = [picture for triple in zip(images[:12], decoded[:12], looped[:12], strict=True) for picture in triple]
    contact_sheet(list(to_pictures(torch.stack(rows))), 6).save(work / "reconstructions.png")
    contact_sheet(list(to_pictures(samples)), 6).save(work / "samples.png")


def prepare(stage: str, work: Path) -> None:
    """Draw or encode what a training stage needs, once, before several processes ask for it."""
    training_pictures(work, PICTURES)
    if stage == "unet":
        training_latents(work)


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=["ae", "whole", "unet", "export", "evaluate", "unpack"], required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for drawn pictures and training states")
    parser.add_argument("--processes", type=int, default=2, help="training processes with one thread each")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    training = {"ae": train_autoencoder, "whole": train_on_whole_pictures, "unet": train_unet}
    if arguments.stage in training:
        prepare(arguments.stage, arguments.work)
        run_together(arguments.processes, training[arguments.stage], arguments.work)
    else:
        {"export": export, "evaluate": evaluate, "unpack": unpack}[arguments.stage](arguments.work)


if __name__ == "__main__":
    main()

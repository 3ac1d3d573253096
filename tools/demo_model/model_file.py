"""The exported files: safetensors under the original key names, with their configuration in the header."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from magicstyle.core.schedule import BETA_END, BETA_START
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from .networks import Autoencoder, AutoencoderConfig, UNet, UNetConfig
from .schedule import TRAINING_STEPS, sigmas
from .transformer import Transformer, TransformerConfig

FORMAT, TRANSFORMER_FORMAT = "magicstyle-demo-model-1", "magicstyle-demo-transformer-1"
UNET, AUTOENCODER, CONDITIONING = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.empty_prompt"
PROMPT_TOKENS = 8
LATENT_SIZE = 32  # of 256 pixels
FLOW_SHIFT = 1.0  # sampling times of the transformer are even


class Denoiser(nn.Module):
    """The noise predictor together with the one prompt that it knows."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.unet = UNet(config)
        self.empty_prompt = nn.Parameter(torch.randn(1, PROMPT_TOKENS, config.context_dim))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Noisy latents b c h w of unit variance, timesteps b -> their noise."""
        return self.unet(x, t, self.empty_prompt.expand(len(x), -1, -1))

    def eps(self, x: Tensor, t: int) -> Tensor:
        """Latents b c h w in sigma space at timestep t -> their noise."""
        scaled = x / (1 + sigmas()[t] ** 2).sqrt()
        return self(scaled, torch.full((len(x),), t))


class FlowModel(nn.Module):
    """The transformer together with the one prompt that it knows."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.transformer = Transformer(config)
        self.empty_prompt = nn.Parameter(torch.randn(1, PROMPT_TOKENS, config.cap_feat_dim))

    def forward(self, x: Tensor, t: Tensor, without: Collection[int] = ()) -> Tensor:
        """Latents b c h w on their way to noise, times b in 0..1 -> noise - latents; `without` leaves blocks out."""
        return self.transformer(x, t, self.empty_prompt.expand(len(x), -1, -1), without)

    def velocity(self, x: Tensor, t: float, without: Collection[int] = ()) -> Tensor:
        """The same at one time for all rows."""
        return self(x, torch.full((len(x),), t), without)


class SupervisedFlow(FlowModel):
    """In training, the tokens of a middle block must also say which portrait they belong to.

    A linear map of them is held to the plain portrait beneath the drawing, as Yu et al. 2025 ("Representation
    alignment for generation") hold such tokens to an encoder's features. The map is not part of the model.
    """

    def __init__(self, config: TransformerConfig, size: int) -> None:
        """`size` is the plain portraits' side in pixels, for latents of LATENT_SIZE."""
        super().__init__(config)
        self.detail = size * config.patch_size // LATENT_SIZE  # pixels along a token's side
        self.composition = nn.Linear(config.dim, 3 * self.detail**2)
        self.transformer.layers[config.n_layers // 2 - 1].register_forward_hook(self._remember)

    def _remember(self, block: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        self.tokens = answer[:, PROMPT_TOKENS:]

    def composed(self) -> Tensor:
        """The plain portraits that the last call's tokens speak of: b 3 h w in -1..1."""
        normed = F.layer_norm(self.tokens, self.tokens.shape[-1:])
        side, detail = math.isqrt(normed.shape[1]), self.detail
        return rearrange(self.composition(normed), "b (h w) (p q c) -> b c (h p) (w q)", h=side, p=detail, q=detail)


@dataclass(frozen=True)
class DemoModel:
    """What the exported file holds."""

    autoencoder: Autoencoder
    denoiser: Denoiser
    scale_factor: float
    header: dict[str, Any]

    def encode(self, images: Tensor) -> Tensor:
        """Images b 3 h w in -1..1 -> latents of unit variance."""
        return self.autoencoder.encode(images) * self.scale_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents of unit variance -> images."""
        return self.autoencoder.decode(latents / self.scale_factor)


def save_model(path: Path, autoencoder: Autoencoder, denoiser: Denoiser, **facts: Any) -> None:
    """Write both networks in half precision, their configurations and further facts for the header."""
    tensors = {AUTOENCODER + name: t for name, t in autoencoder.state_dict().items()}
    tensors |= {UNET + name: t for name, t in denoiser.unet.state_dict().items()}
    tensors[CONDITIONING] = denoiser.empty_prompt.detach()
    header = {
        "format": FORMAT,
        "unet_config": denoiser.unet.config.ldm(),
        "ddconfig": autoencoder.config.ldm(),
        "embed_dim": autoencoder.config.z_channels,
        "latent_channels": autoencoder.config.z_channels,
        "downscale_ratio": 2 ** (len(autoencoder.config.ch_mult) - 1),
        "schedule": {
            "beta_schedule": "scaled_linear",
            "beta_start": BETA_START,
            "beta_end": BETA_END,
            "steps": TRAINING_STEPS,
            "prediction": "eps",
        },
        "conditioning": CONDITIONING,
        **facts,
    }
    halves = {name: t.to(torch.float16).contiguous() for name, t in tensors.items()}
    save_file(halves, path, {key: json.dumps(value) for key, value in header.items()})


def save_transformer(path: Path, model: FlowModel, **facts: Any) -> None:
    """Write the transformer in half precision; its latents are those of the demo model's autoencoder."""
    tensors = {UNET + name: t for name, t in model.transformer.state_dict().items()}
    tensors[CONDITIONING] = model.empty_prompt.detach()
    header = {
        "format": TRANSFORMER_FORMAT,
        "transformer_config": model.transformer.config.host(),
        "schedule": {"prediction": "velocity", "shift": FLOW_SHIFT},
        "conditioning": CONDITIONING,
        **facts,
    }
    halves = {name: t.to(torch.float16).contiguous() for name, t in tensors.items()}
    save_file(halves, path, {key: json.dumps(value) for key, value in header.items()})


def load_transformer(path: Path) -> FlowModel:
    """Read an exported transformer back, in single precision."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["transformer_config"])
        tensors = {name: file.get_tensor(name).float() for name in sorted(file.keys())}
    model = FlowModel(TransformerConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}))
    model.transformer.load_state_dict(_under(UNET, tensors))
    model.empty_prompt.data = tensors[CONDITIONING]
    return model.eval()


def _unet_config(ldm: dict[str, Any]) -> UNetConfig:
    per_level, levels = ldm["num_res_blocks"][0], len(ldm["channel_mult"])
    return UNetConfig(
        in_channels=ldm["in_channels"],
        model_channels=ldm["model_channels"],
        channel_mult=tuple(ldm["channel_mult"]),
        num_res_blocks=per_level,
        input_depth=tuple(ldm["transformer_depth"][i * per_level] for i in range(levels)),
        output_depth=tuple(ldm["transformer_depth_output"][i * (per_level + 1)] for i in range(levels)),
        middle_depth=ldm["transformer_depth_middle"],
        num_heads=ldm["num_heads"],
        context_dim=ldm["context_dim"],
    )


def load_model(path: Path) -> DemoModel:
    """Read an exported file back, in single precision."""
    with safe_open(path, "pt") as file:
        header = {key: json.loads(value) for key, value in file.metadata().items()}
        tensors = {name: file.get_tensor(name).float() for name in sorted(file.keys())}
    listed = {k: tuple(v) if isinstance(v, list) else v for k, v in header["ddconfig"].items()}
    autoencoder, denoiser = Autoencoder(AutoencoderConfig(**listed)), Denoiser(_unet_config(header["unet_config"]))
    autoencoder.load_state_dict(_under(AUTOENCODER, tensors))
    denoiser.unet.load_state_dict(_under(UNET, tensors))
    denoiser.empty_prompt.data = tensors[CONDITIONING]
    return DemoModel(autoencoder.eval(), denoiser.eval(), header["scale_factor"], header)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

"""A Stable Diffusion on diffusers, from one file and without any network: the demo model or an SD1.5 checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import MagicStyleError
from ...core.features import ModelId
from ...core.grid import Grid
from ...core.layers import LayerId
from ...core.schedule import noise_levels, timesteps
from ...model_files.checkpoint import AUTOENCODER, TEXT_ENCODER, read_sd15_checkpoint, under
from ...model_files.demo import DEMO_MODEL, read_demo_file
from . import quiet_diffusers  # noqa: F401 (before diffusers)

# isort: split
from diffusers import AutoencoderKL, UNet2DConditionModel

# not from_single_file: it reads its configuration from a folder, and leaves weights that a file lacks at random
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from transformers import CLIPTextConfig, CLIPTextModel

from .attention import DiffusersUnet, Hooks

Config = Mapping[str, Any]
# the original configuration of SD1.5, as the demo model's header states its own
SD15_UNET = {
    "in_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "num_heads": 8,
    "context_dim": 768,
}
SD15_AUTOENCODER = {"z_channels": 4, "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2}
SD15_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SD15_SCALE = 0.18215
# a start token and nothing but end tokens: what every tokenizer of CLIP makes of an empty text
EMPTY_PROMPT = (49406, *[49407] * 76)


class HeadlessModel:
    """UNet, autoencoder and one prompt; everything in and out is float32, b c h w."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        autoencoder: AutoencoderKL,
        prompt: Tensor,  # 1 m c
        *,
        scale_factor: float,
        native_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.native_size = native_size
        self.downscale = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        self.hooks = Hooks(unet)
        self.unet = unet.eval().to(self.device)
        self._autoencoder = autoencoder.eval().to(self.device)
        self._prompt = prompt.to(self.device, unet.dtype)
        self.scale_factor = scale_factor  # of the model's latents, of ComfyUI's
        self._levels = noise_levels().to(self.device)
        self.rows = 0  # that the UNet has computed so far

    @property
    def layers(self) -> dict[LayerId, int]:
        """Every self-attention layer and its channels, in the order of execution."""
        return self.architecture.widths

    @property
    def id(self) -> ModelId:
        """The identity that features depend on."""
        return self.architecture.id

    @property
    def architecture(self) -> DiffusersUnet:
        """What the UNet's layers and attention calls are."""
        return self.hooks.architecture

    @property
    def prompt(self) -> Tensor:
        """The prompt of every model call: 1 m c."""
        return self._prompt

    @torch.inference_mode()
    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures b 3 h w in -1..1 -> latents of about unit variance."""
        posterior = self._autoencoder.encode(pictures.to(self.device)).latent_dist
        return posterior.mode() * self.scale_factor

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> pictures b 3 h w in -1..1."""
        return self._autoencoder.decode(latents / self.scale_factor).sample.clamp(-1.0, 1.0)

    def timesteps(self, sigma: Tensor) -> Tensor:
        """The training timestep nearest to each sigma: b -> b."""
        return timesteps(sigma, self._levels)

    @torch.inference_mode()
    def denoised(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x = x0 + sigma eps, b c h w -> the estimate of x0; sigma b is rounded to timesteps as ComfyUI does."""
        self.hooks.latent_grid = Grid(x.shape[2:])
        self.rows += x.shape[0]
        spread = sigma.view(-1, 1, 1, 1)
        scaled = (x / (spread**2 + 1.0).sqrt()).to(self.unet.dtype)
        prompt = self._prompt.expand(x.shape[0], -1, -1)
        eps = self.unet(scaled, self.timesteps(sigma), prompt, return_dict=False)[0]
        return x - spread * eps.to(x)


def load_model(checkpoint: Path | None = None, device: torch.device | str = "cpu") -> HeadlessModel:
    """The demo model, or the SD1.5 checkpoint of a single file."""
    if checkpoint is None:
        return load_demo_model(device=device)
    return load_sd15(checkpoint, device)


def load_demo_model(path: Path = DEMO_MODEL, device: torch.device | str = "cpu") -> HeadlessModel:
    """The model that ships with the pack, always in single precision."""
    file = read_demo_file(path)
    header = file.header
    return HeadlessModel(
        load_unet(header.unet_config, file.tensors),
        load_autoencoder(header.ddconfig, file.tensors),
        file.prompt,
        scale_factor=header.scale_factor,
        native_size=header.ddconfig["resolution"],
        device=device,
    )


def load_sd15(path: Path, device: torch.device | str = "cpu") -> HeadlessModel:
    """A single-file SD1.5 checkpoint; its UNet runs in half precision on an accelerator."""
    tensors = read_sd15_checkpoint(path)
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
    return HeadlessModel(
        load_unet(SD15_UNET, tensors, dtype),
        load_autoencoder(SD15_AUTOENCODER, tensors),
        empty_prompt(SD15_TEXT, tensors),
        scale_factor=SD15_SCALE,
        native_size=512,
        device=device,
    )


def load_unet(ldm: Config, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """The noise predictor, from weights under their original names."""
    config = unet_config(ldm)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    return _filled(unet, convert_ldm_unet_checkpoint(dict(tensors), config), dtype)


def load_autoencoder(ddconfig: Config, tensors: Mapping[str, Tensor]) -> AutoencoderKL:
    """The autoencoder, from weights under their original names; always in single precision, which cannot overflow."""
    config = autoencoder_config(ddconfig)
    with torch.device("meta"):
        autoencoder = AutoencoderKL(**config)
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(AUTOENCODER)}
    return _filled(autoencoder, convert_ldm_vae_checkpoint(own, config), torch.float32)


@torch.inference_mode()
def empty_prompt(config: Config, tensors: Mapping[str, Tensor]) -> Tensor:
    """The text encoder's features of an empty prompt, 77 tokens: 1 m c."""
    encoder = CLIPTextModel(CLIPTextConfig(**config))
    weights = under(TEXT_ENCODER, tensors)
    weights.pop("text_model.embeddings.position_ids", None)
    # transformers 5 has one level less in its names
    if not any(name.startswith("text_model.") for name in encoder.state_dict()):
        weights = under("text_model.", weights)
    _filled(encoder, weights, torch.float32)
    return encoder.eval()(torch.tensor([EMPTY_PROMPT])).last_hidden_state


def unet_config(ldm: Config) -> dict[str, Any]:
    """The original configuration's UNet in diffusers' words."""
    per_level = ldm["num_res_blocks"][0]
    down, up = ldm["transformer_depth"][::per_level], ldm["transformer_depth_output"][:: per_level + 1]
    return {
        "in_channels": ldm["in_channels"],
        "out_channels": ldm["in_channels"],
        "block_out_channels": tuple(ldm["model_channels"] * multiple for multiple in ldm["channel_mult"]),
        "layers_per_block": per_level,
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in down),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(up)),
        "attention_head_dim": ldm["num_heads"],  # diffusers' name for the number of heads
        "cross_attention_dim": ldm["context_dim"],
    }


def autoencoder_config(ddconfig: Config) -> dict[str, Any]:
    """The original configuration's autoencoder in diffusers' words."""
    levels = len(ddconfig["ch_mult"])
    return {
        "latent_channels": ddconfig["z_channels"],
        "block_out_channels": tuple(ddconfig["ch"] * multiple for multiple in ddconfig["ch_mult"]),
        "layers_per_block": ddconfig["num_res_blocks"],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }


def _filled(module: nn.Module, weights: Mapping[str, Tensor], dtype: torch.dtype) -> Any:
    try:
        module.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise MagicStyleError(
            f"the checkpoint's weights do not fit its {type(module).__name__} ({detail}): choose a complete SD1.5 file."
        ) from None
    return module.requires_grad_(False)

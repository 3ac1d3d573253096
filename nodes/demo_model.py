"""Load Demo Model: the small model that ships with the pack, as the ordinary objects of a checkpoint loader."""

from __future__ import annotations

from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..core.errors import MagicStyleError
from ..model_files.checkpoint import AUTOENCODER, UNET, under
from ..model_files.demo import DEMO_CONTENT, DEMO_STYLE, DemoFile, DemoHeader, read_demo_file
from .schema import search_aliases
from .sockets import CATEGORY


class DemoModel(io.ComfyNode):
    """Hands out the demo model and its two pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleDemoModel",
            display_name="Load Demo Model",
            category=CATEGORY,
            **search_aliases("MagicStyleDemoModel"),
            description="A small model that ships with the pack, to try the method without a checkpoint. It knows "
            "drawn portraits of 256x256 pixels in a dozen rendering techniques and one empty prompt, and nothing else.",
            inputs=[],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="The demo model, for inversion and sampling."),
                io.Vae.Output("vae", display_name="vae", tooltip="Its VAE: 8 pixels to a latent pixel, 32 channels."),
                io.Conditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="The empty prompt, the only one it knows."
                ),
                io.Image.Output("content", display_name="content", tooltip="A drawn portrait to start from."),
                io.Image.Output("style", display_name="style", tooltip="A drawn picture to take the style from."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Read the files that came with the pack."""
        file = read_demo_file()
        pictures = read_image(DEMO_CONTENT), read_image(DEMO_STYLE)
        return io.NodeOutput(host_model(file), host_vae(file), [[file.prompt, {}]], *pictures)


class DemoLatentFormat(comfy.latent_formats.LatentFormat):
    """The scale and the preview colours of the demo model's latents."""

    def __init__(self, header: DemoHeader) -> None:
        self.scale_factor = header.scale_factor
        self.latent_channels = header.latent_channels
        self.latent_rgb_factors = header.latent_rgb_factors
        self.latent_rgb_factors_bias = header.latent_rgb_factors_bias


def host_model(file: DemoFile) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as the checkpoint loader would make it, always in single precision."""
    config = comfy.supported_models.SD15(dict(file.header.unet_config))
    config.unet_config.update(file.header.unet_config)  # the class asks for the 8 heads of the full width
    config.latent_format = DemoLatentFormat(file.header)
    config.set_inference_dtype(torch.float32, None)
    offload = comfy.model_management.unet_offload_device()
    model = comfy.model_base.BaseModel(config, device=offload).eval()
    _fill(model.diffusion_model, under(UNET, file.tensors))
    load = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=load, offload_device=offload)


def host_vae(file: DemoFile) -> comfy.sd.VAE:
    """A VAE with the demo model's autoencoder, always in single precision."""
    header = file.header
    config = {"params": {"ddconfig": dict(header.ddconfig), "embed_dim": header.embed_dim}}
    vae = comfy.sd.VAE(sd=under(AUTOENCODER, file.tensors), config=config, dtype=torch.float32)
    vae.latent_channels = header.latent_channels
    vae.downscale_ratio = vae.upscale_ratio = header.downscale_ratio
    return vae


def read_image(path: Path) -> Tensor:
    """One of the pack's own pictures -> IMAGE 1 h w 3 in 0..1."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    except OSError:
        raise MagicStyleError(f"{path.name} is missing or damaged: install the pack again.") from None
    return torch.from_numpy(pixels / 255.0).unsqueeze(0)


def _fill(module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise MagicStyleError(f"the demo model's weights do not fit ({detail}): install the pack again.") from None

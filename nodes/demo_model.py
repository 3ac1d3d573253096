"""Load Demo Model: the small models that ship with the pack, as the ordinary objects of a checkpoint loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..core.errors import MagicStyleError
from ..model_files.checkpoint import AUTOENCODER, UNET, under
from ..model_files.demo import (
    DEMO_CONTENT,
    DEMO_STYLE,
    DemoFile,
    DemoHeader,
    TransformerHeader,
    read_demo_file,
    read_demo_transformer,
)
from .demo_clip import DemoClip
from .schema import check_choices, search_aliases
from .sockets import CATEGORY

UNET_MODEL, TRANSFORMER_MODEL = MODELS = ("unet", "transformer")
# hosts before 0.4 give the transformer a norm that they never call and that the file does not hold
NEVER_CALLED = ("norm_final.weight",)


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
            description="A small model that ships with the pack, to try the method without a checkpoint. It paints "
            "photographs of people, best as head and shoulders and 512 pixels on the longer side; small faces "
            "dissolve. It knows one empty prompt.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(MODELS),
                    default=UNET_MODEL,
                    optional=True,
                    tooltip="unet: built like Stable Diffusion 1.5\ntransformer: flow matching, built like Lumina 2; "
                    "needs ComfyUI 0.5.0 or newer",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The demo model, for inversion and sampling."),
                io.Vae.Output("vae", display_name="vae", tooltip="Its VAE: 8 pixels to a latent pixel, 32 channels."),
                io.Conditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="The empty prompt, the only one it knows."
                ),
                io.Image.Output("content", display_name="content", tooltip="A photograph to start from."),
                io.Image.Output("style", display_name="style", tooltip="A painting to take the style from."),
                io.Clip.Output(
                    "clip",
                    display_name="clip",
                    tooltip="Stands where a checkpoint's text encoder stands: every text becomes the empty prompt.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        """Name a choice that is gone."""
        return check_choices(model=(model, MODELS))

    @classmethod
    def execute(cls, model: str = UNET_MODEL) -> io.NodeOutput:
        """Read the files that came with the pack; both models share an autoencoder."""
        file = read_demo_file()
        network = read_network(model)
        # newer hosts read a model once more where a copy with weights of its own is needed, as in Train LoRA
        network.cached_patcher_init = (read_network, (model,))
        prompt = flow_prompt(read_demo_transformer()) if model == TRANSFORMER_MODEL else [[file.prompt, {}]]
        pictures = read_image(DEMO_CONTENT), read_image(DEMO_STYLE)
        return io.NodeOutput(network, host_vae(file), prompt, *pictures, DemoClip(prompt))


def read_network(model: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """One of the models as a MODEL with weights of its own; none of ours is dynamic, whatever the host asks for."""
    file = read_demo_file()
    return host_transformer(read_demo_transformer(), file.header) if model == TRANSFORMER_MODEL else host_model(file)


class DemoLatentFormat(comfy.latent_formats.LatentFormat):
    """The scale and the preview colours of the demo model's latents."""

    def __init__(self, header: DemoHeader) -> None:
        self.scale_factor = header.scale_factor
        self.latent_channels = header.latent_channels
        self.latent_rgb_factors = header.latent_rgb_factors
        self.latent_rgb_factors_bias = header.latent_rgb_factors_bias


def host_model(file: DemoFile[DemoHeader]) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as the checkpoint loader would make it, always in single precision."""
    config = comfy.supported_models.SD15(dict(file.header.unet_config))
    config.unet_config.update(file.header.unet_config)  # the class expects the 8 heads of the full width
    return _patcher(comfy.model_base.BaseModel, config, file, file.header)


def host_transformer(file: DemoFile[TransformerHeader], latents: DemoHeader) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as the diffusion model loader would make it of a Lumina 2, always in single precision."""
    config = comfy.supported_models.Lumina2({"image_model": "lumina2", **file.header.transformer_config})
    config.sampling_settings = {"multiplier": 1.0, "shift": file.header.schedule["shift"]}
    return _patcher(comfy.model_base.Lumina2, config, file, latents)


def flow_prompt(file: DemoFile[TransformerHeader]) -> list[Any]:
    """Its empty prompt as CONDITIONING: without a mask the host does not know how long a prompt is."""
    return [[file.prompt, {"attention_mask": torch.ones(file.prompt.shape[:2], dtype=torch.long)}]]


def _patcher(
    kind: type[comfy.model_base.BaseModel],
    config: comfy.supported_models_base.BASE,
    file: DemoFile[Any],
    latents: DemoHeader,
) -> comfy.model_patcher.ModelPatcher:
    config.latent_format = DemoLatentFormat(latents)
    config.set_inference_dtype(torch.float32, None)
    offload = comfy.model_management.unet_offload_device()
    model = kind(config, device=offload).eval()
    _fill(model.diffusion_model, under(UNET, file.tensors))
    load = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, load_device=load, offload_device=offload)


def host_vae(file: DemoFile[DemoHeader]) -> comfy.sd.VAE:
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
    own = module.state_dict()
    never_called = {name: own[name] for name in NEVER_CALLED if name in own}
    try:
        module.load_state_dict(never_called | weights)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:200]
        raise MagicStyleError(f"the demo model's weights do not fit ({detail}): install the pack again.") from None

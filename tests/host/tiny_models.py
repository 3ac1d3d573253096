"""Every supported model in miniature: the genuine blocks, depths and parametrisation, narrow layers, random weights."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import comfy.supported_models as supported
import torch
from magicstyle.tests.host.tiny import UNET_CONFIG, WIDTH, fill
from torch import Tensor

POOLED = 1280
SD = {**UNET_CONFIG, "channel_mult": [1, 2, 4, 4]}
# zeros do not look like SD2.1's weights, by whose spread the host tells v-prediction from eps
V_PREDICTION_KEY = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def sdxl(depth: list[int], output: list[int], middle: int) -> dict[str, Any]:
    """The shape of SDXL or of a model distilled from it: three levels, none of attention at full size."""
    return {
        **UNET_CONFIG,
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": depth,
        "transformer_depth_output": output,
        "transformer_depth_middle": middle,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": POOLED + 6 * 256,
    }


@dataclass(frozen=True)
class Family:
    """A kind of model: the host's class, its UNet, what its file says, and how many layers of self-attention it has."""

    host: type
    unet: dict[str, Any]
    scale: float  # of latents, from the host's convention to the model's
    layers: dict[str, int]  # self-attention layers by block
    chosen: str = "output.6-11"
    file: dict[str, Tensor] = field(default_factory=dict)
    v: bool = False
    zero_snr: bool = False

    @property
    def pooled(self) -> bool:
        """Whether prompts have a pooled vector too."""
        return self.unet["adm_in_channels"] is not None


SDXL_BASE = sdxl([0, 0, 2, 2, 10, 10], [0, 0, 0, 2, 2, 2, 10, 10, 10], 10)
SIXTEEN = {"input": 6, "middle": 1, "output": 9}
SDXL_LAYERS = {"input": 24, "middle": 10, "output": 36}
FAMILIES = {
    "sd15": Family(supported.SD15, SD, 0.18215, SIXTEEN),
    "sd15 inpainting": Family(supported.SD15, {**SD, "in_channels": 9}, 0.18215, SIXTEEN),
    "sd21 base": Family(supported.SD20, {**SD, "use_linear_in_transformer": True}, 0.18215, SIXTEEN),
    "sd21": Family(
        supported.SD20,
        {**SD, "use_linear_in_transformer": True},
        0.18215,
        SIXTEEN,
        file={V_PREDICTION_KEY: torch.linspace(-1.0, 1.0, WIDTH)},
        v=True,
    ),
    "sdxl": Family(supported.SDXL, SDXL_BASE, 0.13025, SDXL_LAYERS, "output.0-1, output.3.1"),
    "sdxl v-prediction, zero-terminal SNR": Family(
        supported.SDXL,
        SDXL_BASE,
        0.13025,
        SDXL_LAYERS,
        "output.0-5",
        {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)},
        v=True,
        zero_snr=True,
    ),
    "ssd-1b": Family(
        supported.SSD1B,
        sdxl([0, 0, 2, 2, 4, 4], [0, 0, 0, 1, 1, 2, 10, 4, 4], -1),
        0.13025,
        {"input": 12, "output": 22},
        "output.2, output.3.1",
    ),
    "vega": Family(
        supported.Segmind_Vega,
        sdxl([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2, 2], -1),
        0.13025,
        {"input": 6, "output": 9},
        "output.0-5",
    ),
}


@functools.cache
def family_base(name: str) -> comfy.model_patcher.ModelPatcher:
    """The miniature of a family, one for all tests; hand out clones."""
    family = FAMILIES[name]
    with torch.inference_mode(False):
        config = family.host(dict(family.unet))
        config.unet_config.update(num_heads=-1, num_head_channels=16)  # of 64, too many for so narrow a model
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model(family.file).eval().requires_grad_(False)
        fill(model.diffusion_model, seed=0, eps_gain=0.25, qk_gain=2.0)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def family_model(name: str) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as a loader node would hand it out: a fresh clone over shared weights."""
    return family_base(name).clone()


def family_prompt(name: str, seed: int = 1, **more: Any) -> list[list[Any]]:
    """A CONDITIONING for a family: random text features, and a pooled vector where it has one."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, 77, WIDTH, generator=generator)
    pooled = {"pooled_output": torch.randn(1, POOLED, generator=generator)} if FAMILIES[name].pooled else {}
    return [[text, {**pooled, **more}]]

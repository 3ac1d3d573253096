"""Every flow-matching transformer in miniature: the host's own classes and blocks, narrow layers, random weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import comfy.supported_models as supported
import torch
from torch import Tensor

TEXT = 32  # channels of the text features
POOLED = 32
SIZE = (12, 16)  # of a latent; not square
Calls = tuple[
    str | None, ...
]  # what the attention calls of one forward pass are, in their order: a layer, or another's


@dataclass(frozen=True)
class Family:
    """A kind of transformer: the host's class, its network, and what an attention call of it holds."""

    host: str  # in comfy.supported_models
    unet: dict[str, Any]
    channels: int  # of a latent
    calls: Calls
    sites: tuple[str, ...]  # modules and names of the attention functions that it calls
    patch: int = 2  # latent pixels a token, each way
    frames: bool = False  # latents are b c t h w
    registers: int = 0  # tokens that stand before the text
    multiple: int = 1  # to which the text is padded
    text: bool = True  # whether a text stands before the picture in a call
    guided: bool = False  # distilled: takes the guidance as an input
    references: bool = False  # takes reference latents
    dit: bool = True  # whether other nodes can replace its blocks
    deep: tuple[int, ...] = ()  # the axes of the positions on which the picture stands behind the caption
    embedder: str = "rope_embedder"  # where the network has what makes its rotary positions
    last: bool = False  # whether references stand before the picture, not behind it
    refined: int = 0  # calls that come first, of a reference by itself
    flow: bool = True  # x = (1 - sigma) x0 + sigma n, else x = x0 + sigma n
    centred: bool = False  # norms weigh by 1 + scale
    carried: Callable[[int], dict[str, Any]] = lambda tokens: {}  # what a prompt of so many tokens carries more
    around: Callable[[], AbstractContextManager[Any]] = nullcontext  # while the network is built

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of pictures, in their order."""
        return tuple(call for call in self.calls if call)

    def text_tokens(self, length: int) -> int:
        """How many tokens stand before the picture's in a joint call."""
        return -(-(length + self.registers) // self.multiple) * self.multiple if self.text else 0


def stacks(double: int, single: int = 0) -> Calls:
    """One call a block."""
    return tuple([f"double.{i}.0" for i in range(double)] + [f"single.{i}.0" for i in range(single)])


def llama(tokens: int) -> dict[str, Any]:
    """The second text of HiDream: one row, two layers of a language model."""
    generator = torch.Generator().manual_seed(tokens)
    return {"conditioning_llama3": torch.randn(1, 2, tokens, TEXT, generator=generator)}


def unpadded(tokens: int) -> dict[str, Any]:
    """A mask that hides nothing: OmniGen2 counts its text by it."""
    return {"attention_mask": torch.ones(1, tokens, dtype=torch.long)}


class NoAdapter(torch.nn.Module):
    """In the place of Anima's adapter of the text, which has a fixed width and 150 million weights."""

    def __init__(self, **_: Any) -> None:
        super().__init__()


def without_adapter() -> AbstractContextManager[Any]:
    """The host's class of the adapter, replaced."""
    return mock.patch("comfy.ldm.anima.model.LLMAdapter", NoAdapter)


NEW_HOST = hasattr(supported, "Flux2")
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": POOLED,
    "context_in_dim": TEXT,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 4,
    "depth": 3,
    "depth_single_blocks": 4,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
} | ({"txt_ids_dims": []} if NEW_HOST else {})
CHROMA = {
    key: value for key, value in FLUX.items() if key != "guidance_embed" and (NEW_HOST or key != "vec_in_dim")
} | {
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 64,
    "hidden_dim": 64,
    "n_layers": 2,
}
FLUX2 = FLUX | {
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "axes_dim": [4, 4, 4, 4],
    "theta": 2000,
    "mlp_ratio": 3.0,
    "qkv_bias": False,
    "vec_in_dim": None,
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
SD3 = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 2,
    "num_blocks": 4,
    "input_size": None,
    "adm_in_channels": POOLED,
    "pos_embed_scaling_factor": None,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": TEXT, "out_features": 128},
    },
    "num_patches": 400,
    "pos_embed_max_size": 20,
    "qk_norm": "rms",
}
QWEN = {
    "image_model": "qwen_image",
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "joint_attention_dim": TEXT,
    "axes_dims_rope": (4, 6, 6),
}
AURA = {
    "in_channels": 4,
    "out_channels": 4,
    "dim": 64,
    "n_layers": 4,
    "n_double_layers": 2,
    "n_heads": 4,
    "global_conddim": 64,
    "cond_seq_dim": TEXT,
    "max_seq": 400,
}
WAN = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "dim": 96,
    "out_dim": 16,
    "num_heads": 4,
    "ffn_dim": 128,
    "num_layers": 4,
    "patch_size": (1, 2, 2),
    "freq_dim": 256,
    "text_dim": TEXT,
    "window_size": (-1, -1),
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
    "in_dim": 16,
}
LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 64,
    "cap_feat_dim": TEXT,
    "n_layers": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "qk_norm": True,
    "axes_dims": [4, 6, 6],
    "axes_lens": [300, 512, 512],
} | ({"rope_theta": 10000.0, "ffn_dim_multiplier": 4.0} if NEW_HOST else {})
ZIMAGE = LUMINA | {
    "dim": 256,
    "n_kv_heads": 4,
    "axes_dims": [16, 24, 24],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}

COSMOS = {
    "image_model": "cosmos_predict2",
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "model_channels": 128,
    "num_blocks": 4,
    "num_heads": 4,
    "crossattn_emb_channels": TEXT,
    "pos_emb_cls": "rope3d",
    "min_fps": 1,
    "max_fps": 30,
    "use_adaln_lora": True,
    "adaln_lora_dim": 32,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}
HUNYUAN = {
    "image_model": "hunyuan_video",
    "in_channels": 64,
    "out_channels": 64,
    "patch_size": [1, 1],
    "vec_in_dim": None,
    "context_in_dim": TEXT,
    "hidden_size": 64,
    "mlp_ratio": 2.0,
    "num_heads": 4,
    "depth": 3,
    "depth_single_blocks": 4,
    "axes_dim": [8, 8],
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": False,
    "byt5": False,
    "meanflow": False,
} | ({"use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False} if NEW_HOST else {})
HIDREAM = {
    "image_model": "hidream",
    "attention_head_dim": 16,
    "axes_dims_rope": [8, 4, 4],
    "caption_channels": [TEXT, TEXT],
    "max_resolution": [128, 128],
    "in_channels": 16,
    "llama_layers": [0, 1, 1, 1],
    "num_attention_heads": 4,
    "num_routed_experts": 2,
    "num_activated_experts": 1,
    "num_layers": 2,
    "num_single_layers": 2,
    "out_channels": 16,
    "patch_size": 2,
    "text_emb_dim": POOLED,
}
OMNIGEN = {
    "image_model": "omnigen2",
    "patch_size": 2,
    "in_channels": 16,
    "hidden_size": 64,
    "num_layers": 4,
    "num_refiner_layers": 2,
    "num_attention_heads": 4,
    "num_kv_heads": 2,
    "multiple_of": 32,
    "axes_dim_rope": (4, 6, 6),
    "axes_lens": (300, 512, 512),
}
BOOGU = OMNIGEN | {
    "image_model": "boogu",
    "num_layers": 2,
    "num_double_stream_layers": 2,
    "instruction_feat_dim": TEXT,
}
KREA = {
    "image_model": "krea2",
    "features": 128,
    "tdim": 32,
    "txtdim": 16,
    "heads": 4,
    "kvheads": 2,
    "multiplier": 2,
    "layers": 4,
    "patch": 2,
    "channels": 16,
    "txtlayers": 2,
    "txtheads": 2,
    "txtkvheads": 2,
}
IDEOGRAM = {
    "image_model": "ideogram4",
    "in_channels": 128,
    "num_layers": 4,
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "intermediate_size": 128,
    "adaln_dim": 32,
    "llm_features_dim": TEXT,
    "mrope_section": (8, 4, 4),
}

FLUX_SITE = ("comfy.ldm.flux.math.optimized_attention",)
MMDIT_SITE = ("comfy.ldm.modules.diffusionmodules.mmdit.optimized_attention",)
LUMINA_SITE = ("comfy.ldm.lumina.model.optimized_attention_masked",)
QWEN_SITE = ("comfy.ldm.qwen_image.model.optimized_attention_masked",)
AURA_SITE = ("comfy.ldm.aura.mmdit.optimized_attention",)
WAN_SITE = ("comfy.ldm.wan.model.optimized_attention",)
COSMOS_SITE = ("comfy.ldm.cosmos.predict2.optimized_attention",)
HUNYUAN_SITE = ("comfy.ldm.hunyuan_video.model.optimized_attention", *FLUX_SITE)  # the text, then the blocks
HIDREAM_SITE = ("comfy.ldm.hidream.model.optimized_attention",)
OMNIGEN_SITE = ("comfy.ldm.omnigen.omnigen2.optimized_attention_masked",)
REFINERS: Calls = (None,) * 4  # two for the caption, two for the picture
SD35_CALLS = ("double.0.0", "double.0.1", "double.1.0", "double.1.1", "double.2.0", "double.3.0")
# the picture by itself, then with the text
SELF_AND_CROSS = tuple(call for layer in stacks(4) for call in (layer, None))
BOOGU_CALLS: Calls = (*REFINERS, "double.0.0", "double.0.1", "double.1.0", "double.1.1", "single.0.0", "single.1.0")

FAMILIES = {
    "flux": Family("Flux", FLUX, 16, stacks(3, 4), FLUX_SITE, guided=True, references=True),
    "flux schnell": Family("FluxSchnell", FLUX | {"guidance_embed": False}, 16, stacks(3, 4), FLUX_SITE),
    "chroma": Family("Chroma", CHROMA, 16, stacks(3, 4), FLUX_SITE),
    "sd3": Family("SD3", SD3, 16, stacks(4), MMDIT_SITE),
    "sd3.5": Family("SD3", SD3 | {"x_block_self_attn_layers": [0, 1]}, 16, SD35_CALLS, MMDIT_SITE),
    "qwen": Family("QwenImage", QWEN, 16, stacks(4), QWEN_SITE, frames=True, references=True),
    "aura": Family("AuraFlow", AURA, 4, stacks(2, 2), AURA_SITE, registers=8),
    "wan": Family("WAN21_T2V", WAN, 16, SELF_AND_CROSS, WAN_SITE, frames=True, text=False),
    "cosmos": Family(
        *("CosmosT2IPredict2", COSMOS, 16, SELF_AND_CROSS, COSMOS_SITE),
        frames=True,
        text=False,
        dit=False,
        flow=False,
    ),
    "hunyuan": Family(
        *("HunyuanImage21", HUNYUAN, 64, (None,) * 2 + stacks(3, 4), HUNYUAN_SITE),
        patch=1,
        text=NEW_HOST,  # the older host has the picture first
    ),
    "hidream": Family("HiDream", HIDREAM, 16, stacks(2, 2), HIDREAM_SITE, text=False, dit=False, carried=llama),
    "omnigen2": Family(
        *("Omnigen2", OMNIGEN | {"text_feat_dim": TEXT}, 16, REFINERS + stacks(4), OMNIGEN_SITE),
        dit=False,
        deep=(0,),
        embedder="rope_embedder.rope_embedder",
        last=True,
        refined=2,
        references=True,
        carried=unpadded,
    ),
}
if NEW_HOST:
    FAMILIES |= {
        "flux2": Family("Flux2", FLUX2, 128, stacks(3, 4), FLUX_SITE, patch=1, guided=True, references=True),
        "lumina2": Family("Lumina2", LUMINA, 16, REFINERS + stacks(4), LUMINA_SITE, dit=False, deep=(0,)),
        "z-image": Family("ZImage", ZIMAGE, 16, REFINERS + stacks(4), LUMINA_SITE, multiple=32, dit=False, deep=(0,)),
        "longcat": Family(
            *("LongCatImage", FLUX | {"guidance_embed": False, "vec_in_dim": None, "txt_ids_dims": [1, 2]}, 16),
            *(stacks(3, 4), FLUX_SITE),
            deep=(1, 2),
            embedder="pe_embedder",
        ),
        "krea2": Family(
            *("Krea2", KREA, 16, (None,) * 4 + stacks(0, 4), ("comfy.ldm.krea2.model.optimized_attention_masked",)),
            frames=True,
            dit=False,
            centred=True,
            references=True,
            carried=lambda tokens: {"reference_latents_method": "index"},
        ),
        "anima": Family(
            *("Anima", COSMOS | {"image_model": "anima"}, 16, SELF_AND_CROSS, COSMOS_SITE),
            frames=True,
            text=False,
            dit=False,
            around=without_adapter,
        ),
        "ideogram": Family(
            *("Ideogram4", IDEOGRAM, 128, stacks(0, 4), ("comfy.ldm.ideogram4.model.optimized_attention_masked",)),
            patch=1,
            dit=False,
        ),
        "boogu": Family(
            *("Boogu", BOOGU, 16, BOOGU_CALLS, ("comfy.ldm.boogu.model.optimized_attention_masked", *OMNIGEN_SITE)),
            dit=False,
            deep=(0,),
            embedder="rope_embedder.rope_embedder",
            last=True,
            refined=2,
            references=True,
            carried=unpadded,
        ),
    }


LAST = ("final", "proj_out", "norm_out.linear_2", "last.linear")  # in the names of last layers


def fill(name: str, weight: Tensor, generator: torch.Generator, *, centred: bool = False) -> None:
    """Give a parameter a value that keeps the signal's size; the last layer is damped, to predict little."""
    noise = torch.randn(weight.shape, generator=generator)
    if weight.ndim == 1:
        normal = not centred and "norm" in name and name.endswith(("weight", "scale"))
        weight.copy_(0.02 * noise + (1.0 if normal else 0.0))
        return
    last = any(part in name for part in LAST) or name.startswith("head")
    weight.copy_((0.4 if last else 1.0) * noise / math.sqrt(max(1, math.prod(weight.shape[1:]))))


def built(family: Family, seed: int = 1, device: str | None = None) -> comfy.model_patcher.ModelPatcher:
    """A model with random weights; on the device `meta` without any."""
    with torch.inference_mode(False), torch.no_grad(), family.around():
        config = getattr(supported, family.host)(dict(family.unet))
        config.unet_config.update(family.unet)  # the host's own extras are of the full size
        config.unet_config.pop("disable_unet_model_creation", None)
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, "", device=device).eval().requires_grad_(False)
        network, generator = model.diffusion_model, torch.Generator().manual_seed(seed)
        tables = [(key, table) for key, table in network.named_buffers() if key == "pos_embed"]
        for key, weight in sorted([*network.named_parameters(), *tables]) if device != "meta" else ():
            fill(key, weight, generator, centred=family.centred)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


@functools.cache
def family_base(name: str) -> comfy.model_patcher.ModelPatcher:
    """The miniature of a family, one for all tests; hand out clones."""
    return built(FAMILIES[name])


def family_model(name: str) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as a loader node would hand it out: a fresh clone over shared weights."""
    return family_base(name).clone()


def family_prompt(name: str, tokens: int = 7, seed: int = 5, **more: Any) -> list[list[Any]]:
    """A CONDITIONING: random text features, b n c, a pooled vector, and what the family's nodes add."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, tokens, TEXT, generator=generator)
    carried: dict[str, Any] = {"pooled_output": torch.randn(1, POOLED, generator=torch.Generator().manual_seed(9))}
    if FAMILIES[name].guided:
        carried["guidance"] = 1.0
    return [[text, carried | FAMILIES[name].carried(tokens) | more]]


def family_latent(
    name: str, size: Sequence[int] = SIZE, *, batch: int = 1, seed: int = 2, scale: float = 1.0
) -> Tensor:
    """A LATENT's samples: smooth random content, b c h w, or b c 1 h w for models of films."""
    family, generator = FAMILIES[name], torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, family.channels, *(-(-side // 4) for side in size), generator=generator)
    smooth = scale * torch.nn.functional.interpolate(coarse, size=tuple(size), mode="bilinear")
    return smooth.unsqueeze(2) if family.frames else smooth


def family_sigmas(name: str, steps: int = 4, scheduler: str = "simple") -> Tensor:
    """The descending noise levels that the host's scheduler node would give, the last 0."""
    return comfy.samplers.calculate_sigmas(family_base(name).get_model_object("model_sampling"), scheduler, steps)

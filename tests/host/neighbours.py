"""Other nodes, as users wire them beside ours: the host's own, and in miniature what they load."""

from __future__ import annotations

import functools
import importlib
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ldm.modules.attention
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.t2i_adapter.adapter
import folder_paths
import pytest
import torch
from magicstyle.tests.host.tiny import HEADS, UNET_CONFIG, WIDTH, fill
from safetensors.torch import save_file
from torch import Tensor

PIXELS = 8  # of a picture for one of its latent
ran = Counter()  # how often each of the host's nodes has run here, by class; and each sampler, by name


def stock(address: str, /, **inputs: Any) -> tuple[Any, ...]:
    """Run one of the host's nodes, named `module.Class`; skip where this host has no such node."""
    module, name = address.rsplit(".", 1)
    try:
        node = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        pytest.skip(f"this ComfyUI has no node {name}")
    ran[name] += 1
    if hasattr(node, "execute"):
        out = node.execute(**inputs)
        return tuple(getattr(out, "args", out))
    return getattr(node(), node.FUNCTION)(**inputs)


def hint(seed: int = 5, batch: int = 1, grid: tuple[int, int] = (8, 12)) -> Tensor:
    """An IMAGE for a ControlNet, of the running picture's size."""
    height, width = (PIXELS * side for side in grid)
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


@functools.lru_cache(maxsize=4)
def controlnet(seed: int = 5, gain: float = 0.5) -> comfy.controlnet.ControlNet:
    """A CONTROL_NET of the miniature model's widths, with random weights."""
    with torch.inference_mode(False):
        config = {**UNET_CONFIG, "num_heads": HEADS, "hint_channels": 3, "dtype": torch.float32}
        network = comfy.cldm.cldm.ControlNet(**config, operations=comfy.ops.manual_cast).eval().requires_grad_(False)
        fill(network, seed=seed, eps_gain=1.0, qk_gain=1.0)
        for name, weight in network.named_parameters():
            if "zero_convs" in name or "middle_block_out" in name:
                weight.mul_(gain)
    cpu = torch.device("cpu")
    return comfy.controlnet.ControlNet(network, load_device=cpu, manual_cast_dtype=None)


@functools.lru_cache(maxsize=1)
def t2i_adapter() -> comfy.controlnet.T2IAdapter:
    """A T2I-adapter of the miniature model's widths, with random weights."""
    channels = [WIDTH * multiple for multiple in UNET_CONFIG["channel_mult"]]
    with torch.inference_mode(False):
        network = comfy.t2i_adapter.adapter.Adapter(
            cin=64 * 3, channels=channels, nums_rb=2, ksize=1, sk=True, use_conv=False, xl=False
        )
        network.eval().requires_grad_(False)
        fill(network, seed=6, eps_gain=1.0, qk_gain=1.0)
    return comfy.controlnet.T2IAdapter(network, network.input_channels, 8, "nearest-exact", torch.device("cpu"))


@functools.lru_cache(maxsize=1)
def clip() -> comfy.sd.CLIP:
    """A CLIP whose text encoder gives features of the miniature model's width."""
    size = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 2, "num_hidden_layers": 2}
    target = SimpleNamespace(params={}, clip=comfy.sd1_clip.SD1ClipModel, tokenizer=comfy.sd1_clip.SD1Tokenizer)
    with torch.inference_mode(False):
        made = comfy.sd.CLIP(target, model_options={"clip_l_model_config": size, "dtype": torch.float32})
        made.cond_stage_model.requires_grad_(False)
        fill(made.cond_stage_model, seed=8, eps_gain=1.0, qk_gain=1.0)
    return made


LORAS = tempfile.TemporaryDirectory(prefix="magicstyle-loras-")  # gone when the process ends


@functools.lru_cache(maxsize=1)
def lora_name(strength: float = 1.0) -> str:
    """The name, as loader nodes know it, of a LoRA file for the miniature model and its text encoder."""
    folder_paths.add_model_folder_path("loras", LORAS.name)
    generator, weights = torch.Generator().manual_seed(7), {}
    blocks = [(f"lora_unet_output_blocks_{number}_1_transformer_blocks_0_attn1", 2 * WIDTH) for number in (3, 4, 5)]
    blocks += [(f"lora_unet_output_blocks_{number}_1_transformer_blocks_0_attn1", WIDTH) for number in range(6, 12)]
    names = [(f"{name}_{part}", width) for name, width in blocks for part in ("to_q", "to_k", "to_v")]
    names += [(name.replace("attn1", "attn2") + "_to_q", width) for name, width in blocks]
    names += [(f"{name.replace('attn1', 'attn2')}_to_out_0", width) for name, width in blocks]
    names += [(f"lora_te_text_model_encoder_layers_{i}_self_attn_v_proj", WIDTH) for i in (0, 1)]
    for name, width in names:
        weights[f"{name}.lora_up.weight"] = strength * torch.randn(width, 4, generator=generator) / 2
        weights[f"{name}.lora_down.weight"] = torch.randn(4, width, generator=generator) / width**0.5
    save_file(weights, str(Path(LORAS.name) / "magicstyle_tiny.safetensors"))
    return "magicstyle_tiny.safetensors"


class ImagePromptAttention:
    """Cross-attention in IPAdapter's manner: the text's answer plus an image's, other tokens for negative prompts."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
        self.calls = 0

    def tokens(self, kind: int, like: Tensor) -> Tensor:
        """The image prompt's keys or values, (1 m c), for a positive (0) or negative (1) prompt."""
        generator = torch.Generator().manual_seed(40 + kind)
        return torch.randn(1, 4, like.shape[-1], generator=generator).to(like)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        """The host's attn2_replace."""
        self.calls += 1
        heads, kinds = extra_options["n_heads"], extra_options["cond_or_uncond"]
        rows = q.shape[0] // len(kinds)
        keys, values = (
            torch.cat([self.tokens(2 * kind + part, q).expand(rows, -1, -1) for kind in kinds]) for part in (0, 1)
        )
        attention = comfy.ldm.modules.attention.optimized_attention
        return attention(q, k, v, heads) + self.weight * attention(q, keys, values, heads)


class HalvedQueries:
    """An attention override that another node sets by assigning it, as Sage and KJ's nodes do; it softens attention."""

    def __init__(self) -> None:
        self.calls = 0

    def __deepcopy__(self, memo: object) -> HalvedQueries:
        return self

    def __call__(self, func: Any, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The host's optimized_attention_override."""
        self.calls += 1
        return func(0.5 * q, k, v, *args, **kwargs)


def values_alone(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
    """An attn1_replace: each token answers itself."""
    return v


def wrapped(model: Any, function: Any) -> Any:
    """A clone with another node's function around the model's calls, as tiling nodes and caches set it."""
    model = model.clone()
    model.set_model_unet_function_wrapper(function)
    return model


class Tiles:
    """Overlapping tiles side by side in one batch, their mean taken, as Tiled Diffusion makes them; after a roll."""

    def __init__(self, side: int, overlap: int, shift: int = 0) -> None:
        self.side, self.step, self.shift = side, side - overlap, shift

    def __call__(self, apply_model: Any, given: dict[str, Any]) -> Tensor:
        """The host's model_function_wrapper: b c h w."""
        x, c = given["input"].roll(self.shift, -1), dict(given["c"])
        corners = [(top, left) for top in self.starts(x.shape[-2]) for left in self.starts(x.shape[-1])]
        tiles = torch.cat([self.cut(x, corner) for corner in corners])
        level = given["timestep"][:1].expand(len(tiles))
        c["c_crossattn"] = c["c_crossattn"].repeat(len(corners), 1, 1)
        total, weight = torch.zeros_like(x), torch.zeros_like(x)
        for corner, answer in zip(corners, apply_model(tiles, level, **c).chunk(len(corners)), strict=True):
            self.cut(total, corner).add_(answer)
            self.cut(weight, corner).add_(1.0)
        return (total / weight).roll(-self.shift, -1)

    def starts(self, length: int) -> list[int]:
        """Where tiles begin on a side."""
        return sorted({min(start, max(length - self.side, 0)) for start in range(0, length, self.step)})

    def cut(self, x: Tensor, corner: tuple[int, int]) -> Tensor:
        """One tile of b c h w, a view."""
        top, left = corner
        return x[..., top : top + self.side, left : left + self.side]


def windows(model: Any, length: int, overlap: int, dim: int) -> Any:
    """The host's Context Windows (Manual) over one axis of the latent; an older host's has fewer inputs."""
    given: dict[str, Any] = {"context_length": length, "context_overlap": overlap, "context_stride": 1, "dim": dim}
    names = {"context_schedule": "standard_static", "closed_loop": False, "fuse_method": "flat"}
    node = "comfy_extras.nodes_context_windows.ContextWindowsManualNode"
    try:
        return stock(node, model=model, **given, **names, freenoise=False)[0]
    except TypeError:
        return stock(node, model=model, **given, **names)[0]

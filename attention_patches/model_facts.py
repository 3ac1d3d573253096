"""What a host's model says about itself: its self-attention layers, their widths, their token grids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.errors import MagicStyleError
from ..core.features import ModelId
from ..core.layers import LayerId
from ..core.regions import Grid

Model = Any  # comfy.model_patcher.ModelPatcher


def self_attention_widths(model: Model) -> dict[LayerId, int]:
    """Every self-attention layer of the model's UNet and its channels, in the order of execution."""
    return {layer: attention.heads * attention.dim_head for layer, attention in _self_attentions(model)}


def self_attention_heads(model: Model) -> dict[LayerId, int]:
    """The number of attention heads of each self-attention layer."""
    return {layer: attention.heads for layer, attention in _self_attentions(model)}


def self_attention_grids(model: Model, size: Grid) -> dict[LayerId, Grid]:
    """The token grid of each self-attention layer for a latent of (h, w): every downsampling halves, rounding up."""
    unet = unet_of(model)
    grids, grid = [], size
    for block in unet.input_blocks:
        if any(type(module).__name__ == "Downsample" for module in block):
            grid = (-(-grid[0] // 2), -(-grid[1] // 2))
        grids.append(grid)
    # an output block works at the size of the input block whose skip connection it takes
    by_block = {"input": grids, "middle": grids[-1:], "output": grids[::-1]}
    return {layer: by_block[layer.block][layer.number] for layer in self_attention_widths(model)}


def model_id(model: Model) -> ModelId:
    """The architecture that features depend on; weights, LoRAs and patches do not change it."""
    return ModelId.of(type(model.model).__name__, self_attention_widths(model))


def unet_of(model: Model) -> Any:
    """The model's UNet."""
    unet = model.get_model_object("diffusion_model")
    if not hasattr(unet, "input_blocks") or not hasattr(unet, "output_blocks"):
        raise MagicStyleError(
            f"model is a {type(unet).__name__}, not a Stable Diffusion UNet: load an SD1.5, SD2.1 or SDXL checkpoint."
        )
    return unet


def _self_attentions(model: Model) -> Iterator[tuple[LayerId, Any]]:
    for name, number, block in _blocks(unet_of(model)):
        for module in block:
            for index, transformer in enumerate(getattr(module, "transformer_blocks", ())):
                yield LayerId(name, number, index), transformer.attn1


def _blocks(unet: Any) -> Iterator[tuple[str, int, Any]]:
    yield from (("input", number, block) for number, block in enumerate(unet.input_blocks))
    if unet.middle_block is not None:
        yield "middle", 0, unet.middle_block
    yield from (("output", number, block) for number, block in enumerate(unet.output_blocks))

"""Where diffusers computes self-attention: one processor per layer, answered by the pack's own handlers.

Letters: b rows of a batch, n query tokens, m key tokens, h heads, d head width, c = h d channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, NamedTuple

from einops import rearrange
from torch import Tensor, nn

from ...attention_patches.architectures.backends import torch_attention
from ...attention_patches.architectures.base import Architecture, LayerFacts, Parametrization, ResNetFacts
from ...attention_patches.architectures.unet import RESNET
from ...attention_patches.call import Answer, Call, Handlers, ResNetCall, ResNetHandler, RowPlan, TokenLayout
from ...core.attention import Kernel
from ...core.detail import begins_decoder_block
from ...core.features import AttentionFeatures
from ...core.grid import Grid
from ...core.layers import LayerId
from . import quiet_diffusers  # noqa: F401 (before diffusers)

# isort: split
from diffusers import UNet2DConditionModel

HOST_NAME = "BaseModel"  # what ComfyUI calls the same model: features of either serve both
# changes nothing
PLAIN = Handlers(Call.plain)


class ProcessorCall(NamedTuple):
    """What diffusers hands to the attention processor of one layer."""

    layer: LayerId
    attention: Any  # the module
    hidden: Tensor  # b n c
    latent: Grid  # the (h, w) that the UNet was called with


class Place(NamedTuple):
    """Where diffusers keeps one layer."""

    name: str  # of its module
    halvings: int  # of the latent's grid
    module: Any  # diffusers' attention


class DiffusersUnet(Architecture[ProcessorCall]):
    """The UNet of Stable Diffusion in diffusers, its layers under ComfyUI's names."""

    parametrization = Parametrization.DIFFUSION

    @classmethod
    def fits(cls, network: Any) -> bool:
        """Known by its class."""
        return isinstance(network, UNet2DConditionModel)

    @cached_property
    def places(self) -> Mapping[LayerId, Place]:
        """Every attn1, in the order of execution."""
        config, found = self._network.config, {}
        for name, module in sorted(_self_attention(self._network), key=lambda entry: _order(entry[0])):
            layer, halvings = locate(name, config.layers_per_block, len(config.block_out_channels))
            found[layer] = Place(name, halvings, module)
        return found

    @cached_property
    def layers(self) -> Mapping[LayerId, LayerFacts]:
        """The attn1 of every transformer block."""
        modules = ((layer, place.module) for layer, place in self.places.items())
        return {layer: LayerFacts(module.inner_dim, module.heads) for layer, module in modules}

    def grids(self, size: tuple[int, ...]) -> dict[LayerId, Grid]:
        """Every downsampling halves the latent's (h, w), rounding up."""
        return {layer: halved(size, place.halvings) for layer, place in self.places.items()}

    def read(self, raw: ProcessorCall) -> Call:
        """All tokens are the picture's: b n (h d)."""
        module, hidden = raw.attention, raw.hidden
        q, k, v = module.to_q(hidden), module.to_k(hidden), module.to_v(hidden)
        grid = halved(raw.latent, self.places[raw.layer].halvings)
        live, kernel = AttentionFeatures(q, k, v), torch_kernel(module.heads, q)
        return Call(raw.layer, TokenLayout(grid), RowPlan(latent=raw.latent), live, kernel)

    def write(self, raw: ProcessorCall, picture: Tensor, text: Tensor | None = None) -> Tensor:
        """What the module makes of an answer: b n c -> b n c."""
        return raw.attention.to_out[1](raw.attention.to_out[0](picture))

    @property
    def resnet(self) -> ResNetFacts | None:
        """As in ComfyUI, where output block 4 begins with it."""
        module = self.resnet_module
        return None if module is None else ResNetFacts(RESNET, module.in_channels)

    @property
    def resnet_module(self) -> Any:
        """up_blocks[1].resnets[1] where two layers make a block, or None."""
        if RESNET not in self.places:
            return None
        return self._decoder_resnet(RESNET)

    @cached_property
    def added_modules(self) -> Mapping[LayerId, Any]:
        """For each layer before which a decoder's ResNet stands, the convolution that gives what that adds."""
        return {layer: self._decoder_resnet(layer).conv2 for layer in self.places if begins_decoder_block(layer)}

    def _decoder_resnet(self, layer: LayerId) -> Any:
        block, place = divmod(layer.number, self._network.config.layers_per_block + 1)
        return self._network.up_blocks[block].resnets[place]


class Hooks:
    """The self-attention layers of one UNet, and the handlers that answer for them now."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.architecture = DiffusersUnet(HOST_NAME, unet)
        self.handlers = PLAIN
        self.latent_grid = Grid((0, 0))
        processors = dict(unet.attn_processors)
        for layer, place in self.architecture.places.items():
            processors[f"{place.name}.processor"] = SelfAttention(layer, self)
        unet.set_attn_processor(processors)
        if (module := self.architecture.resnet_module) is not None:
            module.register_forward_pre_hook(self._see_resnet)
        for layer, module in self.architecture.added_modules.items():
            module.register_forward_hook(partial(self._see_added, layer))

    @contextmanager
    def answered_by(self, handlers: Handlers | None) -> Iterator[None]:
        """Let the handlers answer the calls inside; None changes nothing."""
        previous, self.handlers = self.handlers, handlers or PLAIN
        try:
            yield
        finally:
            self.handlers = previous

    def answer(self, raw: ProcessorCall) -> Tensor:
        """One self-attention: b n c."""
        call = self.architecture.read(raw)
        answer = self.handlers.attention(call)
        picture = answer.picture if isinstance(answer, Answer) else answer
        return self.architecture.write(raw, call.plain() if picture is None else picture)

    def _see_resnet(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """A forward_pre_hook: b c h w and what follows it."""
        if self.handlers.resnet is None:
            return None
        x, *others = inputs
        return self._shown(RESNET, x, self.handlers.resnet), *others

    def _see_added(self, layer: LayerId, module: nn.Module, inputs: tuple[Tensor, ...], added: Tensor) -> Tensor | None:
        """A forward_hook of a ResNet's last convolution: b c h w."""
        return None if self.handlers.added is None else self._shown(layer, added, self.handlers.added)

    def _shown(self, layer: LayerId, x: Tensor, handler: ResNetHandler) -> Tensor:
        """What a handler makes of a map b c h w."""
        plan = RowPlan(latent=self.latent_grid)
        call = ResNetCall(layer, Grid(x.shape[2:]), plan, rearrange(x, "b c h w -> b (h w) c"))
        return rearrange(handler(call), "b (h w) c -> b c h w", h=x.shape[2])


class SelfAttention:
    """A diffusers attention processor for the attn1 of one transformer block."""

    def __init__(self, layer: LayerId, hooks: Hooks) -> None:
        self._layer = layer
        self._hooks = hooks

    def __call__(self, attn: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Hidden states b n c -> b n c."""
        return self._hooks.answer(ProcessorCall(self._layer, attn, hidden_states, self._hooks.latent_grid))


def torch_kernel(heads: int, q: Tensor) -> Kernel:
    """PyTorch's own attention on b n (h d), for tensors on the device of `q`."""

    def call(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q b n (h d), k and v b m (h d), a mask b 1 m -> b n (h d)."""
        return torch_attention(q, k, v, heads, mask)

    # on an accelerator a mask would trade the flash kernel for a slower one
    return Kernel(call, heads, takes_key_mask=q.device.type == "cpu")


def halved(grid: tuple[int, ...], times: int) -> Grid:
    """The grid after stride-2 convolutions, which round up."""
    for _ in range(times):
        grid = tuple((side + 1) // 2 for side in grid)
    return Grid(grid)


def locate(name: str, layers_per_block: int, levels: int) -> tuple[LayerId, int]:
    """diffusers' module name -> the layer under ComfyUI's block numbers, and how often its grid was halved.

    ComfyUI counts residual blocks and resamplings in one row: level L of the way down starts at 1 + L (layers + 1),
    step L of the way up at L (layers + 1).
    """
    parts = name.split(".")
    index = int(parts[parts.index("transformer_blocks") + 1])
    place = int(parts[parts.index("attentions") + 1])
    if parts[0] == "mid_block":
        return LayerId("middle", 0, index), levels - 1
    block = int(parts[1])
    if parts[0] == "down_blocks":
        return LayerId("input", 1 + block * (layers_per_block + 1) + place, index), block
    return LayerId("output", block * (layers_per_block + 1) + place, index), levels - 1 - block


def _self_attention(unet: UNet2DConditionModel) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in unet.named_modules() if name.endswith(".attn1"))


def _order(name: str) -> tuple[int, list[int]]:
    """Down, middle, up; then by number."""
    side = ("down_blocks", "mid_block", "up_blocks").index(name.split(".")[0])
    return side, [int(part) for part in name.split(".") if part.isdigit()]

"""The kinds of models whose attention we read, each in a file of its own: a new kind is one file and one row here."""

from __future__ import annotations

from typing import Any

from ...core.errors import MagicStyleError
from ..protocols import Model
from .base import Architecture, HostArchitecture
from .cosmos import Anima, Cosmos
from .flux import Chroma, Flux
from .hidream import HiDream
from .hunyuan import HunyuanImage
from .ideogram import Ideogram4
from .joint import AuraFlow, QwenImage, StableDiffusion3
from .krea import Krea2
from .lumina import NextDiT
from .omnigen import Boogu, OmniGen2
from .transformer import Transformer
from .unet import Unet
from .wan import Wan

__all__ = ["BLOCKS", "KINDS", "Architecture", "find", "kind_of"]

KINDS: tuple[type[HostArchitecture], ...] = (
    *(Unet, Flux, Chroma, StableDiffusion3, QwenImage, AuraFlow, Wan, NextDiT),
    *(Krea2, Cosmos, Anima, HunyuanImage, HiDream, Ideogram4, OmniGen2, Boogu),
)
# how the blocks of all kinds are called: those of UNets, and the stacks of transformers
BLOCKS = frozenset({"input", "middle", "output"}).union(
    stack.name for kind in KINDS if issubclass(kind, Transformer) for stack in kind.stacks
)
SUPPORTED = (
    "SD1.5, SD2.1, SDXL, Flux, Chroma, SD3, Qwen-Image, Z-Image, Lumina 2, AuraFlow, Wan, Krea 2, Anima, "
    "Cosmos-Predict2, Hunyuan-Image 2.1, LongCat-Image, HiDream-I1, Ideogram 4, OmniGen2 or Boogu"
)


def kind_of(network: Any) -> type[HostArchitecture] | None:
    """The kind of a network, or None for one that is not known."""
    return next((kind for kind in KINDS if kind.fits(network)), None)


def find(model: Model) -> HostArchitecture:
    """The architecture of the host's model, refused in one sentence where it is not known."""
    network = model.get_model_object("diffusion_model")
    kind = kind_of(network)
    if kind is None:
        raise MagicStyleError(
            f"model is a {type(network).__name__}, whose attention is not known here: load a checkpoint of {SUPPORTED}."
        )
    return kind(type(model.model).__name__, network)

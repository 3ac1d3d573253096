"""The demo models and their two pictures, which lie beside the code, and the formats of the models' files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from ..core.errors import MagicStyleError
from .checkpoint import read_tensors

ASSETS = Path(__file__).resolve().parents[1] / "assets"
DEMO_MODEL = ASSETS / "magicstyle_demo.safetensors"
DEMO_TRANSFORMER = ASSETS / "magicstyle_demo_transformer.safetensors"
DEMO_CONTENT, DEMO_STYLE = ASSETS / "demo_content.jpg", ASSETS / "demo_style.jpg"
DEMO_CLIP = ASSETS / "demo_clip.mp4"
DEMO_FORMAT, TRANSFORMER_FORMAT = "magicstyle-demo-model-1", "magicstyle-demo-transformer-1"
PROMPT = "cond_stage_model.empty_prompt"


@dataclass(frozen=True)
class DemoHeader:
    """What the demo model's file says about itself, in the words of the original configuration files."""

    unet_config: dict[str, Any]
    ddconfig: dict[str, Any]
    embed_dim: int
    latent_channels: int
    downscale_ratio: int
    scale_factor: float
    latent_rgb_factors: list[list[float]]
    latent_rgb_factors_bias: list[float]


@dataclass(frozen=True)
class TransformerHeader:
    """What the demo transformer's file says about itself; its latents are those of the demo model's autoencoder."""

    transformer_config: dict[str, Any]
    schedule: dict[str, Any]


Header = TypeVar("Header", DemoHeader, TransformerHeader)


@dataclass(frozen=True)
class DemoFile(Generic[Header]):
    """A demo model: its configuration and weights, and the one prompt that it knows."""

    header: Header
    tensors: Mapping[str, Tensor]

    @property
    def prompt(self) -> Tensor:
        """The text features of the empty prompt: 1 m c."""
        return self.tensors[PROMPT]


def read_demo_file(path: Path = DEMO_MODEL) -> DemoFile[DemoHeader]:
    """The demo model's file, its weights in single precision."""
    return _demo_file(path, DEMO_FORMAT, DemoHeader)


def read_demo_transformer(path: Path = DEMO_TRANSFORMER) -> DemoFile[TransformerHeader]:
    """The demo transformer's file, its weights in single precision."""
    return _demo_file(path, TRANSFORMER_FORMAT, TransformerHeader)


def _demo_file(path: Path, known: str, kind: type[Header]) -> DemoFile[Header]:
    facts, tensors = read_tensors(path)
    header = _header(path, facts, known, kind)
    return DemoFile(header, {name: tensor.float() for name, tensor in tensors.items()})


def _header(path: Path, facts: Mapping[str, str], known: str, kind: type[Header]) -> Header:
    try:
        if json.loads(facts["format"]) != known:
            raise MagicStyleError(
                f"{path.name} has the format {facts['format']}, not {known}: "
                "take the file that came with this version of the pack."
            )
        return kind(**{field.name: json.loads(facts[field.name]) for field in fields(kind)})
    except (KeyError, json.JSONDecodeError) as error:
        raise MagicStyleError(
            f"{path.name} is not the demo model (its header has no readable entry {error}): "
            "take the file that came with the pack."
        ) from None

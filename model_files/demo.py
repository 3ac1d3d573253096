"""The demo model and its two pictures, which lie beside the code, and the format of the model's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import MagicStyleError
from .checkpoint import read_tensors

ASSETS = Path(__file__).resolve().parents[1] / "assets"
DEMO_MODEL = ASSETS / "magicstyle_demo.safetensors"
DEMO_CONTENT, DEMO_STYLE = ASSETS / "demo_content.png", ASSETS / "demo_style.png"
DEMO_FORMAT = "magicstyle-demo-model-1"
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
class DemoFile:
    """The demo model: its configuration and weights, and the one prompt that it knows."""

    header: DemoHeader
    tensors: Mapping[str, Tensor]

    @property
    def prompt(self) -> Tensor:
        """The text features of the empty prompt: 1 m c."""
        return self.tensors[PROMPT]


def read_demo_file(path: Path = DEMO_MODEL) -> DemoFile:
    """The demo model's file, its weights in single precision."""
    facts, tensors = read_tensors(path)
    return DemoFile(_demo_header(path, facts), {name: tensor.float() for name, tensor in tensors.items()})


def _demo_header(path: Path, facts: Mapping[str, str]) -> DemoHeader:
    try:
        if json.loads(facts["format"]) != DEMO_FORMAT:
            raise MagicStyleError(
                f"{path.name} has the format {facts['format']}, not {DEMO_FORMAT}: "
                "take the file that came with this version of the pack."
            )
        return DemoHeader(**{field.name: json.loads(facts[field.name]) for field in fields(DemoHeader)})
    except (KeyError, json.JSONDecodeError) as error:
        raise MagicStyleError(
            f"{path.name} is not the demo model (its header has no readable entry {error}): "
            "take the file that came with the pack."
        ) from None

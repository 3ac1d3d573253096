"""What kind of model file was given, read off its header before anything large is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from ...core.errors import MagicStyleError
from ...core.layers import LayerId
from ...model_files.checkpoint import AUTOENCODER, TEXT_ENCODER, UNET, check_sd15
from ...model_files.demo import DEMO_FORMAT, DEMO_MODEL, TRANSFORMER_FORMAT
from ..pictures.reading import missing_hint
from ..pictures.sizes import Frame, LongerSide

PICKLES = {".ckpt", ".pt", ".pth", ".bin", ".pkl"}
SD15_SIZE = 512
DEMO_SIDE = 512  # measured: nearer to person and style than 256, which the demo model was trained at
SD15_DEPTHS = {
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
}
SAMPLES, BLOCK = 256, 65536  # of a model file, for its identity
POINTER = b"version https://git-lfs"
CROSS = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
FIRST = f"{UNET}input_blocks.0.0.weight"
Shapes = Mapping[str, tuple[int, ...]]


class ModelFile(NamedTuple):
    """A model file that can be loaded."""

    path: Path | None  # None: the demo model
    identity: str  # what tells it from every other model file
    frame: Frame | LongerSide  # the sizes that it paints at
    layers: tuple[LayerId, ...]

    @property
    def title(self) -> str:
        """The model in a sentence."""
        return "the demo model" if self.path is None else str(self.path)


class Kind(NamedTuple):
    """A kind of file that is no SD1.5 checkpoint, how it is known, and what to do about it."""

    title: str
    fits: Callable[[Shapes], bool]
    advice: str


def _any(*parts: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(part in name for name in shapes for part in parts)


NODES = "the command line paints with SD1.5, the nodes in ComfyUI with this kind too"
COMPLETE = "choose a single file that holds SD1.5's UNet, VAE and text encoder"
# tried in this order
KINDS = (
    Kind("a LoRA", _any("lora_", ".lora.", "_lora"), "it belongs on top of a checkpoint; give an SD1.5 checkpoint"),
    Kind("an SDXL checkpoint", _any("conditioner.embedders.", f"{UNET}label_emb."), NODES),
    Kind(
        "a flow-matching model",
        _any("double_blocks.", "joint_blocks.", "single_transformer_blocks.", "double_layers.", "cap_embedder."),
        "the command line paints with SD1.5; the nodes in ComfyUI paint with Flux, Chroma, SD3, AuraFlow, Lumina and "
        "others (docs/models.md)",
    ),
    Kind("a ControlNet", _any("control_model.", "controlnet_"), "give an SD1.5 checkpoint"),
    Kind("an SD2 checkpoint", lambda shapes: shapes.get(CROSS, (0, 0))[-1] == 1024, NODES),
    Kind("an inpainting checkpoint", lambda shapes: shapes.get(FIRST, (0, 4))[1:2] == (9,), NODES),
    Kind(
        "a UNet of diffusers alone",
        lambda shapes: "conv_in.weight" in shapes and "down_blocks.0.resnets.0.conv1.weight" in shapes,
        COMPLETE,
    ),
    Kind("a UNet alone", lambda shapes: FIRST in shapes and not _any(AUTOENCODER)(shapes), COMPLETE),
    Kind("without a text encoder", lambda shapes: FIRST in shapes and not _any(TEXT_ENCODER)(shapes), COMPLETE),
)


def model_file(path: Path | None) -> ModelFile:
    """The demo model, or an SD1.5 checkpoint of which everything but the weights' values is checked."""
    if path is None:
        facts, _ = _header(DEMO_MODEL)
        layers = layers_of(json.loads(facts["unet_config"]))
        return ModelFile(None, _identity(DEMO_MODEL), LongerSide(DEMO_SIDE), layers)
    _check_name(path)
    facts, shapes = _header(path)
    if facts.get("format") == json.dumps(DEMO_FORMAT):
        raise MagicStyleError(f"{path} is the demo model: leave --checkpoint out to paint with it.")
    if facts.get("format") == json.dumps(TRANSFORMER_FORMAT):
        raise MagicStyleError(f"{path} is the demo transformer, which paints in ComfyUI alone: leave --checkpoint out.")
    for kind in KINDS:
        if kind.fits(shapes):
            raise MagicStyleError(f"{path} is {kind.title}, not an SD1.5 checkpoint: {kind.advice}.")
    check_sd15(path, shapes)
    return ModelFile(path, _identity(path), Frame((SD15_SIZE, SD15_SIZE), fixed=False), layers_of(SD15_DEPTHS))


def layers_of(config: Mapping[str, Any]) -> tuple[LayerId, ...]:
    """The self-attention layers of a UNet by its original configuration, in the order of execution.

    Residual blocks and resamplings are counted in one row, upwards and downwards.
    """
    down, up = config["transformer_depth"], config["transformer_depth_output"][::-1]
    levels = config["num_res_blocks"]
    numbers = [1 + number + level for level in range(len(levels)) for number in _row(levels, level)]
    middle = [LayerId("middle", 0, i) for i in range(config.get("transformer_depth_middle", 1))]
    ins = [LayerId("input", number, i) for number, depth in zip(numbers, down, strict=True) for i in range(depth)]
    return (*ins, *middle, *(LayerId("output", number, i) for number, depth in enumerate(up) for i in range(depth)))


def _row(levels: Sequence[int], level: int) -> range:
    """The numbers of a level's residual blocks among all residual blocks of the way down."""
    return range(sum(levels[:level]), sum(levels[: level + 1]))


def _check_name(path: Path) -> None:
    """Refuse by its name what no header tells."""
    if path.is_dir():
        raise MagicStyleError(f"--checkpoint {path} is a folder: {COMPLETE} (.safetensors).")
    if not path.exists():
        raise MagicStyleError(f"--checkpoint {path} does not exist: {missing_hint(path)}.")
    if path.suffix.lower() in PICKLES:
        raise MagicStyleError(
            f"--checkpoint {path} is a pickle, which can run any program when it is opened, and is not read: "
            "fetch the same model as .safetensors."
        )


def _header(path: Path) -> tuple[dict[str, str], Shapes]:
    """The texts of a .safetensors file, and the shapes of its tensors."""
    try:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise MagicStyleError(
                    f"{path} is a Git LFS pointer, not the model: run git lfs pull, or download the file itself."
                )
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, shapes
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MagicStyleError(f"{path} is not a readable .safetensors file ({reason}): fetch the file again.") from None


def _identity(path: Path) -> str:
    """A digest of a model file's size and of blocks from all over it: two models of one architecture differ there."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for sample in range(SAMPLES):
            file.seek(max(size - BLOCK, 0) * sample // (SAMPLES - 1))
            found.update(file.read(BLOCK))
    return f"{path.name} {found.hexdigest()[:16]}"

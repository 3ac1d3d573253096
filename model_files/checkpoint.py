"""Single-file checkpoints of Stable Diffusion 1.5, and what all model files here have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..core.errors import MagicStyleError

UNET, AUTOENCODER, TEXT_ENCODER = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
# tensors by which a single-file SD1.5 checkpoint is known, and their shapes
SD15_SIGNATURE = {
    f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3),
    f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    f"{UNET}output_blocks.11.1.transformer_blocks.0.attn1.to_q.weight": (320, 320),
    f"{AUTOENCODER}decoder.conv_in.weight": (512, 4, 3, 3),
    f"{TEXT_ENCODER}text_model.embeddings.token_embedding.weight": (49408, 768),
}
PARTS = (UNET, AUTOENCODER, TEXT_ENCODER)


def read_sd15_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of UNet, autoencoder and text encoder of a single-file SD1.5 checkpoint, as they are stored."""
    _, tensors = read_tensors(path, PARTS)
    check_sd15(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return {_full_name(name): tensor for name, tensor in tensors.items()}


def check_sd15(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a file whose tensors have not the names and shapes of a Stable Diffusion 1.5 checkpoint."""
    known = {_full_name(name): shape for name, shape in shapes.items()}
    for name, shape in SD15_SIGNATURE.items():
        if known.get(name) != shape:
            found = f"has the shape {known[name]}" if name in known else "is missing"
            raise MagicStyleError(
                f"{path.name} is not a Stable Diffusion 1.5 checkpoint ({name} {found}): "
                "choose a single .safetensors file that holds SD1.5's UNet, VAE and text encoder."
            )


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def read_tensors(path: Path, prefixes: tuple[str, ...] = ("",)) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a .safetensors file, only those whose names begin with one of `prefixes`."""
    if not path.is_file():
        raise MagicStyleError(f"{path} does not exist: check the name, or fetch the file again.")
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118 (not a mapping)
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise MagicStyleError(
            f"{path.name} is not a readable .safetensors file ({error}): fetch the file again."
        ) from None


def _full_name(name: str) -> str:
    """Some files leave out one level of the text encoder's names."""
    if name.startswith(TEXT_ENCODER) and not name.startswith(f"{TEXT_ENCODER}text_model."):
        return name.replace(TEXT_ENCODER, f"{TEXT_ENCODER}text_model.", 1)
    return name

"""A checkpoint of tensors in a pickle as .safetensors, without running what the pickle says.

    python -m benchmarks.published.convert sd-v1-4.ckpt sd-v1-4.safetensors

Only tensors and plain values are read (torch's weights_only); of the training program's own classes, which sd-v1-4.ckpt
names without need, empty stand-ins are made. The hash of the source goes into the new file's header.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from magicstyle.core.errors import MagicStyleError
from safetensors.torch import save_file
from torch import Tensor

from .inputs import SD14_SHA256, SOURCE, file_hash

TRAINERS = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)


def read_pickle(path: Path) -> Mapping[str, Any]:
    """The values of a checkpoint."""
    stand_ins: list[Any] = [(type(name.rpartition(".")[2], (), {}), name) for name in TRAINERS]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MagicStyleError(f"{path} does not exist: check the name.") from None
    except Exception as error:  # the unpickler raises whatever it meets
        reason = " ".join(str(error).split())[:200]
        raise MagicStyleError(
            f"{path.name} holds more than tensors, or is damaged ({reason}): fetch it again."
        ) from None


def convert(source: Path, target: Path) -> str:
    """Write the tensors of `source` to `target`; returns what was found."""
    state = read_pickle(source)
    state = state.get("state_dict", state)
    tensors = {name: value.contiguous().clone() for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise MagicStyleError(f"{source.name} holds no tensors: choose a checkpoint.")
    digest = file_hash(source)
    save_file(tensors, target, {SOURCE: digest})
    known = "sd-v1-4.ckpt as published" if digest == SD14_SHA256 else "not the sd-v1-4.ckpt that was published"
    return f"{target}: {len(tensors)} tensors; the source is {known} (SHA-256 {digest[:16]}..)."


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    try:
        print(convert(given.source, given.target))
    except MagicStyleError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

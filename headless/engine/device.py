"""Where a model computes."""

from __future__ import annotations

import torch

from ...core.errors import MagicStyleError, one_line


def chosen_device(name: str | None) -> str:
    """A device that computes; CUDA where nothing is said and there is one."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        float(torch.ones(1, device=name).sum())  # meta makes tensors, but holds no numbers
    except (RuntimeError, AssertionError, ImportError, NotImplementedError, ValueError) as error:
        reason = one_line(error, 100)
        raise MagicStyleError(f"--device '{name}' cannot be used ({reason}): try cpu.") from None
    return name

"""What other nodes bring to a miniature transformer: residuals of a ControlNet, a LoRA, patches on blocks."""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import torch
from magicstyle.attention_patches.architectures import find
from magicstyle.tests.host.families import family_model
from torch import Tensor


class Residuals(comfy.controlnet.ControlBase):
    """What a ControlNet gives a transformer: something to add to the picture's tokens behind its blocks."""

    def __init__(self, given: dict[str, list[Any]]) -> None:
        super().__init__()
        self.given = given

    def get_control(self, *_: Any) -> dict[str, list[Any]]:
        """Of one step."""
        return {side: [None if part is None else part.clone() for part in parts] for side, parts in self.given.items()}

    def copy(self) -> Residuals:
        """For one run."""
        return Residuals(self.given)


def residuals(name: str, tokens: int, side: str = "input", scale: float = 1.0) -> dict[str, list[Any]]:
    """Random ones behind the second block of a side."""
    width = next(iter(find(family_model(name)).layers.values())).width
    added = scale * torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(3))
    return {"input": [], "output": [], side: [None, added]}


def lora_weights(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A LoRA file's tensors for the linear layers of a family's blocks, and what it adds to each weight."""
    generator, file, added = torch.Generator().manual_seed(7), {}, {}
    stacks = tuple(stack.attribute for stack in find(family_model(name)).stacks)
    for key, weight in family_model(name).model.state_dict().items():
        in_a_block = key.removeprefix("diffusion_model.").startswith(stacks)
        if weight.ndim == 2 and key.endswith(".weight") and in_a_block:
            up = 0.3 * torch.randn(weight.shape[0], 2, generator=generator)
            down = torch.randn(2, weight.shape[1], generator=generator) / weight.shape[1] ** 0.5
            layer = key.removesuffix(".weight")
            file |= {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}
            added[key] = up @ down
    return file, added


def around_block(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """An entry of patches_replace["dit"]: the picture's tokens a little stronger behind a block."""
    out = extra["original_block"](args)
    return {**out, "img": 1.2 * out["img"]}


def behind_block(args: dict[str, Any]) -> dict[str, Any]:
    """A double_block patch: the picture's tokens a little stronger behind one block."""
    return {**args, "img": 1.2 * args["img"]} if args["block_index"] == 1 else args

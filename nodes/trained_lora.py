"""Hook of a Trained LoRA: what the host's Train LoRA hands out, for a part of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.hooks
from comfy_api.latest import io
from torch import Tensor

from ..core.errors import MagicStyleError
from .schema import search_aliases
from .sockets import CATEGORY

TrainedLora = io.Custom("LORA_MODEL")
STRONGEST = 20.0  # as in the host's Create Hook LoRA


class TrainedLoraHook(io.ComfyNode):
    """The host's Create Hook LoRA, for weights that were trained in the same run instead of a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleTrainedLoraHook",
            display_name="Hook of a Trained LoRA",
            category=CATEGORY,
            **search_aliases("MagicStyleTrainedLoraHook"),
            description="Lets a LoRA from Train LoRA act in one prompt alone, and so in one region of the picture: as "
            "Create Hook LoRA does, without saving a file first.",
            inputs=[
                TrainedLora.Input("lora", tooltip="From Train LoRA."),
                io.Float.Input(
                    "strength_model",
                    default=1.0,
                    min=-STRONGEST,
                    max=STRONGEST,
                    step=0.01,
                    tooltip="How strongly the LoRA paints; 0 is as without it.",
                ),
                io.Hooks.Input("prev_hooks", optional=True, tooltip="Other hooks that act in the same prompt."),
            ],
            outputs=[
                io.Hooks.Output(
                    display_name="hooks",
                    tooltip="Connect it to hooks of Cond Set Props, whose mask says where the LoRA acts.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, lora: Mapping[str, Tensor], strength_model: float, prev_hooks: comfy.hooks.HookGroup | None = None
    ) -> io.NodeOutput:
        """A hook on the model's weights, beside those that there are."""
        hooks = comfy.hooks.HookGroup() if prev_hooks is None else prev_hooks.clone()
        if strength_model == 0.0:
            return io.NodeOutput(hooks)
        return io.NodeOutput(
            hooks.clone_and_combine(comfy.hooks.create_hook_lora(_detached(lora), strength_model, 0.0))
        )


def _detached(lora: Any) -> dict[str, Tensor]:
    """A LoRA's tensors by name, of any shapes, without what training has left on them."""
    if not isinstance(lora, Mapping) or not lora:
        raise MagicStyleError("lora holds no weights: connect lora of Train LoRA.")
    return {name: tensor.detach() for name, tensor in lora.items()}

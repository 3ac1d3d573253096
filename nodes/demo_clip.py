"""The demo model's stand-in for a text encoder, so that it goes wherever a checkpoint goes."""

from __future__ import annotations

from typing import Any

import comfy.sd
import torch

from ..core.errors import MagicStyleError
from .notices import warn

KEY = "demo"  # of what passes for tokens


class DemoClip(comfy.sd.CLIP):
    """A CLIP that makes the one prompt that a demo model knows of every text, and says so where there is a text."""

    def __init__(self, conditioning: list[Any]) -> None:
        super().__init__(no_init=True)
        self.conditioning = conditioning
        self.cond_stage_model = torch.nn.Module()  # a LoRA finds nothing of its own in it
        self.layer_idx: int | None = None

    def clone(self, *_: Any, **__: Any) -> DemoClip:
        """Another stand-in of the same prompt."""
        return DemoClip(self.conditioning)

    def add_patches(self, *_: Any, **__: Any) -> list[str]:
        """The weights that a LoRA has changed: there are none to change."""
        return []

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, str]:
        """The text itself; there are no tokens among which to look for words."""
        if return_word_ids:
            raise MagicStyleError(
                "the demo model knows no words, so that none can be found in a picture: load a checkpoint for this."
            )
        if text.strip():
            warn("Load Demo Model", [f"the demo model knows the empty prompt alone: '{text.strip()}' changes nothing."])
        return {KEY: text}

    def encode_from_tokens_scheduled(self, *_: Any, add_dict: dict[str, Any] | None = None, **__: Any) -> list[Any]:
        """The one prompt, as CONDITIONING, with what the encoding node adds."""
        return [[features, {**facts, **(add_dict or {})}] for features, facts in self.conditioning]

    def encode_from_tokens(self, *_: Any, return_pooled: Any = False, return_dict: bool = False, **__: Any) -> Any:
        """The features of the one prompt, 1 m c, in the host's older form; nothing is pooled."""
        ((features, facts),) = self.conditioning
        if return_dict:
            return {"cond": features, "pooled_output": None, **facts}
        return (features, None) if return_pooled else features

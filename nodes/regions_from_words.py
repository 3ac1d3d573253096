"""Regions from Words: masks of what the model sees where a prompt says so."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .attention_look import regions_from_words
from .schema import search_aliases
from .sockets import CATEGORY


class RegionsFromWords(io.ComfyNode):
    """Reads masks off the model's attention."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleRegionsFromWords",
            display_name="Regions from Words",
            category=CATEGORY,
            **search_aliases("MagicStyleRegionsFromWords"),
            description="Masks of what words name in a picture, read off the attention of the checkpoint itself: each "
            "place goes to the phrase that the model sees there most. For the region inputs of the Feature Bank, or "
            "for anything that takes a MASK.",
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint whose attention is read. It is cloned, never changed."),
                io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint."),
                io.Latent.Input("latent", tooltip="The picture, encoded with VAEEncode."),
                io.String.Input(
                    "words",
                    default="hair, face, background",
                    tooltip="What to look for, separated by commas: one mask for each. Naming also what surrounds it "
                    "makes the borders clearer.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="A description of the picture in which the words stand. Left empty, the words themselves "
                    "are the prompt.",
                ),
                io.Float.Input(
                    "background",
                    default=0.6,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Higher leaves more of the picture to no word at all, 0 leaves nothing. 0.6 suits several "
                    "words, 0.9 a single one.",
                ),
                io.Float.Input(
                    "noise_level",
                    default=0.4,
                    min=0.02,
                    max=0.98,
                    step=0.01,
                    tooltip="How much noise is laid on the picture before looking. More makes coarser, calmer regions.",
                ),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, tooltip="Which noise is laid on the picture."),
            ],
            outputs=[
                io.Mask.Output(display_name="masks", tooltip="One mask for each phrase, in the order of the words.")
            ],
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        """Look once, and share the picture out."""
        return io.NodeOutput(regions_from_words(**inputs))

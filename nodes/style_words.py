"""Words for Styles: which words of a prompt say where each style acts while a picture is painted."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..core.ranges import check_range
from ..core.word_regions import GROUPED_AFTER, StyleWords, split_phrases
from .attention_look import PromptTokens
from .schema import search_aliases
from .sockets import CATEGORY, Controls
from .style_controls import NONE, PatcherControls


class StyleWordsNode(io.ComfyNode):
    """Encodes a prompt and remembers where the styles' words stand in it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleStyleWords",
            display_name="Words for Styles",
            category=CATEGORY,
            **search_aliases("MagicStyleStyleWords"),
            description="While a picture is painted, each style acts where the model sees its words, found anew in "
            "every step. For method rsa of FFA Model Patcher.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the checkpoint."),
                io.String.Input(
                    "prompt",
                    default="a portrait of a woman with long hair",
                    multiline=True,
                    tooltip="What is painted; the words stand in it.",
                ),
                io.String.Input(
                    "words",
                    default="woman, hair",
                    tooltip="One for each style of the bank, in their order, separated by commas, just as they stand "
                    "in the prompt.",
                ),
                io.Float.Input(
                    "background",
                    default=StyleWords.background,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Higher leaves more of the picture to no style at all, 0 leaves nothing. 0.6 suits several "
                    "styles, 0.9 a single one.",
                ),
                io.Float.Input(
                    "after",
                    default=GROUPED_AFTER,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="After which share of the steps each style keeps to its words; before, all act everywhere, "
                    "so that there is something to see them in. 1: never.",
                ),
                Controls.Input("controls", optional=True, tooltip="Further knobs, from Style Controls."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning", tooltip="The prompt. Connect it to positive of the sampler."
                ),
                Controls.Output(display_name="controls", tooltip="Connect it to controls of FFA Model Patcher."),
            ],
        )

    @classmethod
    def execute(
        cls, clip: Any, prompt: str, words: str, background: float, after: float, controls: PatcherControls = NONE
    ) -> io.NodeOutput:
        """Encode, and find the words."""
        check_range("background", background, 0.0, 2.0)
        check_range("after", after, 0.0, 1.0)
        phrases = split_phrases(words)
        tokens = PromptTokens(clip, prompt, phrases)
        spans = tuple(tuple(span) for span in tokens.spans)
        known = tokens.conditioning[0][0][:1]
        found = StyleWords(spans, tuple(tokens.others), known, background, after)
        return io.NodeOutput(tokens.conditioning, controls._replace(words=found))

"""Style Guidance: a guider that moves each prediction along or against what a second model has of the style."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..attention_patches.comfy import StyleGuider
from ..core.guidance import GUIDANCES, MAX_SCALE, StyleGuidance
from .schema import check_choices, folded, search_aliases
from .sockets import CATEGORY


def _percents() -> list[Any]:
    names = {
        "start_percent": "From which part of the noise schedule on it guides: 0 is the start.",
        "end_percent": "Up to which part of the noise schedule it guides: 1 is the end.",
    }
    inputs = [
        io.Float.Input(name, default=getattr(StyleGuidance, name), min=0.0, max=1.0, step=0.001, tooltip=tooltip)
        for name, tooltip in names.items()
    ]
    return folded(inputs, *names)


class StyleGuidanceNode(io.ComfyNode):
    """The GUIDER of two models."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        lines = [f"{name}: {meaning}" for name, meaning in GUIDANCES.items()]
        return io.Schema(
            node_id="MagicStyleGuidance",
            display_name="Style Guidance (MagicStyle)",
            category=CATEGORY,
            **search_aliases("MagicStyleGuidance"),
            description="A guider for SamplerCustomAdvanced with two models. nvqg keeps the things of the style "
            "picture out of the result; spg strengthens the style beside the prompt. Each step takes one more pass.",
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with."),
                io.Model.Input(
                    "guiding_model",
                    tooltip="The model of the additional pass: the same checkpoint and LoRAs, behind an FFA Model "
                    "Patcher of its own.",
                ),
                io.Conditioning.Input("positive", tooltip="What shall be seen."),
                io.Combo.Input(
                    "guidance", options=list(GUIDANCES), default=StyleGuidance.kind, tooltip="\n".join(lines)
                ),
                io.Float.Input(
                    "style_scale",
                    default=StyleGuidance.scale,
                    min=0.0,
                    max=MAX_SCALE,
                    step=0.01,
                    tooltip="How far each prediction moves: 0 is CFGGuider with model alone.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Classifier-free guidance with model, as on CFGGuider; 1 takes no pass for it.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What shall not be seen; the additional pass reads it. Open, the additional pass reads "
                    "positive, for models that know no negative prompt; then cfg has to be 1.",
                ),
                *_percents(),
            ],
            outputs=[io.Guider.Output(display_name="guider", tooltip="Connect it to SamplerCustomAdvanced.")],
        )

    @classmethod
    def validate_inputs(cls, guidance: str | None = None) -> bool | str:
        """Name a choice that is gone."""
        return check_choices(guidance=(guidance, GUIDANCES))

    @classmethod
    def execute(
        cls,
        model: Any,
        guiding_model: Any,
        positive: Any,
        guidance: str,
        style_scale: float,
        cfg: float,
        start_percent: float = StyleGuidance.start_percent,
        end_percent: float = StyleGuidance.end_percent,
        negative: Any = None,
    ) -> io.NodeOutput:
        """The guider, with its prompts."""
        guider = StyleGuider(model, guiding_model, StyleGuidance(guidance, style_scale, start_percent, end_percent))
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return io.NodeOutput(guider)

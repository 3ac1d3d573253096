"""Preset: how many steps both inversions take, by what the picture may cost."""

from __future__ import annotations

from comfy_api.latest import io

from ..core.presets import PRESETS
from .schema import check_choices, search_aliases
from .sockets import CATEGORY

USUAL = "balanced"


def preset_tooltip() -> str:
    """One line per preset: its steps, its cost and what it is good for."""
    return "\n".join(
        f"{name}: {preset.steps} steps, {preset.calls} model calls in all, {preset.summary}"
        for name, preset in PRESETS.items()
    )


class PresetNode(io.ComfyNode):
    """The steps of a recipe, to be connected to both inversions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStylePreset",
            display_name="Preset",
            category=CATEGORY,
            **search_aliases("MagicStylePreset"),
            description="The number of steps by what the picture may cost. Meant for inversions of method midpoint, "
            "sampled with Midpoint Sampler.",
            inputs=[
                io.Combo.Input("preset", options=list(PRESETS), default=USUAL, tooltip=preset_tooltip()),
            ],
            outputs=[
                io.Int.Output(display_name="steps", tooltip="Connect it to steps of both inversions."),
            ],
        )

    @classmethod
    def validate_inputs(cls, preset: str | None = None) -> bool | str:
        """Name a choice that is gone."""
        return check_choices(preset=(preset, PRESETS))

    @classmethod
    def execute(cls, preset: str) -> io.NodeOutput:
        """What the recipe says."""
        return io.NodeOutput(PRESETS[preset].steps)

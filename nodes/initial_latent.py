"""Initial Latent (AdaIN): the noise that sampling starts from."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..core.adain import adain_latents
from .schema import check_choices, search_aliases
from .sockets import CATEGORY

Latent = dict[str, Any]


MODES = ["adain", "content"]


class InitialLatent(io.ComfyNode):
    """Gives the content's noise the colours of the style's noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleInitialLatent",
            display_name="Initial Latent (AdaIN)",
            category=CATEGORY,
            **search_aliases("adain", "color transfer", "colour match"),
            description="The noise to start sampling from: the portrait's own, with the style's mean and spread in "
            "each channel, so that the overall colours follow the style.",
            inputs=[
                io.Latent.Input("content", tooltip="The noise output of DDIM Inversion (Content)."),
                io.Latent.Input("style", tooltip="The noise output of DDIM Inversion (Style)."),
                io.Combo.Input(
                    "mode",
                    options=MODES,
                    default="adain",
                    tooltip="adain: overall colours of the style. content: the portrait's noise as it is.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How far the colours move from the portrait's to the style's.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="Connect it to the sampler; add no noise there.")],
        )

    @classmethod
    def validate_inputs(cls, mode: str | None = None) -> bool | str:
        """Name a choice that is gone."""
        return check_choices(mode=(mode, MODES))

    @classmethod
    def execute(cls, content: Latent, style: Latent, mode: str, strength: float) -> io.NodeOutput:
        """Blend towards the style's statistics; other entries of the content latent pass through."""
        amount = strength if mode == "adain" else 0.0
        return io.NodeOutput({**content, "samples": adain_latents(content["samples"], style["samples"], amount)})

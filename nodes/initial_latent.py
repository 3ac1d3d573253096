"""Initial Latent (AdaIN): the noise that sampling starts from."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..core.adain import adain_map
from ..core.errors import MagicStyleError
from ..core.grid import Grid
from ..core.ranges import check_finite
from ..core.regions import acting_region
from ..core.regions import style_mask as checked_style_mask
from .inversion.latent_pair import Latent, map_samples
from .schema import check_choices, folded, search_aliases
from .sockets import CATEGORY

MODES = ["adain", "content"]


def _inputs() -> list[Any]:
    inputs = [
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
        io.Mask.Input(
            "region",
            optional=True,
            tooltip="Where the colours move: white moves, black stays. Chain one node per region for several styles. A "
            "film takes one mask for all frames, or one for each.",
        ),
        io.Mask.Input(
            "style_mask",
            optional=True,
            tooltip="Which part of the style picture gives its colours: white counts, black does not.",
        ),
        io.Boolean.Input(
            "frames_together",
            default=False,
            optional=True,
            tooltip="For a batch of frames: all pictures move by the same amount, so that a fade or a flash "
            "stays; off, each gets the style's colours by itself. A film of a video model is always one.",
        ),
    ]
    return folded(inputs, "frames_together")


class InitialLatent(io.ComfyNode):
    """Gives the content's noise the colours of the style's noise."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleInitialLatent",
            display_name="Initial Latent (AdaIN)",
            category=CATEGORY,
            **search_aliases("MagicStyleInitialLatent"),
            description="The noise to start sampling from: the portrait's own, with the style's mean and spread in "
            "each channel, so that the overall colours follow the style.",
            inputs=_inputs(),
            outputs=[io.Latent.Output(display_name="latent", tooltip="Connect it to the sampler; add no noise there.")],
        )

    @classmethod
    def validate_inputs(cls, mode: str | None = None) -> bool | str:
        """Name a choice that is gone."""
        return check_choices(mode=(mode, MODES))

    @classmethod
    def execute(
        cls,
        content: Latent,
        style: Latent,
        mode: str,
        strength: float,
        region: Tensor | None = None,
        style_mask: Tensor | None = None,
        frames_together: bool = False,
    ) -> io.NodeOutput:
        """Blend towards the style's statistics, both latents of an exact inversion alike; the rest passes through."""
        samples, source = content["samples"], style["samples"]
        if mode == "content":
            return io.NodeOutput(content)
        if not bool(torch.count_nonzero(samples)):
            raise MagicStyleError(
                "content is an empty latent, which has no portrait's noise to recolour: connect the noise of DDIM "
                "Inversion (Content), or leave this node out and let the sampler add the noise."
            )
        frames = Grid(samples.shape[2:]).frames
        region = None if region is None else acting_region(region, samples.shape[0], frames)
        mask = None if style_mask is None else checked_style_mask(style_mask, samples.shape[0])
        moved = adain_map(samples, source, strength, region=region, style_mask=mask, together=frames_together)
        found = map_samples(content, moved)
        check_finite(found["samples"], "the initial latent", "connect the noise of two DDIM Inversion nodes")
        return io.NodeOutput(found)

"""Midpoint Sampler: steps of second order for one model call each, as an inversion of method midpoint takes them."""

from __future__ import annotations

import comfy.samplers
from comfy_api.latest import io

from ..core.midpoint import sample_midpoint
from .schema import search_aliases
from .sockets import CATEGORY


class MidpointSampler(io.ComfyNode):
    """The SAMPLER that belongs to inversion method midpoint."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleMidpointSampler",
            display_name="Midpoint Sampler",
            category=CATEGORY,
            **search_aliases("MagicStyleMidpointSampler"),
            description="A sampler of second order for one model call a step, which goes back the way that an "
            "inversion of method midpoint came: many times nearer than ddim at the same cost.",
            inputs=[],
            outputs=[
                io.Sampler.Output(
                    display_name="sampler",
                    tooltip="Connect it to SamplerCustom, with the inversion's sigmas; add no noise.",
                )
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """The host's sampler around `sample_midpoint`."""
        return io.NodeOutput(comfy.samplers.KSAMPLER(sample_midpoint))

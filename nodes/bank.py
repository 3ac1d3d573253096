"""Feature Bank: the content's and the style's features, ready to be fused."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..core.features import FeatureBank, ImageFeatures, StyleEntry
from ..core.regions import clean_mask
from .report import bank_summary
from .sockets import CATEGORY, Bank, Features


def style_entry(
    style: ImageFeatures, weight: float = 1.0, region: Tensor | None = None, style_mask: Tensor | None = None
) -> StyleEntry:
    """A style with its masks checked and made floating."""
    region = None if region is None else clean_mask(region, "region")
    style_mask = None if style_mask is None else clean_mask(style_mask, "style_mask")
    return StyleEntry(style, weight, region, style_mask)


def mask_inputs() -> list[Any]:
    """The two optional masks of a style."""
    return [
        io.Mask.Input(
            "region",
            optional=True,
            tooltip="Where in the portrait this style acts: white is styled, black keeps the portrait's own look.",
        ),
        io.Mask.Input(
            "style_mask",
            optional=True,
            tooltip="Which part of the style picture may be drawn from: paint a face black to keep it from leaking.",
        ),
    ]


class FeatureBankNode(io.ComfyNode):
    """Joins content and style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleFeatureBank",
            display_name="Feature Bank",
            category=CATEGORY,
            description="Puts the features of portrait and style picture together, for the FFA Model Patcher.",
            inputs=[
                Features.Input("content", tooltip="Features of the portrait, from DDIM Inversion (Content)."),
                Features.Input("style", tooltip="Features of the style picture, from DDIM Inversion (Style)."),
                *mask_inputs(),
            ],
            outputs=[
                Bank.Output(display_name="bank", tooltip="Connect it to the FFA Model Patcher."),
                io.String.Output(display_name="summary", tooltip="What the bank holds, and how large it is."),
            ],
        )

    @classmethod
    def execute(
        cls, content: ImageFeatures, style: ImageFeatures, region: Any = None, style_mask: Any = None
    ) -> io.NodeOutput:
        """Check that the two fit and hand out a new, immutable bank."""
        bank = FeatureBank(content, (style_entry(style, 1.0, region, style_mask),))
        return io.NodeOutput(bank, bank_summary(bank))

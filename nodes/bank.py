"""Feature Bank: the content's and the style's features, ready to be fused."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..banks.bank import FeatureBank, StyleEntry
from ..banks.image_features import ImageFeatures
from ..core.regions import acting_region, style_mask
from .notices import show_on_node, warn
from .report import bank_summary
from .roles import role_warnings
from .schema import search_aliases
from .sockets import CATEGORY, Bank, Features


def with_style(
    bank: FeatureBank, style: ImageFeatures, weight: float = 1.0, region: Any = None, mask: Any = None
) -> FeatureBank:
    """The bank with one style more, its masks checked and made floating."""
    return bank.with_style(entry_of(style, weight, region, mask, bank.painted, bank.frames))


def entry_of(
    style: ImageFeatures, weight: float, region: Any, mask: Any, painted: int | None, frames: int = 1
) -> StyleEntry:
    """A style of a bank, its masks checked and made floating: one for all that are painted, or one for each."""
    region = None if region is None else acting_region(region, painted, frames)
    mask = None if mask is None else style_mask(mask, painted)
    return StyleEntry(style, weight, region, mask)


def mask_inputs() -> list[Any]:
    """The two optional masks of a style."""
    return [
        io.Mask.Input(
            "region",
            optional=True,
            tooltip="Where in the portrait this style acts: white is styled, black keeps the portrait's own look. A "
            "film takes one mask for all frames, or one for each.",
        ),
        io.Mask.Input(
            "style_mask",
            optional=True,
            tooltip="Which part of the style picture may be drawn from: paint a face black to keep it from leaking.",
        ),
    ]


def summarized(title: str, bank: FeatureBank) -> str:
    """What a bank holds, also as a text on the node; what is wrong with it, as warnings."""
    warn(title, role_warnings(bank))  # of other noise levels sampling warns
    summary = bank_summary(bank)
    show_on_node(summary)
    return summary


class FeatureBankNode(io.ComfyNode):
    """Joins content and style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleFeatureBank",
            display_name="Feature Bank",
            category=CATEGORY,
            **search_aliases("MagicStyleFeatureBank"),
            description="Puts the features of portrait and style picture together, for the FFA Model Patcher.",
            inputs=[
                Features.Input(
                    "content",
                    optional=True,
                    tooltip="Features of the portrait, from DDIM Inversion (Content). Stays open where there is none: "
                    "then the prompt says what is painted, in any size, and the style how.",
                ),
                Features.Input(
                    "style",
                    optional=True,
                    tooltip="Features of the style picture, from DDIM Inversion (Style). May stay open for the methods "
                    "masactrl and diffstyler, which need the portrait alone.",
                ),
                *mask_inputs(),
            ],
            outputs=[
                Bank.Output(display_name="bank", tooltip="Connect it to the FFA Model Patcher, or add more styles."),
                io.String.Output(display_name="summary", tooltip="What the bank holds, and how large it is."),
            ],
        )

    @classmethod
    def execute(
        cls,
        content: ImageFeatures | None = None,
        style: ImageFeatures | None = None,
        region: Any = None,
        style_mask: Any = None,
    ) -> io.NodeOutput:
        """Check that the two fit and hand out a new, immutable bank."""
        alone = None if content is None else FeatureBank(content, ())
        painted, frames = (None, 1) if alone is None else (alone.painted, alone.frames)
        styles = () if style is None else (entry_of(style, 1.0, region, style_mask, painted, frames),)
        bank = FeatureBank(content, styles)
        return io.NodeOutput(bank, summarized("Feature Bank", bank))


class AddStyle(io.ComfyNode):
    """Adds a style to a bank."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleAddStyle",
            display_name="Feature Bank: Add Style",
            category=CATEGORY,
            **search_aliases("MagicStyleAddStyle"),
            description="Adds one more style to a feature bank. All styles take part in one attention, in no order; "
            "regions say where each of them acts.",
            inputs=[
                Bank.Input("bank", tooltip="From the Feature Bank, or from another of these nodes."),
                Features.Input("style", tooltip="Features of the style picture, from DDIM Inversion (Style)."),
                io.Float.Input(
                    "weight",
                    default=StyleEntry._field_defaults["weight"],
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How strongly this style weighs against the others: 2 counts as two copies of it, "
                    "0 leaves it out. The first style of a bank has weight 1.",
                ),
                *mask_inputs(),
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="Connect it to the FFA Model Patcher, or add more.")],
        )

    @classmethod
    def execute(
        cls, bank: FeatureBank, style: ImageFeatures, weight: float, region: Any = None, style_mask: Any = None
    ) -> io.NodeOutput:
        """A new bank; the one that came in stays as it is."""
        bank = with_style(bank, style, weight, region, style_mask)
        summarized("Feature Bank: Add Style", bank)
        return io.NodeOutput(bank)

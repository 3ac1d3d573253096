"""Feature Preview: a look inside the bank."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..core.bank import FeatureBank
from ..core.errors import MagicStyleError
from ..core.layers import select_layers
from ..core.preview import heat, pca_colours, side_by_side, style_share
from .schema import search_aliases
from .sockets import CATEGORY, Bank


def preview(bank: FeatureBank, layer_text: str, step: int) -> torch.Tensor:
    """Content and styles as PCA colours, then the style's share of attention: 1 H W 3."""
    layer, *_ = select_layers(layer_text, bank.layers)
    pictures = list(bank)
    steps = min(len(features.header.sigmas) for features in pictures)
    if step >= steps:
        raise MagicStyleError(
            f"step is {step}, but the bank has {steps} steps: choose 0 (noise) to {steps - 1} (clean)."
        )
    kept = [features.at(layer, step) for features in pictures]
    if any("k" not in features for features in kept) or "q" not in kept[0]:
        raise MagicStyleError("bank holds no queries and keys to look at: invert both pictures again.")
    grids = [features.header.grids[layer] for features in pictures]
    q, keys = kept[0].q[0], [features.k[0] for features in kept]
    share = style_share(q, keys[1:], keys[0], bank.content.header.heads[layer])
    return side_by_side([*pca_colours(keys, grids), heat(share, grids[0])])


class FeaturePreview(io.ComfyNode):
    """Shows features as colours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleFeaturePreview",
            display_name="Feature Preview",
            category=CATEGORY,
            **search_aliases("MagicStyleFeaturePreview"),
            description="Left to right: the portrait's features, each style's features (alike colours are alike "
            "features), and how much each pixel of the portrait looks at the style: dark little, yellow much.",
            inputs=[
                Bank.Input("bank", tooltip="The bank to look into."),
                io.String.Input("layer", default="output.9", tooltip="One self-attention layer that the bank holds."),
                io.Int.Input(
                    "step", default=25, min=0, max=999, tooltip="0 is the noisiest step, the last one almost clean."
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The pictures side by side.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, bank: FeatureBank, layer: str, step: int) -> io.NodeOutput:
        """Draw and show."""
        image = preview(bank, layer, step)
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))

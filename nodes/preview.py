"""Feature Preview: a look inside the bank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..attention_patches.checks import named
from ..banks.bank import FeatureBank
from ..core.errors import MagicStyleError
from ..core.layers import select_layers
from ..core.preview import enlarged, heat, pca_colours, side_by_side, style_share
from ..core.ranges import check_range
from .captions import captioned
from .schema import check_layers, search_aliases
from .sockets import CATEGORY, Bank


def preview(bank: FeatureBank, layer_text: str, percent: float) -> Tensor:
    """Content and styles as PCA colours, then the styles' share of the content's attention, under captions: t H W 3.

    Without a content there are the styles alone. Of films each frame has a picture of its own, t of them, else one.
    `percent` is the share of the way from noise to clean.
    """
    late = bank.layers[3 * len(bank.layers) // 4]  # where textures are
    layer, *_ = select_layers(named(layer_text, str(late)), bank.layers)
    pictures = list(bank)
    steps = [round(percent * (len(features.header.sigmas) - 1)) for features in pictures]
    kept = [features.at(layer, own) for features, own in zip(pictures, steps, strict=True)]
    if any("k" not in features for features in kept) or bank.content is not None and "q" not in kept[0]:
        raise MagicStyleError("bank holds no queries and keys to look at: invert both pictures again.")
    keys, grids = [features.k[0] for features in kept], [features.header.grids[layer] for features in pictures]
    titles = ["portrait"] if bank.content is not None else []
    titles += [f"style {number}" for number, _ in enumerate(bank.styles, 1)]
    where = [f"{layer}, step {own + 1} of {len(f.header.sigmas)}" for f, own in zip(pictures, steps, strict=True)]
    shown = pca_colours(keys, grids)
    if bank.styles and bank.content is not None:
        share = style_share(kept[0].q[0], keys[1:], keys[0], bank.content.header.heads[layer])
        shown, grids = [*shown, heat(share, grids[0])], [*grids, grids[0]]
        titles, where = [*titles, "attention to styles"], [*where, f"{share.mean():.0%} on average"]
    frames = max(grid.frames for grid in grids)
    parts = [picture.chunk(grid.frames) * (frames // grid.frames) for picture, grid in zip(shown, grids, strict=True)]
    return torch.cat([_captioned(pictures, titles, where) for pictures in zip(*parts, strict=True)])


def _captioned(pictures: Sequence[Tensor], titles: Sequence[str], details: Sequence[str]) -> Tensor:
    """Pictures h w 3 side by side: 1 H W 3."""
    texts = zip(pictures, titles, details, strict=True)
    return side_by_side([captioned(enlarged(picture), title, detail) for picture, title, detail in texts])


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
            "features), and how much each place of the portrait attends to the styles: dark little, yellow much.",
            inputs=[
                Bank.Input("bank", tooltip="The bank to look into."),
                io.String.Input(
                    "layer", default="output.9", tooltip="One self-attention layer that the bank holds, or auto."
                ),
                io.Float.Input(
                    "percent",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Which step, as a share of the way: 0 is the noisiest, 1 almost clean.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The pictures side by side.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, layer: str | None = None) -> bool | str:
        """Name what is no layer."""
        return check_layers(layer=layer)

    @classmethod
    def execute(cls, bank: FeatureBank, layer: str, percent: float) -> io.NodeOutput:
        """Draw and show."""
        check_range("percent", percent, 0.0, 1.0)
        image = preview(bank, layer, percent)
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))

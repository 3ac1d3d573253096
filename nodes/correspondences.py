"""Correspondence Preview: which place of a style picture each place of the portrait is most like."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..attention_patches.architectures import find
from ..attention_patches.checks import AUTO, check_bank, stored_layers
from ..attention_patches.comfy import ModelSource, check_model
from ..attention_patches.correspondences import find_matches, stored_keys
from ..attention_patches.placing import Placer, Positions
from ..banks.bank import FeatureBank
from ..banks.image_features import ImageFeatures
from ..banks.trajectory import Trajectory
from ..core.correspondence import Match
from ..core.errors import MagicStyleError
from ..core.grid import Grid
from ..core.preview import heat, of_height, painted_by_match, side_by_side
from .captions import captioned
from .schema import check_layers, search_aliases
from .sockets import CATEGORY, Bank

MANY = 99  # styles


def correspondence(model: Any, bank: FeatureBank, layer: str, number: int) -> tuple[Match, Grid]:
    """What method cocodiff matches of the content with a style, and the grid on which: the finest of the layers."""
    check_model(model)
    architecture = find(model)
    check_bank(architecture, bank)
    if bank.content is None or not bank.styles:
        raise MagicStyleError(
            "bank has no portrait or no style, and places of one are matched with the other's: connect both to the "
            "Feature Bank."
        )
    if bank.frames > 1:
        raise MagicStyleError("bank holds a film, and still pictures are matched: connect the bank of a still picture.")
    if number > len(bank.styles):
        raise MagicStyleError(f"style is {number}, but the bank has {len(bank.styles)}: choose one of these.")
    bank = bank.with_pictures([_with_model(features, model) for features in bank.pictures])
    if any("k" not in features.roles for features in bank.pictures):
        raise MagicStyleError("bank holds no keys to compare: set roles to all on the DDIM Inversion nodes.")
    placer = Placer(architecture.name, architecture.rotation, Positions(), centred=architecture.centred)
    matches = find_matches(bank, stored_layers(architecture, bank, layer), placer, stored_keys)[number - 1]
    grid = max(matches, key=lambda each: each.tokens)
    return matches[grid], grid


def _with_model(features: ImageFeatures, model: Any) -> ImageFeatures:
    """A picture whose latents, where it is of a file, this model makes features of."""
    if not isinstance(features, Trajectory) or features.source is not None:
        return features
    return Trajectory(
        features.header, features.latents, features.inputs, features.noise_pair, source=ModelSource(model)
    )


def shown(found: Match, grid: Grid, content: Tensor | None, style: Tensor) -> Tensor:
    """Portrait and style picture, h w 3, the portrait by the style's pixels, and the likeness: 1 H W 3."""
    places, score = found.places[0].cpu(), found.score[0].cpu()
    painted = painted_by_match(places, style, grid)
    height = painted.shape[0]
    low, high = float(score.min()), float(score.max())
    likeness = heat((score - low) / max(high - low, 1e-6), grid).repeat_interleave(height // grid.height, 0)
    likeness = likeness.repeat_interleave(height // grid.height, 1)
    pictures = [] if content is None else [captioned(of_height(content, height), "portrait")]
    pictures.append(captioned(of_height(style, height), "style"))
    pictures.append(captioned(painted, "portrait, of the style's pixels", f"{grid.height} x {grid.width} places"))
    pictures.append(captioned(likeness, "likeness", f"from {low:.2f}, dark, to {high:.2f}, yellow"))
    return side_by_side(pictures)


class CorrespondencePreview(io.ComfyNode):
    """Shows what took from where."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleCorrespondencePreview",
            display_name="Correspondence Preview",
            category=CATEGORY,
            **search_aliases("MagicStyleCorrespondencePreview"),
            description="Which place of the style picture each place of the portrait is most like: what method "
            "cocodiff of FFA Model Patcher takes from where.",
            inputs=[
                io.Model.Input("model", tooltip="The model with which the pictures of the bank were inverted."),
                Bank.Input("bank", tooltip="A bank with a portrait and a style."),
                io.Image.Input("style_image", tooltip="The style picture, whose pixels are shown."),
                io.Int.Input("style", default=1, min=1, max=MANY, tooltip="Which style of the bank that is."),
                io.String.Input(
                    "layers",
                    default=AUTO,
                    tooltip="As on FFA Model Patcher. Of these layers those of the finest grid are shown; name one to "
                    "see its grid.",
                ),
                io.Image.Input("content_image", optional=True, tooltip="The portrait, to be shown beside."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The pictures side by side.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, layers: str | None = None) -> bool | str:
        """Name what is no layer."""
        return check_layers(layers=layers)

    @classmethod
    def execute(
        cls, model: Any, bank: FeatureBank, style_image: Tensor, style: int, layers: str, content_image: Any = None
    ) -> io.NodeOutput:
        """Match, draw and show."""
        with torch.inference_mode():
            found, grid = correspondence(model, bank, layers, style)
        image = shown(
            found, grid, None if content_image is None else content_image[0, :, :, :3], style_image[0, :, :, :3]
        )
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))

"""Apply Style Recipe: a patcher with one knob, whose settings are those that fit the model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..attention_patches.checks import AUTO
from ..attention_patches.comfy import install_fusion
from ..attention_patches.comfy.models import check_model
from ..attention_patches.style_recipes import MAX_STRENGTH, RECIPES, describe_dose, profile
from ..banks.bank import FeatureBank
from .notices import show_on_node
from .schema import check_choices, check_layers, folded, search_aliases
from .sockets import CATEGORY, Bank

CHOICES = [AUTO, *RECIPES]


def recipes_tooltip() -> str:
    """One line for each recipe: whose it is, and for which models."""
    lines = [f"{name}: {recipe.summary}" for name, recipe in RECIPES.items()]
    return "\n".join([f"{AUTO}: the one that fits the model", *lines])


class ApplyRecipe(io.ComfyNode):
    """Patches a clone of the model by a recipe."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleApplyRecipe",
            display_name="Apply Style Recipe",
            category=CATEGORY,
            **search_aliases("MagicStyleApplyRecipe"),
            description="In the place of FFA Model Patcher: one knob for the style, with the method, positions and "
            "numbers that other packs recommend for this kind of model. The text on the node says what it has set.",
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. It is cloned, never changed."),
                Bank.Input("bank", tooltip="The features to fuse, from the Feature Bank."),
                io.Float.Input(
                    "style_strength",
                    default=1.0,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.01,
                    tooltip="How strongly the style acts: 0 is the model's own picture, 1 what the recipe's authors "
                    "recommend.",
                ),
                io.Combo.Input("recipe", options=CHOICES, default=AUTO, tooltip=recipes_tooltip()),
                *folded(
                    [
                        io.String.Input(
                            "layers",
                            default=AUTO,
                            tooltip="Where features are fused: auto, or layers by name, as on FFA Model Patcher.",
                        )
                    ],
                    "layers",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect it to a sampler.")],
        )

    @classmethod
    def validate_inputs(cls, recipe: str | None = None, layers: str | None = None) -> bool | str:
        """Name a choice that is gone, and what names no layer."""
        known = check_choices(recipe=(recipe, CHOICES))
        return check_layers(layers=layers) if known is True else known

    @classmethod
    def execute(cls, model: Any, bank: FeatureBank, style_strength: float, recipe: str, layers: str) -> io.NodeOutput:
        """Clone, patch, say what was set."""
        architecture = check_model(model)
        name = profile(architecture) if recipe == AUTO else recipe
        dose = RECIPES[name].at(style_strength, architecture)
        patched = install_fusion(model, bank, dose.settings, layers, 0.0, 1.0, dose.positions)
        show_on_node(describe_dose(name, dose))
        return io.NodeOutput(patched)

"""FFA Model Patcher: the model whose self-attention fuses the bank's features."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..attention_patches.checks import AUTO
from ..attention_patches.comfy import install_fusion
from ..attention_patches.placing import MAX_FREQUENCY_SCALE, POSITIONS, Positions
from ..banks.bank import FeatureBank
from ..core.fusion import FUSIONS, FusionSettings
from ..core.regions import KEEP_STRENGTH, NO_ALPHA, black_cause, clean_mask, is_black, keep_mask
from .notices import warn
from .schema import check_choices, check_layers, folded, search_aliases
from .sockets import CATEGORY, Bank, Controls
from .style_controls import NONE, PatcherControls


def methods_tooltip() -> str:
    """One line per method: what it is, and the knobs that it reads."""
    lines = [
        f"{name}: {method.summary}; reads {', '.join(method.knobs) or 'no knob'}" for name, method in FUSIONS.items()
    ]
    return "\n".join(lines)


def _percents() -> list[Any]:
    names = {
        "start_percent": (0.0, "From which part of the noise schedule on the fusion acts: 0 is the start."),
        "end_percent": (1.0, "Up to which part of the noise schedule the fusion acts: 1 is the end."),
    }
    inputs = [
        io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)
        for name, (default, tooltip) in names.items()
    ]
    return folded(inputs, *names)


def _position_inputs() -> list[Any]:
    only = "For transformers with rotary positions, such as Flux"
    modes = "\n".join(f"{mode}: {meaning}" for mode, meaning in POSITIONS.items())
    inputs = [
        io.Combo.Input(
            "positions", options=list(POSITIONS), default=Positions.mode, optional=True, tooltip=f"{only}.\n{modes}"
        ),
        *(
            io.Float.Input(
                name,
                default=getattr(Positions, name),
                min=0.0,
                max=MAX_FREQUENCY_SCALE,
                step=0.01,
                optional=True,
                tooltip=f"For positions untwist: what remains of {meaning}.",
            )
            for name, meaning in (
                ("high_frequencies", "the exact places, by which a model copies"),
                ("low_frequencies", "the rough places"),
            )
        ),
    ]
    return folded(inputs, "positions", "high_frequencies", "low_frequencies")


def _keep_inputs() -> list[Any]:
    return [
        io.Mask.Input(
            "keep",
            optional=True,
            tooltip="Where the portrait stays like itself, such as the face: white keeps its outlines and more of its "
            "own look, black is styled as without a mask. Soft masks act softly. A film takes one mask for all "
            "frames, or one for each.",
        ),
        io.Float.Input(
            "keep_strength",
            default=KEEP_STRENGTH,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="How far the white of keep is kept; 0 is as without a mask.",
        ),
    ]


class PatchFFA(io.ComfyNode):
    """Patches a clone of the model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStylePatchFFA",
            display_name="FFA Model Patcher",
            category=CATEGORY,
            **search_aliases("MagicStylePatchFFA"),
            description="Feature Fusion Attention: while this model samples, its self-attention looks at the stored "
            "features of the portrait (structure) and of the style (colour, texture).",
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. It is cloned, never changed."),
                Bank.Input("bank", tooltip="The features to fuse, from the Feature Bank."),
                io.Combo.Input(
                    "method",
                    options=list(FUSIONS),
                    default=FusionSettings.method,
                    tooltip=methods_tooltip(),
                ),
                io.Float.Input(
                    "style_weight",
                    default=FusionSettings.style_weight,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="How strongly the style's features weigh against what else the method attends to. 0 leaves "
                    "the style out. Where nothing else is there, as in ffa with content_weight 0 and without a region "
                    "or keep mask, all values above 0 give the same picture.",
                ),
                io.Float.Input(
                    "content_weight",
                    default=FusionSettings.content_weight,
                    min=0.0,
                    max=10.0,
                    step=0.001,
                    tooltip="How strongly the portrait's own features weigh. Higher keeps more of its own colours and "
                    "details, and small values already take most of the style's technique away; 0 paints with the "
                    "style alone.",
                ),
                io.Float.Input(
                    "query_preservation",
                    default=FusionSettings.query_preservation,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Higher keeps more of the portrait's outlines, lower brings more of the style; 0 lets it "
                    "repaint the outlines.",
                ),
                io.Float.Input(
                    "temperature",
                    default=FusionSettings.temperature,
                    min=0.1,
                    max=5.0,
                    step=0.01,
                    tooltip="It multiplies the attention logits, so that higher is sharper: fewer, better matching "
                    "style patches. Lower blends more.",
                ),
                io.String.Input(
                    "layers",
                    default=AUTO,
                    tooltip="Where features are fused: auto, or some by name. auto chooses for the kind of model: "
                    "output.6-11 of SD1.5 and SD2.1, whose later blocks carry colour and texture, earlier shape; "
                    "output.0-5 of SDXL. The inversions must have kept these layers.",
                ),
                *_percents(),
                *_position_inputs(),
                *_keep_inputs(),
                Controls.Input("controls", optional=True, tooltip="Further knobs, from Style Controls."),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="Connect it to a sampler.")],
        )

    @classmethod
    def validate_inputs(
        cls, method: str | None = None, positions: str | None = None, layers: str | None = None
    ) -> bool | str:
        """Name a choice that is gone, and what names no layer."""
        known = check_choices(method=(method, FUSIONS), positions=(positions, POSITIONS))
        return check_layers(layers=layers) if known is True else known

    @classmethod
    def execute(
        cls,
        model: Any,
        bank: FeatureBank,
        layers: str,
        start_percent: float,
        end_percent: float,
        positions: str = Positions.mode,
        high_frequencies: float = Positions.high_frequencies,
        low_frequencies: float = Positions.low_frequencies,
        keep: Any = None,
        keep_strength: float = KEEP_STRENGTH,
        controls: PatcherControls = NONE,
        **knobs: Any,
    ) -> io.NodeOutput:
        """Clone, patch, return."""
        placed = Positions(positions, high_frequencies, low_frequencies, **controls.positions)
        settings = FusionSettings(controls=controls.fusion, **knobs)
        kept = None if keep is None else keep_mask(keep, keep_strength, bank.painted, bank.frames)
        # the mask of a picture without one is no mistake: the block's face mask comes from the portrait's Load Image
        if keep is not None and is_black(mask := clean_mask(keep, "keep")) and tuple(mask.shape[1:]) != NO_ALPHA:
            remedy = "paint what shall stay white, or disconnect keep"
            warn("FFA Model Patcher", [f"keep is black everywhere and keeps nothing: {black_cause(mask, remedy)}."])
        window = start_percent, end_percent
        return io.NodeOutput(install_fusion(model, bank, settings, layers, *window, placed, kept, controls.words))

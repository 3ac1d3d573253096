"""Style Controls: the knobs of other packs, for any method with a style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from comfy_api.latest import io

from ..attention_patches.placing import MAX_FREQUENCY_SCALE, MAX_RISE
from ..core.controls import MAX_KEY_SCALE, StyleControls
from ..core.correspondence import MATCH_WEIGHT, MAX_MATCH_WEIGHT
from ..core.rotation import OTHER_AXES, RISE
from ..core.word_regions import StyleWords
from .schema import check_choices, folded, search_aliases
from .sockets import CATEGORY, Controls

AS_IT_IS = -1.0  # of a number that the patcher or the method has, too


class PatcherControls(NamedTuple):
    """What the node hands to the patcher."""

    fusion: StyleControls
    positions: Mapping[str, Any]  # fields of Positions
    words: StyleWords | None = None  # where each style acts while a picture is painted


NONE = PatcherControls(StyleControls(), {})


def _number(name: str, tooltip: str, default: float, most: float, least: float = 0.0, step: float = 0.01) -> Any:
    return io.Float.Input(name, default=default, min=least, max=most, step=step, tooltip=tooltip)


def _end(name: str, of: str, most: float) -> Any:
    tooltip = f"Where {of} is in the last step; it moves there in even steps. -1: it stays as it is."
    return _number(name, tooltip, AS_IT_IS, most, AS_IT_IS)


def _inputs() -> list[Any]:
    """Those that most pictures need, and behind them the rest."""
    untwist = "For positions untwist: "
    axes = "\n".join(f"{name}: {meaning}" for name, meaning in OTHER_AXES.items())
    inputs = [
        _number(
            "mix",
            "How much of the styled answer there is in the model's own: 1 all, 0 none. A knob for the strength of any "
            "method.",
            *(1.0, 1.0),
        ),
        _number(
            "align",
            "How far the running picture's queries and keys take the style's mean and spread: 0 not, 1 wholly; colours "
            "and contrast follow. -1: as the method has it, 1 of style_aligned and 0 of the others.",
            *(AS_IT_IS, 1.0, AS_IT_IS),
        ),
        _number(
            "key_scale",
            "Multiplies the style's keys: above 1 the picture draws more from the style, below 1 less. Others take "
            "1.06 to 1.1.",
            *(1.0, MAX_KEY_SCALE),
        ),
        _end("style_weight_end", "style_weight", 10.0),
        _end("high_frequencies_end", "high_frequencies, of positions untwist,", MAX_FREQUENCY_SCALE),
        _end("low_frequencies_end", "low_frequencies, of positions untwist,", MAX_FREQUENCY_SCALE),
        io.Boolean.Input(
            "text_sees_style",
            default=False,
            tooltip="For transformers in which prompt and picture share an attention: the prompt's tokens look at the "
            "style, too. Other packs have it so; off, the prompt says what it said without a style.",
        ),
        io.Boolean.Input(
            "align_before_rotation",
            default=False,
            tooltip="For rotary positions: align queries and keys as they are before their places turn them, as "
            "BigStationW's nodes and AlignedGen do, or after, as Krea2-StyleTransfer does.",
        ),
        _number(
            "rise",
            f"{untwist}the exponent of the curve from high_frequencies to low_frequencies: 2 in the paper, 2.5 in "
            "Krea2-StyleTransfer, 50 in BigStationW's nodes, where all but the lowest have the first value.",
            *(RISE, MAX_RISE, 0.01),
        ),
        io.Combo.Input(
            "other_axes",
            options=list(OTHER_AXES),
            default="stay",
            tooltip=f"{untwist}what becomes of axes of the positions that are no place in the picture.\n{axes}",
        ),
        _number(
            "match_weight",
            "For method cocodiff: how much each place of the style gets of that place of the style which the portrait "
            "is most like there. 0 is styleid.",
            *(MATCH_WEIGHT, MAX_MATCH_WEIGHT),
        ),
        io.Boolean.Input(
            "frames_together",
            default=False,
            optional=True,
            tooltip="For a batch of frames: align, style_aligned and gar take one mean and spread of all pictures of "
            "the batch, instead of each picture's own.",
        ),
        io.Float.Input(
            "detail",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="For SD1.5 and SDXL: how much of the portrait's fine detail the decoder adds. The picture comes a "
            "little nearer to the portrait in nearly the same style; MAST was published with 1. The portrait's "
            "inversion needs roles all and detail, or storage latents.",
        ),
    ]
    return folded(inputs, "align_before_rotation", "rise", "other_axes", "match_weight", "frames_together", "detail")


class StyleControlsNode(io.ComfyNode):
    """Bundles the knobs for the patcher."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleControls",
            display_name="Style Controls",
            category=CATEGORY,
            **search_aliases("MagicStyleControls"),
            description="Further knobs for FFA Model Patcher, which other packs for style transfer have: they act in "
            "every method that has a style, match_weight in cocodiff. As they stand at first they change nothing.",
            inputs=_inputs(),
            outputs=[Controls.Output(display_name="controls", tooltip="Connect it to controls of FFA Model Patcher.")],
        )

    @classmethod
    def validate_inputs(cls, other_axes: str | None = None) -> bool | str:
        """Name a choice that is gone."""
        return check_choices(other_axes=(other_axes, OTHER_AXES))

    @classmethod
    def execute(
        cls,
        mix: float,
        align: float,
        key_scale: float,
        style_weight_end: float,
        high_frequencies_end: float,
        low_frequencies_end: float,
        text_sees_style: bool,
        align_before_rotation: bool,
        rise: float,
        other_axes: str,
        match_weight: float = MATCH_WEIGHT,
        frames_together: bool = False,
        detail: float = 0.0,
    ) -> io.NodeOutput:
        """The knobs as one value."""
        fusion = StyleControls(
            key_scale=key_scale,
            align=_given(align),
            align_before_rotation=align_before_rotation,
            mix=mix,
            style_weight_end=_given(style_weight_end),
            text_sees_style=text_sees_style,
            match_weight=match_weight,
            frames_together=frames_together,
            detail=detail,
        )
        positions = {
            "high_frequencies_end": _given(high_frequencies_end),
            "low_frequencies_end": _given(low_frequencies_end),
            "rise": rise,
            "other_axes": other_axes,
        }
        return io.NodeOutput(PatcherControls(fusion, positions))


def _given(value: float) -> float | None:
    """A number, or None for what stays as it is."""
    return None if value < 0.0 else value

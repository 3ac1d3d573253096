"""Recipes: the settings that other packs and papers give for a kind of model, under one style strength.

A recipe's numbers and their sources stand in docs/models.md. At strength 1 they are the published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..core.controls import StyleControls
from ..core.fusion import FusionSettings
from ..core.ranges import check_range
from .architectures.base import HostArchitecture
from .placing import Positions

MAX_STRENGTH = 1.5


class Dose(NamedTuple):
    """What a recipe sets at one strength."""

    settings: FusionSettings
    positions: Positions


@dataclass(frozen=True)
class StyleRecipe:
    """Settings as a function of a style strength from 0, the model's own picture, to MAX_STRENGTH."""

    dose: Callable[[float], Dose]
    summary: str

    def at(self, strength: float, architecture: HostArchitecture) -> Dose:
        """What to set for a model: where the prompt has no part in the picture's attention, nothing for it to see."""
        check_range("style_strength", strength, 0.0, MAX_STRENGTH)
        found = self.dose(strength)
        if architecture.joint:
            return found
        controls = replace(found.settings.controls, text_sees_style=False)
        return found._replace(settings=replace(found.settings, controls=controls))


def _krea(strength: float) -> Dose:
    """ComfyUI-Krea2-StyleTransfer's recommended single reference: strengths above 1.25 align no further."""
    controls = StyleControls(
        key_scale=1.06,
        align=min(0.85 * min(strength, 1.25), 1.0),
        mix=min(strength, 1.0),
        text_sees_style=True,
    )
    positions = Positions(
        "untwist",
        high_frequencies=1.0 + 0.04 * min(strength, 1.5),
        low_frequencies=1.0,
        high_frequencies_end=0.0,
        low_frequencies_end=1.0 + 0.10 * strength,
        rise=2.5,
        other_axes="low",
    )
    return Dose(FusionSettings("style_aligned", controls=controls), positions)


def _untwisting(strength: float) -> Dose:
    """BigStationW's ComfyUi-Untwisting-RoPE: places fade over the steps while the rough ones gain weight."""
    share = min(strength, 1.0)
    controls = StyleControls(align=0.5 * share, align_before_rotation=True, mix=share, text_sees_style=True)
    positions = Positions(
        "untwist",
        high_frequencies=1.0,
        low_frequencies=1.0,
        high_frequencies_end=0.0,
        low_frequencies_end=1.0 + 2.0 * strength,
        rise=50.0,
        other_axes="low",
    )
    return Dose(FusionSettings("style_aligned", controls=controls), positions)


def _aligned(strength: float) -> Dose:
    """AlignedGen (2509.17088): the style beside the picture, its keys raised."""
    share = min(strength, 1.0)
    controls = StyleControls(
        key_scale=1.0 + 0.1 * strength,
        align=share,
        align_before_rotation=True,
        mix=share,
        text_sees_style=True,
    )
    return Dose(FusionSettings("style_aligned", controls=controls), Positions("shift"))


def _union(strength: float) -> Dose:
    """StyleAligned (CVPR 2024), where there are no rotary positions."""
    share = min(strength, 1.0)
    controls = StyleControls(align=share, mix=share, text_sees_style=True)
    return Dose(FusionSettings("style_aligned", controls=controls), Positions())


def _portrait(strength: float) -> Dose:
    """This pack's defaults, mixed with the model's own answer below 1; above 1 they let go of the outlines."""
    preservation = FusionSettings.query_preservation * (1.0 - max(strength - 1.0, 0.0))
    controls = StyleControls(mix=min(strength, 1.0))
    return Dose(FusionSettings("ffa", query_preservation=preservation, controls=controls), Positions())


RECIPES = {
    "krea": StyleRecipe(_krea, "Krea2-StyleTransfer's recommended setting, for Krea 2"),
    "untwisting": StyleRecipe(_untwisting, "BigStationW's Untwisting-RoPE, for Z-Image, Anima, Flux.2 and Qwen-Image"),
    "aligned": StyleRecipe(_aligned, "AlignedGen, for Flux.1: the style stands beside the picture"),
    "union": StyleRecipe(_union, "StyleAligned, for transformers without rotary positions"),
    "portrait": StyleRecipe(_portrait, "this pack's defaults, for UNets: the portrait's outlines in the style"),
}
# by the class of the architecture, or by the host's class of the model where that says more
PROFILES = {
    "Unet": "portrait",
    "Krea2": "krea",
    "Flux2": "untwisting",
    "Flux": "aligned",
    "Chroma": "aligned",
    "StableDiffusion3": "union",
    "AuraFlow": "union",
}
OTHERS = "untwisting"


def profile(architecture: HostArchitecture) -> str:
    """The recipe that `auto` takes for a model."""
    return PROFILES.get(architecture.name) or PROFILES.get(type(architecture).__name__, OTHERS)


def describe_dose(name: str, dose: Dose) -> str:
    """What a recipe has set, in a line."""
    settings, positions = dose
    controls = settings.controls
    words = [f"{name}: method {settings.method}", f"mix {controls.mix:g}", f"key_scale {controls.key_scale:g}"]
    if controls.align is not None:
        where = "before" if controls.align_before_rotation else "after"
        words.append(f"align {controls.align:g} {where} the rotation")
    if positions.mode == "untwist":
        high, low = positions.frequencies(0.0), positions.frequencies(1.0)
        words.append(f"high_frequencies {high[0]:g} to {low[0]:g}, low_frequencies {high[1]:g} to {low[1]:g}")
    elif positions.mode != "same":
        words.append(f"positions {positions.mode}")
    if settings.method == "ffa":
        words.append(f"query_preservation {settings.query_preservation:g}")
    return ", ".join(words)

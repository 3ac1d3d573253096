"""What a picture is made with, without the libraries that make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ...core.features import DETAIL, RESNET, ROLES
from ...core.fusion import FUSIONS, FusionSettings
from ...core.guidance import StyleGuidance
from ...core.inversion_methods import InversionSettings
from ...core.schedule import ddim_uniform, noise_levels

# What a recipe is where its facts say nothing: the defaults of version 1. It is frozen, since files and folders that
# exist are named by what differs from it. A new setting adds the value that pictures were made with before it existed.
VERSION_1: Mapping[str, Any] = MappingProxyType(
    {
        "settings": {
            "method": "ffa",
            "style_weight": 1.0,
            "content_weight": 0.0,
            "query_preservation": 0.65,
            "temperature": 1.5,
            "controls": {
                "key_scale": 1.0,
                "align": None,
                "align_before_rotation": False,
                "mix": 1.0,
                "style_weight_end": None,
                "text_sees_style": False,
                "match_weight": 0.6,
                "frames_together": False,
                "detail": 0.0,
            },
        },
        "steps": 50,
        "layers": "output.6-11",
        "adain": 1.0,
        "inversion": {"method": "ddim", "corrections": 2, "gamma": 0.5},
        "every": 1,
        "guidance": {"kind": "nvqg", "scale": 0.0, "start_percent": 0.0, "end_percent": 1.0},
    }
)


# the fields of a recipe that an inverted style does not depend on
AFTER_INVERSION = ("settings", "layers", "adain", "guidance")
# where the style's queries guide: what the patcher's auto means for method nvqg after default inversions
GUIDING_LAYERS = "output.3-5"


@dataclass(frozen=True)
class Recipe:
    """Everything that a user can choose, with the nodes' defaults."""

    settings: FusionSettings = field(default_factory=FusionSettings)
    steps: int = 50
    layers: str = "output.6-11"
    adain: float = 1.0  # strength of the initial latent's AdaIN
    inversion: InversionSettings = field(default_factory=InversionSettings)
    every: int = 1  # how many noise levels share what is kept of a picture
    guidance: StyleGuidance = StyleGuidance(scale=0.0)  # 0: none

    @property
    def facts(self) -> dict[str, Any]:
        """What tells one recipe from another, as plain values: what differs from the defaults of version 1."""
        return different(asdict(self), VERSION_1)

    @property
    def content_roles(self) -> str:
        """What of a content is kept: all roles, and of ResNets what the method copies or the controls add."""
        copied, added = FUSIONS[self.settings.method].resnet, self.settings.controls.detail > 0.0
        return ROLES + RESNET * copied + DETAIL * added

    @property
    def style_roles(self) -> str:
        """What of a style the method reads, and the guidance."""
        read = {*self.settings.style_roles, *("q" if self.against_style else "")}
        return "".join(role for role in ROLES if role in read)

    @property
    def against_style(self) -> bool:
        """Whether guidance leads away from what the style's queries paint."""
        return self.guidance.kind == "nvqg" and self.guidance.scale > 0.0

    @property
    def kept_layers(self) -> str:
        """The layers that an inversion keeps: those that are fused, and those that guide."""
        return f"{self.layers}, {GUIDING_LAYERS}" if self.against_style and self.layers != "all" else self.layers

    @property
    def sigmas(self) -> Tensor:
        """The sampling schedule n: descending, with the final zero."""
        return ddim_uniform(noise_levels(), self.steps)


def different(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not the defaults, group by group; what is equal is left out, whole groups too."""
    found = {}
    for name, value in values.items():
        default = defaults[name]
        if isinstance(value, Mapping):
            value, default = different(value, default), {}
        if value != default:
            found[name] = value
    return found

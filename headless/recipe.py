"""What a picture is made with, without the libraries that make it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ..core.features import RESNET, ROLES
from ..core.fusion import FUSIONS, FusionSettings
from ..core.inversion_methods import InversionSettings
from ..core.schedule import ddim_uniform, noise_levels


@dataclass(frozen=True)
class Recipe:
    """Everything that a user can choose, with the nodes' defaults."""

    settings: FusionSettings = field(default_factory=FusionSettings)
    steps: int = 50
    layers: str = "output.6-11"
    adain: float = 1.0  # strength of the initial latent's AdaIN
    inversion: InversionSettings = field(default_factory=InversionSettings)
    every: int = 1  # how many noise levels share what is kept of a picture

    @property
    def facts(self) -> dict[str, Any]:
        """What tells one recipe from another, as plain values; every level is what pictures of before had."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("every", 1)}

    @property
    def content_roles(self) -> str:
        """What of a content is kept: all roles, and the ResNet's input where the method copies it."""
        return ROLES + RESNET if FUSIONS[self.settings.method].resnet else ROLES

    @property
    def style_roles(self) -> str:
        """What of a style the method reads."""
        return FUSIONS[self.settings.method].style

    @property
    def sigmas(self) -> Tensor:
        """The sampling schedule n: descending, with the final zero."""
        return ddim_uniform(noise_levels(), self.steps)

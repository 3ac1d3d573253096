"""Recipes by what they cost: how many steps, and which inversion method."""

from __future__ import annotations

from dataclasses import dataclass

from .inversion import sampling_grid
from .inversion_methods import InversionSettings
from .schedule import ddim_uniform, noise_levels


@dataclass(frozen=True)
class Preset:
    """Settings of both inversions and of sampling, and what they are good for."""

    steps: int
    inversion: InversionSettings
    summary: str

    @property
    def calls(self) -> int:
        """Model calls of one picture: content and style inverted, and one sampling run, on the default schedule."""
        levels = len(sampling_grid(ddim_uniform(noise_levels(), self.steps)))
        spec = self.inversion.spec
        return 2 * spec.calls(levels, self.inversion.corrections) + spec.sampling_calls(levels)


PRESETS = {
    "fast": Preset(12, InversionSettings("midpoint"), "to try things out"),
    "balanced": Preset(20, InversionSettings("midpoint"), "for most pictures"),
    "faithful": Preset(50, InversionSettings("midpoint"), "the plain reconstruction is nearest"),
}

"""What a run over a store is to make: everything that a worker on any machine must know, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..engine.blocks import BlockShape
from ..engine.recipe import AFTER_INVERSION, Recipe
from ..pictures.sizes import Frame, LongerSide
from .names import digest_of


@dataclass(frozen=True)
class RunSpec:
    """Portraits, a library of inverted styles, and where what they become goes."""

    portraits: str
    library: str
    out: str
    recipe: Recipe
    frame: Frame | LongerSide
    identity: str  # of the model file
    checkpoint: str | None = None
    device: str | None = None
    block: BlockShape = BlockShape()
    batch: int | None = None
    overwrite: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """Every setting that changes a picture."""
        return {"checkpoint": self.identity, "frame": list(self.frame), **self.recipe.facts}

    @property
    def key(self) -> str:
        """The folder of what is made with these settings: other settings, other folder."""
        return digest_of(self.facts)

    @property
    def style_facts(self) -> dict[str, Any]:
        """Every setting that changes an inverted style."""
        return {name: value for name, value in self.facts.items() if name not in AFTER_INVERSION}

    @property
    def library_key(self) -> str:
        """The folder of the styles inverted with these settings."""
        return digest_of(self.style_facts)

    @property
    def manifests(self) -> str:
        """The folder of what says which units are finished."""
        return f"manifests/{self.key}"

    @property
    def settings_file(self) -> str:
        """Where the settings behind the key lie: the driver puts it before the first unit, so workers can find it."""
        return f"{self.manifests}.json"

    @property
    def settings(self) -> bytes:
        """What lies there."""
        return json.dumps(self.facts, indent=1).encode()

    def record(self, portrait: str, style: str) -> str:
        """How a picture was made, as the text that its file carries: of which two pictures, by their digests."""
        return json.dumps({"content": portrait, "style": style, **self.facts}, sort_keys=True)

"""A library of inverted styles: bank files below a folder or an address, one for each style picture.

They are files as *Save Feature Bank* writes them, so that *Load Feature Bank* opens them in ComfyUI.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import Tensor

from ...banks.bank import FeatureBank, StyleEntry
from ...banks.bank_file import load_styles, save_bank
from ...banks.image_features import ImageFeatures
from ...core.errors import MagicStyleError
from .names import StyleName, fitting
from .store import Store


def to_bytes(features: ImageFeatures) -> bytes:
    """Features with their noise as the bytes of a bank file, without pickle."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "style.safetensors")
        save_bank(FeatureBank(features, (StyleEntry(features),)), path, content=False)
        return path.read_bytes()


def from_bytes(data: bytes, name: str = "style") -> ImageFeatures:
    """The features of a bank file of one style."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "style.safetensors")
        path.write_bytes(data)
        try:
            (features,) = load_styles(path)
        except ValueError as error:
            raise MagicStyleError(f"the library's style {name} cannot be used: {error}") from None
    return features


class Library:
    """The styles of one store that were inverted with the same settings."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._files: dict[str, set[str]] | None = None  # by the style's name; listed once

    def styles(self) -> list[StyleName]:
        """All styles by name; of a picture that has changed, whatever is left."""
        found = (StyleName.of(file) for files in self._listed().values() for file in files)
        return sorted(style for style in found if style is not None)

    def read(self, style: StyleName, scale: float) -> ImageFeatures:
        """A style, its noise in the model's own scale."""
        try:
            data = self._store.read(f"{self._key}/{style.file}")
        except FileNotFoundError:
            raise MagicStyleError(f"the library's style {style.name} is gone: invert it again.") from None
        return _scaled(from_bytes(data, style.name), scale)

    def put(self, style: StyleName, features: ImageFeatures, scale: float) -> None:
        """Add a style, in place of an earlier one of the name; files hold noise as ComfyUI's LATENT does."""
        self._store.put(f"{self._key}/{style.file}", to_bytes(_scaled(features, 1.0 / scale)))
        held = self._listed().setdefault(fitting(style.name), set())
        for file in held - {style.file}:
            self._store.remove(f"{self._key}/{file}")
        held.clear()
        held.add(style.file)

    def _listed(self) -> dict[str, set[str]]:
        """The bank files of each name; one listing serves all styles that a run adds."""
        if self._files is None:
            self._files = {}
            for entry in self._store.entries(self._key):
                file = entry.name.removeprefix(f"{self._key}/")
                if (style := StyleName.of(file)) is not None:
                    self._files.setdefault(style.name, set()).add(file)
        return self._files


def _scaled(features: ImageFeatures, factor: float) -> ImageFeatures:
    if features.noise_pair is None:
        raise MagicStyleError("the library holds a style without its noise: invert it again.")

    def scaled(end: Tensor) -> Tensor:
        """b c h w."""
        return end.float().cpu() * factor

    return type(features).of_tensors(features.header, features.tensors, features.noise_pair.map(scaled))

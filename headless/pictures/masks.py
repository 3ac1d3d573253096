"""Masks of portraits that say where they stay like themselves: one file, or a folder with a mask for each portrait."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ...core.errors import MagicStyleError
from ...picture_files.kinds import is_picture, unread
from ..digest import digest
from .reading import missing_hint, picture_size
from .sizes import Size

ASPECTS = 0.02  # by how much the aspects of a portrait and its mask may differ: a pixel of a small mask


class Mask(NamedTuple):
    """A portrait's mask, as far as it is known before it is decoded."""

    path: Path
    digest: str  # of the file's bytes
    strength: float


@dataclass(frozen=True)
class Masks:
    """What `--keep` names, and how far it is kept; a folder is listed and a file read once, however many portraits."""

    path: Path
    strength: float

    def of(self, portrait: Path, shape: Size) -> Mask:
        """The mask of a portrait of this shape: the file, or the one in the folder that has the portrait's name."""
        path = self._path(portrait)
        if path not in self._seen:
            self._seen[path] = picture_size(path), digest(path.read_bytes())
        (width, height), own = self._seen[path]
        if abs(width * shape[1] / (height * shape[0]) - 1.0) > ASPECTS:
            raise MagicStyleError(
                f"{path} is {width}x{height} and {portrait} {shape[0]}x{shape[1]}: give a mask of the whole portrait, "
                "in its shape."
            )
        return Mask(path, own, self.strength)

    @cached_property
    def _seen(self) -> dict[Path, tuple[Size, str]]:
        """The size and the digest of every mask that was looked at."""
        return {}

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """The files of the folder by their names without endings."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.path.iterdir()):
            if path.is_file():
                found.setdefault(path.stem, []).append(path)
        return found

    def _path(self, portrait: Path) -> Path:
        if not self.path.is_dir():
            return self.path
        named = self._by_name.get(portrait.stem, [])
        found = [path for path in named if is_picture(path.name)]
        if not found:
            other = f" ({unread(named[0].name)})" if named else ""
            raise MagicStyleError(
                f"{self.path} holds no mask called {portrait.stem}{other}: add one, or leave {portrait} out."
            )
        return found[0]


def chosen_masks(keep: str | None, strength: float | None) -> Masks | None:
    """What `--keep` names, if anything; without a strength it is kept wholly."""
    if keep is None:
        return None
    path, strength = Path(keep), 1.0 if strength is None else strength
    if not 0.0 <= strength <= 1.0:
        raise MagicStyleError(f"--likeness is {strength}: choose a value from 0 to 1.")
    if not path.exists():
        raise MagicStyleError(f"--keep {path} does not exist: {missing_hint(path)}.")
    return Masks(path, strength)

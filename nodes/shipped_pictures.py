"""The pictures and the clip that ship with the pack, laid where loaders look, so that workflows open with them."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths

from ..model_files.demo import ASSETS, DEMO_CLIP, DEMO_CONTENT, DEMO_STYLE

LOGGER = logging.getLogger("magicstyle")
# names under which workflows choose them; a user's file of that name is left alone
NAMES = {
    f"magicstyle_portrait{DEMO_CONTENT.suffix}": DEMO_CONTENT,
    f"magicstyle_style{DEMO_STYLE.suffix}": DEMO_STYLE,
    "magicstyle_style_2.jpg": ASSETS / "gallery" / "cafe_terrace.jpg",
    f"magicstyle_clip{DEMO_CLIP.suffix}": DEMO_CLIP,
}


def offer_pictures() -> None:
    """Copy the pictures into the host's input folder, where they are not there yet."""
    folder = Path(folder_paths.get_input_directory())
    for name, source in NAMES.items():
        try:
            _copy_once(source, folder / name)
        except OSError as error:
            LOGGER.warning(
                "%s was not copied into the folder %s (%s): choose another picture in the workflows that name it.",
                name,
                folder,
                error.strerror or error,
            )


def _copy_once(source: Path, target: Path) -> None:
    content = source.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as file:  # fails where there is a file: nothing of the user's is overwritten
            file.write(content)
    except FileExistsError:
        return

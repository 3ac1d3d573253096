"""The transformer demo model on photographs, by the measures of benchmarks.photographs.

    COMFYUI_PATH=... python -m benchmarks.photographs_transformer --photographs A.jpg .. --styles M.jpg .. --work DIR

All photographs with all styles at 256x256, at the settings of its workflow; prints the table's rows. The transformer
needs ComfyUI 0.5.0 or newer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from .transformer import FlowPainter, FlowRecipe  # first: lets the host and diffusers live in one process

# isort: split
import torch
from magicstyle.core.fusion import FusionSettings
from magicstyle.headless.digest import digest
from magicstyle.model_files.demo import DEMO_TRANSFORMER
from torch import Tensor

from .imagenet import EfficientNetLite0
from .kept import paint_kept
from .photo_measures import Judge, read_square, score
from .photo_tables import table
from .photo_ways import Album, Piece
from .recognisers import Recognisers

SIZE = 256
ROWS = {
    "transformer, plain reconstruction": None,
    "transformer, `styleid`": FusionSettings("styleid", query_preservation=0.75, temperature=1.5),
    "transformer, `ffa`": FusionSettings(),
}


def painted(painters: list[FlowPainter], album: Album, style: Path, group: slice, label: str) -> Tensor:
    """A piece painted, b 3 h w in 0..1; the host starts with the first that is missing."""
    if not painters:
        painters.append(FlowPainter(FlowRecipe()))
    shown = torch.stack([read_square(path, SIZE) for path in album.photographs[group]])
    content, settings = painters[0].inverted(shown, "content"), ROWS[label]
    if settings is None:
        return painters[0].reconstructed(content)
    wanted = painters[0].inverted(read_square(style, SIZE)[None], "style")
    return painters[0].painted(content, wanted, settings)


def pieces(album: Album, label: str, work: Path, until: float) -> list[Piece]:
    """What of a row is painted by `until`, a `time.monotonic`."""
    painters: list[FlowPainter] = []
    found = []
    facts = digest(repr((ROWS[label], FlowRecipe(), SIZE, digest(DEMO_TRANSFORMER.read_bytes()))).encode())[:8]
    for style, group in album.order:
        file = work / f"transformer {facts}, {album.name(style, group)}.safetensors"

        def painter(group: slice, style: Path = style) -> Callable[[str], Tensor]:
            return lambda label: painted(painters, album, style, group, label)

        shown = paint_kept([label], [group], lambda label, group, file=file: file, painter, until)
        found += [Piece(style, group, pictures, file) for pictures in shown.values()]
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("photographs", "styles"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is painted and measured")
    parser.add_argument("--human", type=Path, help="folder with faceres.json and faceres.bin")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop painting after so many; a rerun goes on")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    given.work.mkdir(parents=True, exist_ok=True)
    album = Album(tuple(given.photographs), tuple(given.styles))
    found = {label: pieces(album, label, given.work, until) for label in ROWS}
    judge = Judge(album, Recognisers(given.human), EfficientNetLite0.of_package())
    print(table({label: score([r for p in each for r in judge.rows(p)]) for label, each in found.items() if each}))


if __name__ == "__main__":
    main()

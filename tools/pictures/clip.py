"""Write assets/demo_clip.mp4, a camera that pans over the demo photograph, and docs/film.webp, it and its painting.

    python -m tools.pictures.clip [clip] [painting]

Without names both. The painting is what `magicstyle stylize` makes of the clip: two minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from magicstyle.headless import cli
from magicstyle.headless.pictures.video import read_frames
from magicstyle.model_files.demo import DEMO_CLIP, DEMO_CONTENT, DEMO_STYLE
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FRAMES, RATE, SIDE = 8, 8, 256
BEGIN, END, SEEN = (6, 0), (70, 44), (300, 286)  # corners of what the camera sees of 384x512, and its sides there
LOOK, SHOWN = ("--size", "512", "--preset", "fast"), (320, 320)  # how it is painted, and a picture on the page


def panned(photograph: Image.Image) -> list[Image.Image]:
    """What the camera sees: it moves evenly and comes a little nearer."""
    frames = []
    for number in range(FRAMES):
        share = number / (FRAMES - 1)
        left, top, side = ((1 - share) * a + share * b for a, b in zip((*BEGIN, SEEN[0]), (*END, SEEN[1]), strict=True))
        box = (left, top, left + side, top + side)
        frames.append(photograph.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box))
    return frames


def write_clip(path: Path, frames: list[Image.Image]) -> None:
    """A silent video."""
    with av.open(str(path), "w") as made:
        stream = made.add_stream("libx264", rate=RATE, options={"crf": "20", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.asarray(frame), format="rgb24")
            picture.pts = number
            made.mux(stream.encode(picture))
        made.mux(stream.encode(None))


def write_painting(path: Path) -> None:
    """The clip and its painting side by side, there and back."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "painted.mp4"
        if cli.main(["stylize", str(DEMO_CLIP), str(DEMO_STYLE), "-o", str(result), *LOOK]) != cli.OK:
            raise SystemExit(1)
        pairs = zip(read_frames(DEMO_CLIP), read_frames(result), strict=True)
        frames = [np.concatenate([_shown(own), _shown(painted)], axis=1) for own, painted in pairs]
    first, *others = [Image.fromarray(frame) for frame in (*frames, *frames[-2:0:-1])]
    first.save(path, save_all=True, append_images=others, duration=1000 // RATE, loop=0, quality=80, method=6)


def _shown(frame: Image.Image) -> np.ndarray:
    return np.asarray(frame.resize(SHOWN, Image.Resampling.LANCZOS))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="clip, painting (default: both)")
    chosen = parser.parse_args().what or ["clip", "painting"]
    if "clip" in chosen:
        with Image.open(DEMO_CONTENT) as photograph:
            write_clip(DEMO_CLIP, panned(photograph.convert("RGB")))
    if "painting" in chosen:
        write_painting(ROOT / "docs" / "film.webp")


if __name__ == "__main__":
    main()

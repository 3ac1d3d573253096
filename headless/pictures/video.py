"""Videos through PyAV: frames read upright one after another, and written again beside the sound of the original."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from ...banks.atomic import write_whole
from ...core.errors import MagicStyleError
from .sizes import Size

VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
CODECS = "libx264", "libopenh264"  # the first that PyAV has
COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac"})  # sound that an mp4 takes as it is
HD = 720  # lines from which on players take the colours for those of BT.709
ADVICE = "give a video that plays elsewhere"


class VideoFacts(NamedTuple):
    """What is known of a video before its frames are decoded."""

    size: Size  # upright
    frames: int  # as its file says; 0 where it does not
    sounds: int  # how many tracks


def is_video(name: str) -> bool:
    """Whether a file of this name is a video, as far as its ending tells."""
    return Path(name).suffix.lower() in VIDEOS


def look(path: Path) -> VideoFacts:
    """A video's facts, from its header and its first frame."""
    with _opened(path) as container:
        stream = _picture_stream(path, container)
        first = next(container.decode(stream), None)
        if first is None:
            raise MagicStyleError(f"{path} has no frame that can be decoded: {ADVICE}.")
        size = _upright(first, Image.new("L", (first.width, first.height))).size
        return VideoFacts(size, stream.frames, len(container.streams.audio))


def read_frames(path: Path) -> Iterator[Image.Image]:
    """A video's frames as RGB, upright."""
    with _opened(path) as container:
        for frame in container.decode(_picture_stream(path, container)):
            colours = "ITU709" if _is_hd(frame) else "ITU601"
            pixels = frame.reformat(format="rgb24", src_colorspace=colours).to_ndarray()
            yield _upright(frame, Image.fromarray(pixels))


def read_comment(path: Path) -> str | None:
    """What `write_video` noted in a file; None where it is no video, or says nothing."""
    try:
        with _opened(path) as container:
            return container.metadata.get("comment")
    except (MagicStyleError, OSError):
        return None


def write_video(path: Path, source: Path, pictures: Iterable[Image.Image], comment: str) -> None:
    """Write all of an mp4 or nothing: pictures in the place of the source's frames, at their times, and its sound."""
    write_whole(path, lambda file: _write(file, source, iter(pictures), comment))


def _write(file: BinaryIO, source: Path, pictures: Iterator[Image.Image], comment: str) -> None:
    av = library(source)
    with _opened(source) as given, av.open(file, "w", format="mp4") as made:
        made.metadata["comment"] = comment
        stream = _picture_stream(source, given)
        picture = next(pictures)
        encoder = _Encoder(av, made, stream, picture.size)
        sounds = {sound.index: _Sound(av, made, sound) for sound in given.streams.audio}
        for packet in given.demux(stream, *given.streams.audio):
            if packet.stream.type == "audio":
                sounds[packet.stream.index].take(packet)
                continue
            for frame in packet.decode():
                encoder.take(frame, picture)
                picture = next(pictures, picture)
        encoder.end()
        for sound in sounds.values():
            sound.end()


class _Encoder:
    """The pictures of a video that is written, each at the time of a frame of the source."""

    def __init__(self, av: Any, made: Any, source: Any, size: Size) -> None:
        codec = next((name for name in CODECS if name in av.codecs_available), None)
        if codec is None:
            raise MagicStyleError("this PyAV writes no H.264: pip install av brings one that does.")
        rate = source.average_rate or source.guessed_rate or Fraction(25)
        self._av, self._made = av, made
        self._stream = made.add_stream(codec, rate=rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = *size, "yuv420p"
        if codec == CODECS[0]:
            self._stream.options = {"crf": "18"}
        self._base = source.time_base or 1 / Fraction(rate)
        self._stream.codec_context.time_base = self._base
        self._step = 1 / (Fraction(rate) * self._base)
        self._next = Fraction(0)

    def take(self, frame: Any, picture: Image.Image) -> None:
        """One picture, at the time of a frame; a frame without a time comes behind the one before."""
        made = self._av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        colours = "ITU709" if picture.height >= HD else "ITU601"
        made = made.reformat(format="yuv420p", dst_colorspace=colours)
        made.pts = round(self._next) if frame.pts is None else frame.pts
        made.time_base = self._base
        self._next = made.pts + self._step
        self._made.mux(self._stream.encode(made))

    def end(self) -> None:
        """What the encoder holds back."""
        self._made.mux(self._stream.encode(None))


class _Sound:
    """One track of the source's sound: copied where an mp4 takes it as it is, else encoded again."""

    def __init__(self, av: Any, made: Any, source: Any) -> None:
        self._made, self._copied = made, source.codec_context.name in COPIED
        if self._copied:
            self._stream = made.add_stream_from_template(source)
            return
        self._stream = made.add_stream("aac", rate=source.rate or 48000)
        self._stream.layout = source.layout.name
        self._resampler = av.AudioResampler(format="fltp", layout=source.layout.name, rate=source.rate or 48000)

    def take(self, packet: Any) -> None:
        """One packet of the source."""
        if self._copied and packet.dts is not None:
            packet.stream = self._stream
            self._made.mux(packet)
        elif not self._copied:
            for frame in packet.decode():
                self._encode(frame)

    def end(self) -> None:
        """What is held back."""
        if not self._copied:
            self._encode(None)
            self._made.mux(self._stream.encode(None))

    def _encode(self, frame: Any) -> None:
        for part in self._resampler.resample(frame):
            self._made.mux(self._stream.encode(part))


def library(path: Path) -> Any:
    """PyAV, or one sentence that says how to get it."""
    try:
        import av
    except ImportError:
        raise MagicStyleError(
            f"{path} is a video, which is read with PyAV, which is not installed: pip install av."
        ) from None
    return av


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A video's container; what its library cannot read is one sentence."""
    av = library(path)
    try:
        with av.open(str(path)) as container:
            yield container
    except av.error.FFmpegError as error:
        raise MagicStyleError(f"{path} cannot be read as a video ({error.strerror}): {ADVICE}.") from None


def _picture_stream(path: Path, container: Any) -> Any:
    """The first stream of pictures."""
    if not container.streams.video:
        raise MagicStyleError(f"{path} holds no pictures, only sound: {ADVICE}.")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _is_hd(frame: Any) -> bool:
    """Whether a frame's colours are those of BT.709: as it says, else by its lines, as players take them."""
    named = int(getattr(frame, "colorspace", 2))
    return named == 1 or named == 2 and frame.height >= HD


def _upright(frame: Any, picture: Image.Image) -> Image.Image:
    """A picture turned as its frame says that it was held."""
    turn = int(getattr(frame, "rotation", 0)) % 360
    return picture.rotate(turn, expand=True) if turn else picture

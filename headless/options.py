"""The command line: its options, and what they mean once they are checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..core.errors import MagicStyleError
from ..core.presets import PRESETS
from ..model_files.demo import DEMO_CONTENT, DEMO_STYLE
from ..picture_files.kinds import is_picture
from .choices import model_and_recipe
from .engine.blocks import parse_shape
from .engine.checkpoints import ModelFile
from .engine.recipe import Recipe
from .option_table import COMMANDS, INVERT, STYLIZE, add_options, owners
from .pairs.plan import Order
from .pictures.masks import chosen_masks
from .pictures.reading import missing_hint, pictures_in, skipped_in
from .pictures.sizes import Frame, LongerSide

USAGE = """\
magicstyle stylize                                   a photograph painted like a Hokusai print: the shipped pair
magicstyle stylize me.jpg monet.jpg                  one portrait like one picture
magicstyle stylize photos/ monet.jpg klimt.png       every picture of a folder like each of two
magicstyle stylize clip.mp4 monet.jpg                a video frame by frame, its sound kept
magicstyle stylize me.jpg monet.jpg --checkpoint sd15.safetensors
                                                     with a model of your own instead of the demo model
magicstyle invert-styles styles/ --library library/  every style picture of a folder inverted once, for any portrait
magicstyle stylize photos/ --library library/        every picture of a folder like each style of a library
magicstyle stylize --help                            all options of a command, and invert-styles --help the other's
"""
EPILOG = """\
Without --checkpoint the demo model paints, photographs of people best: head and shoulders, since small faces dissolve.
Pictures are cropped to the working size towards the top.

Results are named after both pictures. A rerun skips what is finished. A picture that exists is never replaced: where
the name is taken by other pictures or settings, a digest is added to it. --overwrite makes finished pictures again and
replaces those of the same pair with other settings; an input or a picture of other origin is never touched.

Of a video (.mp4, .mov, .mkv, .webm ..) finished frames lie in a folder beside its result until all are painted, and a
rerun continues there; --batch says how many frames are painted at once.

Exit code: 0 all pictures made, 1 some failed, 2 nothing could be begun, 130 interrupted.
"""
ABOUT = {
    STYLIZE: "Paint portraits in styles.",
    INVERT: "Invert every style picture of one or more folders into a library, once, for any portrait.",
}
ENDS = {
    STYLIZE: EPILOG,
    INVERT: "A rerun inverts what is new or has changed.\n\nExit code: 0 all inverted, 1 some failed, 2 nothing begun.",
}
NOT_OF_FILMS = ("sheet", "keep", "block")  # options that a video has not
NOT_PNG = {".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jxl"}
# options whose value names something, so that an empty one is a slip, such as a variable that is not set
NAMES = (
    "content",
    "style",
    "out",
    "checkpoint",
    "size",
    "layers",
    "device",
    "keep",
    "block",
    "library",
    "shard",
    "ray",
)


class FilmRequest(NamedTuple):
    """A video to be made, as far as the command line tells."""

    source: Path
    style: Path
    out: Path  # a folder, or the name of an .mp4
    recipe: Recipe
    frame: Frame | LongerSide
    model: ModelFile
    device: str | None
    batch: int | None
    overwrite: bool


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise MagicStyleError(f"{message}; {self.prog} --help lists the options.")


class Request(NamedTuple):
    """What is to be made, as far as the command line tells."""

    contents: list[Path]
    styles: list[Path]
    out: Path
    one_file: bool
    order: Order
    model: ModelFile
    device: str | None
    skipped: list[str]  # files of the named folders that are no pictures


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of one command; without one, what `magicstyle --help` shows.

    Each command has a parser of its own instead of one of add_subparsers(), whose parsers do not take options between
    the pictures.
    """
    look = argparse.RawDescriptionHelpFormatter
    if command is None:
        found = Parser("magicstyle", description=USAGE, epilog=EPILOG, formatter_class=look)
        found.add_argument("command", choices=COMMANDS, help="each has a --help of its own")
        found.add_argument("--version", action="store_true", help="say which version this is")
        return found
    found = Parser(f"magicstyle {command}", description=ABOUT[command], epilog=ENDS[command], formatter_class=look)
    add_options(found, command)
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options as text, with a hint where the command was left out or a picture's name begins with a dash."""
    command, rest = arguments[0], list(arguments[1:])
    if command in ("-h", "--help"):
        parser().parse_args([command])
    if command.startswith("-"):
        raise MagicStyleError(
            f"{command} stands before the command: write magicstyle stylize {command}; magicstyle --help lists both."
        )
    if command not in COMMANDS:
        shown = " ".join(arguments[:3])
        raise MagicStyleError(
            f"'{command}' is no command: write magicstyle stylize {shown}; magicstyle --help lists both."
        )
    found = parser(command)
    try:
        given = found.parse_intermixed_args(rest)
        chosen = {**_of_preset(given.preset), **_of_likeness(given)}
        if chosen:
            found.set_defaults(**chosen)
            given = found.parse_intermixed_args(rest)
    except MagicStyleError as error:
        raise MagicStyleError(_with_hint(str(error), command, rest)) from None
    given.command = command
    return given


def _with_hint(message: str, command: str, arguments: Sequence[str]) -> str:
    """What argparse says, and what it cannot know: of whom an option is, and how a dashed name is written."""
    dashed = next((a for a in arguments if a.startswith("-") and is_picture(a)), None)
    if dashed is not None:
        return message.replace("; magicstyle", f"; a name that begins with a dash is written ./{dashed}; magicstyle")
    foreign = [a.partition("=")[0] for a in arguments if a.startswith("-")]
    foreign = [a for a in foreign if owners(a) and command not in owners(a)]
    if foreign and "unrecognized" in message:
        return f"{foreign[0]} means nothing to {command}, only to {owners(foreign[0])[0]}: leave it out."
    return message


def _of_preset(name: str | None) -> dict[str, Any]:
    """What a preset sets."""
    if name is None:
        return {}
    steps, inversion = PRESETS[name].steps, PRESETS[name].inversion
    return {"steps": steps, "inversion": inversion.method, "corrections": inversion.corrections}


def _of_likeness(given: argparse.Namespace) -> dict[str, Any]:
    """What a likeness sets for the whole picture; a mask has it for a strength instead."""
    likeness = getattr(given, "likeness", None)
    if likeness is None or given.keep is not None:
        return {}
    if not 0.0 <= likeness <= 1.0:
        raise MagicStyleError(f"--likeness is {likeness}: choose a value from 0 to 1.")
    return {"query_preservation": likeness}


def read_request(given: argparse.Namespace) -> Request:
    """The options checked, without loading anything but headers."""
    contents, styles = chosen_pictures(given.content, given.style)
    out, one_file = chosen_output(given.out)
    model, recipe, frame = model_and_recipe(given)
    order = Order(
        recipe=recipe,
        frame=frame,
        checkpoint=model.identity,
        sheet=given.sheet,
        overwrite=given.overwrite,
        quiet=given.quiet,
        masks=chosen_masks(given.keep, given.likeness),
        block=None if given.block is None else parse_shape(given.block),
        batch=given.batch,
    )
    return Request(
        contents=contents,
        styles=styles,
        out=out,
        one_file=one_file,
        order=order,
        model=model,
        device=given.device,
        skipped=skipped_of([given.content, *given.style, given.keep], out),
    )


def read_film(given: argparse.Namespace) -> FilmRequest:
    """The options of a video checked, without loading anything but headers."""
    for name in NOT_OF_FILMS:
        if getattr(given, name):
            raise MagicStyleError(f"--{name} means nothing to a video: leave it out.")
    styles = [path for style in given.style for path in pictures_in(Path(style))]
    if len(styles) != 1:
        raise MagicStyleError(f"{given.content} is a video, painted in one style: name one picture after it.")
    source, out = Path(given.content), Path(given.out)
    if not source.is_file():
        raise MagicStyleError(f"{source} does not exist: {missing_hint(source)}.")
    if out.suffix and out.suffix.lower() != ".mp4" and not out.is_dir():
        raise MagicStyleError(f"-o {out} ends with {out.suffix}, but videos are MP4: give an .mp4 name or a folder.")
    model, recipe, frame = model_and_recipe(given)
    return FilmRequest(source, styles[0], out, recipe, frame, model, given.device, given.batch, given.overwrite)


def skipped_of(named: Sequence[str | None], out: Path) -> list[str]:
    """What of the named folders is not taken; the folder of results is not missed."""
    places = dict.fromkeys(Path(text) for text in named if text is not None)
    return [name for place in places for name in skipped_in(place, out)]


def check_given(given: argparse.Namespace) -> None:
    """Refuse empty values."""
    for name in NAMES:
        values = getattr(given, name, None)
        if "" in (values if isinstance(values, list) else [values]):
            shown = name.upper() if name in ("content", "style") else f"--{name}"
            raise MagicStyleError(f"{shown} is empty: leave it out or give a value (is a variable not set?).")


def chosen_pictures(content: str | None, styles: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The portraits and the style pictures; the shipped pair when neither is named."""
    if content is None:
        return [DEMO_CONTENT], [DEMO_STYLE]
    contents = pictures_in(Path(content))
    if not styles:
        raise MagicStyleError(f"there is no style: name one or more pictures after {content}.")
    found = [picture for style in styles for picture in pictures_in(Path(style))]
    return contents, list(dict.fromkeys(found))


def chosen_output(text: str) -> tuple[Path, bool]:
    """Where results go, and whether that is a file."""
    out, suffix = Path(text), Path(text).suffix.lower()
    if out.is_dir() or text.endswith(("/", "\\")):
        return out, False
    if text == "-":
        raise MagicStyleError("-o is -, but pictures are not written to standard output: give a folder or a .png name.")
    if out.exists() and not (suffix == ".png" and out.is_file()):
        kind = "a file" if out.is_file() else "no folder"
        raise MagicStyleError(f"-o {out} is {kind}: give a folder or a .png name.")
    if suffix in NOT_PNG:
        raise MagicStyleError(f"-o {out} ends with {out.suffix}, but results are PNG: give a .png name or a folder.")
    return out, suffix == ".png"

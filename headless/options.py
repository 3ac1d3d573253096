"""The command line: its options, and what they mean once they are checked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..core.errors import MagicStyleError
from ..core.fusion import FUSIONS, FusionSettings
from ..core.inversion_methods import INVERSIONS, InversionSettings
from ..core.layers import select_layers
from ..core.level_groups import MOST_EVERY
from ..core.presets import PRESETS
from ..model_files.demo import DEMO_CONTENT, DEMO_STYLE
from .blocks import HELD, MOST, parse_shape
from .checkpoints import ModelFile, model_file
from .masks import chosen_masks
from .pictures import SUFFIXES, pictures_in
from .plan import Order
from .recipe import Recipe
from .sizes import Frame, LongerSide, parse_size

USAGE = """\
magicstyle stylize                                   a photograph painted like a van Gogh: the shipped pair
magicstyle stylize me.jpg monet.jpg                  one portrait like one picture
magicstyle stylize photos/ monet.jpg klimt.png       every picture of a folder like each of two
magicstyle stylize me.jpg monet.jpg --checkpoint sd15.safetensors
                                                     with a model of your own instead of the demo model
magicstyle invert-styles styles/ --library library/  every style picture of a folder inverted once, for any portrait
magicstyle stylize photos/ --library library/        every picture of a folder like each style of a library
"""
EPILOG = """\
Without --checkpoint the demo model paints, photographs of people best: head and shoulders, since small faces dissolve.
Pictures are cropped to the working size towards the top.

Results are named after both pictures. A rerun skips what is finished. A picture that exists is never replaced: where
the name is taken by other pictures or settings, a digest is added to it. --overwrite makes finished pictures again and
replaces those of the same pair with other settings; an input or a picture of other origin is never touched.

Exit code: 0 all pictures made, 1 some failed, 2 nothing could be begun, 130 interrupted.
"""
COMMANDS = ("stylize", "invert-styles")
KNOBS = {
    "style_weight": "how strongly the style's features weigh; 0 leaves the style out",
    "content_weight": "how strongly the portrait's own features weigh; 0 paints with the style alone",
    "query_preservation": "from 0 to 1: higher keeps more of the portrait's outlines",
    "temperature": "higher picks fewer, better matching style patches and looks sharper",
}
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


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise MagicStyleError(f"{message}; magicstyle --help lists the options.")


class Request(NamedTuple):
    """What is to be made, as far as the command line tells."""

    contents: list[Path]
    styles: list[Path]
    out: Path
    one_file: bool
    order: Order
    model: ModelFile
    device: str | None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser("magicstyle", description=USAGE, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("command", choices=COMMANDS)
    found.add_argument("content", metavar="CONTENT", nargs="?", help="a portrait, or a folder of them")
    found.add_argument("style", metavar="STYLE", nargs="*", help="pictures (or folders) to paint like")
    found.add_argument("-o", "--out", default="magicstyle-output", help="a folder, or a .png (default: %(default)s)")
    found.add_argument("--checkpoint", help="a single-file SD1.5 checkpoint (.safetensors); default: the demo model")
    found.add_argument(
        "--sheet", action="store_true", help="also a labelled sheet: content, style, reconstruction, result"
    )
    found.add_argument(
        "--size",
        help="working size, 512 or 384x512 (default: the picture's own aspect, with the demo model 512 on the longer "
        "side, with a checkpoint about 512x512)",
    )
    found.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="steps and inversion by what they cost: "
        + "; ".join(f"{name}: {preset.calls} model calls, {preset.summary}" for name, preset in PRESETS.items())
        + " (options that you give besides hold)",
    )
    found.add_argument("--steps", type=int, default=50, help="of inversion and sampling (default: %(default)s)")
    found.add_argument("--layers", default="output.6-11", help="where features are fused (default: %(default)s)")
    _add_inversion(found.add_argument_group("inversion"))
    _add_knobs(found.add_argument_group("fusion"))
    _add_stores(found.add_argument_group("many pictures (docs/scale.md)"))
    found.add_argument("--device", help="such as cpu or cuda (default: cuda where there is one)")
    found.add_argument(
        "--block",
        metavar="16x50",
        help="portraits x styles that are painted together, each inverted latent run once a step for all of them "
        f"(default: 16x50 with more than {HELD} styles, else pair by pair with the styles' features held in memory)",
    )
    found.add_argument("--batch", type=int, help="pictures in one model call of a block (default: 4, on a GPU 16)")
    found.add_argument("--overwrite", action="store_true", help="make finished pictures again")
    found.add_argument("--quiet", action="store_true", help="no progress, only paths and what goes wrong")
    found.add_argument("--version", action="store_true", help="say which version this is")
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options as text, with a hint where the command was left out or a picture's name begins with a dash."""
    if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        shown = " ".join(arguments[:3])
        raise MagicStyleError(
            f"'{arguments[0]}' is no command: write magicstyle stylize {shown}; magicstyle --help lists the options."
        )
    found = parser()
    try:
        given = found.parse_intermixed_args(arguments)
        chosen = {**_of_preset(given.preset), **_of_likeness(given.likeness, given.keep)}
        if not chosen:
            return given
        found.set_defaults(**chosen)
        return found.parse_intermixed_args(arguments)
    except MagicStyleError as error:
        dashed = next((a for a in arguments if a.startswith("-") and Path(a).suffix.lower() in SUFFIXES), None)
        hint = "" if dashed is None else f" a name that begins with a dash is written ./{dashed};"
        raise MagicStyleError(str(error).replace("; magicstyle", f";{hint} magicstyle")) from None


def _of_preset(name: str | None) -> dict[str, Any]:
    """What a preset sets."""
    if name is None:
        return {}
    steps, inversion = PRESETS[name].steps, PRESETS[name].inversion
    return {"steps": steps, "inversion": inversion.method, "corrections": inversion.corrections}


def _of_likeness(likeness: float | None, keep: str | None) -> dict[str, Any]:
    """What a likeness sets for the whole picture; a mask has it for a strength instead."""
    if likeness is None or keep is not None:
        return {}
    if not 0.0 <= likeness <= 1.0:
        raise MagicStyleError(f"--likeness is {likeness}: choose a value from 0 to 1.")
    return {"query_preservation": likeness}


def request(given: argparse.Namespace) -> Request:
    """The options checked, without loading anything but headers."""
    contents, styles = chosen_pictures(given.content, given.style)
    out, one_file = chosen_output(given.out)
    model, recipe, frame = model_and_recipe(given)
    masks = chosen_masks(given.keep, given.likeness)
    block = None if given.block is None else parse_shape(given.block)
    order = Order(recipe, frame, model.identity, given.sheet, given.overwrite, given.quiet, masks, block, given.batch)
    return Request(contents, styles, out, one_file, order, model, given.device)


def model_and_recipe(given: argparse.Namespace) -> tuple[ModelFile, Recipe, Frame | LongerSide]:
    """What pictures are made with, and at which sizes."""
    _check_numbers(given)
    settings = FusionSettings(given.method, *(getattr(given, name) for name in KNOBS))
    inversion = InversionSettings(given.inversion, given.corrections)
    size = None if given.size is None else parse_size(given.size)
    model = model_file(None if given.checkpoint is None else Path(given.checkpoint))
    select_layers(given.layers, dict.fromkeys(model.layers, 0))
    frame = model.frame if size is None else Frame(size, fixed=True)
    return model, Recipe(settings, given.steps, given.layers, given.adain, inversion, given.every), frame


def check_given(given: argparse.Namespace) -> None:
    """Refuse empty values."""
    for name in NAMES:
        values = getattr(given, name)
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
    if suffix in SUFFIXES - {".png"}:
        raise MagicStyleError(f"-o {out} ends with {out.suffix}, but results are PNG: give a .png name or a folder.")
    return out, suffix == ".png"


def _check_numbers(given: argparse.Namespace) -> None:
    if not 1 <= given.steps <= 999:
        raise MagicStyleError(f"--steps is {given.steps}: choose a number from 1 to 999.")
    if given.batch is not None and not 1 <= given.batch <= MOST:
        raise MagicStyleError(f"--batch is {given.batch}: choose a number from 1 to {MOST}.")
    if not 0.0 <= given.adain <= 1.0:
        raise MagicStyleError(f"--adain is {given.adain}: choose a value from 0 to 1.")
    if not 1 <= given.every <= MOST_EVERY:
        raise MagicStyleError(
            f"--every is {given.every}: choose a number from 1, which keeps each noise level, to {MOST_EVERY}."
        )


def _add_inversion(group: argparse._ArgumentGroup) -> None:
    default = InversionSettings()
    group.add_argument(
        "--inversion",
        choices=list(INVERSIONS),
        default=default.method,
        help="ddim: plain; fixed_point: samples back closer; exact: samples back to the same picture; noising: none, "
        "fast; midpoint: samples back much closer for the calls of ddim (default: %(default)s)",
    )
    group.add_argument(
        "--corrections",
        type=int,
        default=default.corrections,
        help="of each step of fixed_point, a model call each (default: %(default)s)",
    )
    group.add_argument(
        "--every",
        type=int,
        default=Recipe.every,
        help="keep the features of one noise level in so many, which serves its neighbours: 5 takes a fifth of the "
        "memory and at 50 steps changes hardly anything (default: %(default)s)",
    )


def _add_stores(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--library",
        metavar="PLACE",
        help="a folder or an address (s3://, gs://) of inverted styles, which invert-styles makes; portraits and -o "
        "may then be addresses, too, and STYLE names styles of the library (default: all)",
    )
    group.add_argument("--shard", metavar="I/N", help="make the I-th of N parts, for a job array")
    group.add_argument("--ray", metavar="ADDRESS", help="paint on a Ray cluster, or auto: the one that runs here")
    group.add_argument("--workers", type=int, help="on Ray (default: one for each GPU, without any for each core)")


def _add_knobs(group: argparse._ArgumentGroup) -> None:
    default = FusionSettings()
    group.add_argument("--method", choices=list(FUSIONS), default=default.method, help="default: %(default)s")
    for name, text in KNOBS.items():
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, type=float, default=getattr(default, name), help=f"{text} (default: %(default)s)")
    group.add_argument(
        "--likeness",
        type=float,
        help="one knob from 0, the style's, to 1, the portrait's: how far the white of --keep is kept (default: 1), or "
        "without a mask query preservation at this value",
    )
    group.add_argument(
        "--keep",
        metavar="MASK",
        help="where portraits stay like themselves, such as the face: a picture whose white is kept and whose black is "
        "styled as ever, or a folder with one for each portrait, by the same name",
    )
    group.add_argument(
        "--adain", type=float, default=1.0, help="from 0 to 1: how far overall colours move (default: %(default)s)"
    )

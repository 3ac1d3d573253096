"""The `magicstyle` command.

magicstyle stylize                                   the shipped pair with the demo model
magicstyle stylize me.jpg monet.jpg                  one portrait like one picture
magicstyle stylize photos/ monet.jpg klimt.png       every picture of a folder like each of two
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import MagicStyleError
from ..core.fusion import METHODS, FusionSettings
from ..core.inversion_methods import INVERSIONS, InversionSettings
from ..core.weights import DEMO_CONTENT, DEMO_MODEL, DEMO_STYLE
from .pictures import Size, pictures_in

if TYPE_CHECKING:
    from .jobs import Outcome

OK, SOME_FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
DEMO_SIZE, SD15_SIZE = 128, 512
SIDES = range(64, 2049)
GRID = 8  # pixels per latent pixel, of either model
KNOBS = {
    "style_weight": "how strongly the style's features weigh; 0 leaves the style out",
    "content_weight": "how strongly the portrait's own features weigh; 0 paints with the style alone",
    "query_preservation": "from 0 to 1: higher keeps more of the portrait's outlines",
    "temperature": "higher picks fewer, better matching style patches and looks sharper",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        "magicstyle",
        description=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit code: 0 all pictures made, 1 some failed, 2 unusable arguments. A rerun skips finished pictures.",
    )
    found.add_argument("command", choices=["stylize"])
    found.add_argument("content", metavar="CONTENT", type=Path, nargs="?", help="a portrait, or a folder of them")
    found.add_argument("style", metavar="STYLE", type=Path, nargs="*", help="pictures (or folders) to paint like")
    found.add_argument(
        "-o", "--out", type=Path, default=Path("magicstyle-output"), help="a folder, or a .png (default: %(default)s)"
    )
    found.add_argument(
        "--checkpoint", type=Path, help="a single-file SD1.5 checkpoint (.safetensors); default: the demo model"
    )
    found.add_argument(
        "--sheet", action="store_true", help="also a labelled sheet: content, style, reconstruction, result"
    )
    found.add_argument("--size", help="working size, 512 or 384x512 (default: 128 demo model, 512 checkpoint)")
    found.add_argument("--steps", type=int, default=50, help="of inversion and sampling (default: %(default)s)")
    found.add_argument("--layers", default="output.6-11", help="where features are fused (default: %(default)s)")
    _add_inversion(found.add_argument_group("inversion"))
    _add_knobs(found.add_argument_group("fusion"))
    found.add_argument("--device", help="such as cpu or cuda (default: cuda where there is one)")
    found.add_argument("--overwrite", action="store_true", help="make finished pictures again")
    found.add_argument("--quiet", action="store_true", help="no progress bars")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code says whether everything was made."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    given = parser().parse_intermixed_args(arguments)
    try:
        return _stylize(given)
    except MagicStyleError as error:
        print(f"magicstyle: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("magicstyle: interrupted; a rerun continues", file=sys.stderr)
        return INTERRUPTED


def _add_inversion(group: argparse._ArgumentGroup) -> None:
    default = InversionSettings()
    group.add_argument(
        "--inversion",
        choices=list(INVERSIONS),
        default=default.method,
        help="ddim: plain; fixed_point: samples back closer; exact: samples back to the same picture; noising: none, "
        "fast (default: %(default)s)",
    )
    group.add_argument(
        "--corrections",
        type=int,
        default=default.corrections,
        help="of each step of fixed_point, a model call each (default: %(default)s)",
    )


def _add_knobs(group: argparse._ArgumentGroup) -> None:
    default = FusionSettings()
    group.add_argument("--method", choices=list(METHODS), default=default.method, help="default: %(default)s")
    for name, text in KNOBS.items():
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, type=float, default=getattr(default, name), help=f"{text} (default: %(default)s)")
    group.add_argument(
        "--adain", type=float, default=1.0, help="from 0 to 1: how far overall colours move (default: %(default)s)"
    )


def _stylize(given: argparse.Namespace) -> int:
    """Check every argument before anything slow is imported, then make all pairs."""
    size = parse_size(given.size, DEMO_SIZE if given.checkpoint is None else SD15_SIZE)
    settings = FusionSettings(given.method, *(getattr(given, name) for name in KNOBS))
    inversion = InversionSettings(given.inversion, given.corrections)
    contents, styles = chosen_pictures(given.content, given.style)
    _check_numbers(given)
    from .jobs import Order, plan_pairs, run  # diffusers takes seconds to import
    from .model import load_model
    from .stylize import Recipe

    pairs = plan_pairs(contents, styles, given.out, sheet=given.sheet)
    recipe = Recipe(settings, given.steps, given.layers, given.adain, inversion)
    checkpoint = DEMO_MODEL if given.checkpoint is None else given.checkpoint
    order = Order(recipe, size, _identity(checkpoint), given.overwrite, given.quiet)
    return _report(run(pairs, order, partial(load_model, given.checkpoint, _device(given.device))))


def chosen_pictures(content: Path | None, styles: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The portraits and the style pictures; the shipped pair when neither is named."""
    if content is None:
        return [DEMO_CONTENT], [DEMO_STYLE]
    if not styles:
        raise MagicStyleError(f"there is no style: name one or more pictures after {content}.")
    found = [picture for style in styles for picture in pictures_in(style)]
    return pictures_in(content), list(dict.fromkeys(found))


def parse_size(text: str | None, default: int) -> Size:
    """'512' or '384x512' -> (width, height)."""
    parts = (text or str(default)).lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise MagicStyleError(f"--size is '{text}': write one side, such as 512, or width x height, such as 384x512.")
    size = int(parts[0]), int(parts[-1])
    if any(side % GRID or side not in SIDES for side in size):
        raise MagicStyleError(f"--size is '{text}': choose multiples of {GRID} from {SIDES[0]} to {SIDES[-1]}.")
    return size


def _check_numbers(given: argparse.Namespace) -> None:
    if not 1 <= given.steps <= 999:
        raise MagicStyleError(f"--steps is {given.steps}: choose a number from 1 to 999.")
    if not 0.0 <= given.adain <= 1.0:
        raise MagicStyleError(f"--adain is {given.adain}: choose a value from 0 to 1.")


def _identity(checkpoint: Path) -> str:
    """What tells one model file from another without reading it."""
    if not checkpoint.is_file():
        raise MagicStyleError(f"the checkpoint {checkpoint} does not exist: check the name.")
    facts = checkpoint.stat()
    return f"{checkpoint.name} {facts.st_size}"


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise MagicStyleError(f"--device '{name}' cannot be used ({reason}): try cpu.") from None
    return name


def _report(outcome: Outcome) -> int:
    """Say what was made where, and at the end what failed."""
    for pair in outcome.made:
        print(pair.result if pair.sheet is None else f"{pair.result}\n{pair.sheet}")
    if outcome.skipped:
        print(f"{len(outcome.skipped)} finished earlier and skipped (--overwrite makes them again)")
    for pair, reason in outcome.failed:
        print(f"magicstyle: {pair} failed: {reason}", file=sys.stderr)
    return SOME_FAILED if outcome.failed else OK


if __name__ == "__main__":
    sys.exit(main())

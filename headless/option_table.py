"""Every option of the command line as a row: which commands have it, in which group of their help, and what it says.

A command has the options that mean something to it, and refuses all others.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from ..core.fusion import FUSIONS, FusionSettings
from ..core.guidance import GUIDANCES, MAX_SCALE, StyleGuidance
from ..core.inversion_methods import INVERSIONS, InversionSettings
from ..core.presets import PRESETS
from .engine.blocks import HELD
from .engine.recipe import Recipe

STYLIZE, INVERT = "stylize", "invert-styles"
COMMANDS = (STYLIZE, INVERT)
BOTH = COMMANDS
MAIN, INVERSION, FUSION, MANY = "", "inversion", "fusion", "many pictures (docs/scale.md)"
KNOBS = {
    "style_weight": "how strongly the style's features weigh; 0 leaves the style out",
    "content_weight": "how strongly the portrait's own features weigh; 0 paints with the style alone",
    "query_preservation": "from 0 to 1: higher keeps more of the portrait's outlines",
    "temperature": "higher picks fewer, better matching style patches and looks sharper",
}
CONTROLS = {
    "key_scale": "multiplies the style's keys, from 0 to 4: above 1 the style draws more (default: 1)",
    "align": "from 0 to 1: how far the running picture's queries and keys take the style's mean and spread (default: "
    "the method's own, 1 of style_aligned and 0 of others)",
    "mix": "from 0 to 1: how much of the method's answer there is in the model's own (default: 1)",
    "style_weight_end": "moves --style-weight to this value, in even steps up to the last (default: it stays)",
    "match_weight": "of --method cocodiff, from 0 to 10: how much of its like each place gets (default: 0.6)",
    "detail": "from 0 to 1: how much of the portrait's fine detail the decoder adds (default: 0)",
}
_FUSION, _INVERSION = FusionSettings(), InversionSettings()


class Option(NamedTuple):
    """A row: names, the commands that have it, the group in their help, and argparse's own words for the rest."""

    names: tuple[str, ...]
    commands: tuple[str, ...]
    group: str
    facts: dict[str, Any]


def _row(*names: str, commands: tuple[str, ...] = BOTH, group: str = MAIN, **facts: Any) -> Option:
    return Option(names, commands, group, facts)


OPTIONS = (
    _row("content", commands=(STYLIZE,), metavar="CONTENT", nargs="?", help="a portrait, a folder of them, or a video"),
    _row("style", commands=(STYLIZE,), metavar="STYLE", nargs="*", help="pictures (or folders) to paint like"),
    _row("content", commands=(INVERT,), metavar="STYLES", nargs="*", help="folders, or addresses, of style pictures"),
    _row(
        "-o",
        "--out",
        commands=(STYLIZE,),
        default="magicstyle-output",
        help="a folder, or a .png, of a video an .mp4 (default: %(default)s)",
    ),
    _row("--checkpoint", help="a single-file SD1.5 checkpoint (.safetensors); default: the demo model"),
    _row(
        "--sheet",
        commands=(STYLIZE,),
        action="store_true",
        help="also a labelled sheet: content, style, reconstruction, result",
    ),
    _row(
        "--size",
        help="working size, 512 or 384x512 (default: the picture's own aspect, with the demo model 512 on the longer "
        "side, with a checkpoint about 512x512)",
    ),
    _row(
        "--preset",
        choices=list(PRESETS),
        help="steps and inversion by what they cost: "
        + "; ".join(f"{name}: {preset.calls} model calls, {preset.summary}" for name, preset in PRESETS.items())
        + " (options that you give besides hold)",
    ),
    _row("--steps", type=int, default=Recipe.steps, help="of inversion and sampling (default: %(default)s)"),
    _row(
        "--layers",
        commands=(STYLIZE,),
        default=Recipe.layers,
        help="where features are fused (default: %(default)s)",
    ),
    _row(
        "--inversion",
        group=INVERSION,
        choices=list(INVERSIONS),
        default=_INVERSION.method,
        help="ddim: plain; fixed_point: samples back closer; exact: samples back to the same picture; noising: none, "
        "fast; midpoint: samples back much closer for the calls of ddim; gamma: part an inversion, part a line to "
        "white noise (default: %(default)s)",
    ),
    _row(
        "--corrections",
        group=INVERSION,
        type=int,
        default=_INVERSION.corrections,
        help="corrections per step of fixed_point; each costs one model call (default: %(default)s)",
    ),
    _row(
        "--gamma",
        group=INVERSION,
        type=float,
        default=_INVERSION.gamma,
        help="of --inversion gamma, from 0 to 1: the model's share of each step; a line to white noise has the "
        "rest (default: %(default)s)",
    ),
    _row(
        "--level-stride",
        group=INVERSION,
        type=int,
        default=Recipe.every,
        metavar="N",
        help="keep the features of one noise level in so many, which serves its neighbours: 5 takes a fifth of the "
        "memory and at 50 steps changes hardly anything (default: %(default)s)",
    ),
    _row(
        "--method",
        commands=(STYLIZE,),
        group=FUSION,
        choices=[name for name, method in FUSIONS.items() if not method.lays_queries],
        default=_FUSION.method,
        help="default: %(default)s",
    ),
    *(
        _row(
            f"--{name.replace('_', '-')}",
            commands=(STYLIZE,),
            group=FUSION,
            type=float,
            default=getattr(_FUSION, name),
            help=f"{text} (default: %(default)s)",
        )
        for name, text in KNOBS.items()
    ),
    *(
        _row(
            f"--{name.replace('_', '-')}",
            commands=(STYLIZE,),
            group=FUSION,
            type=float,
            default=getattr(_FUSION.controls, name),
            help=text,
        )
        for name, text in CONTROLS.items()
    ),
    _row(
        "--guidance",
        commands=(STYLIZE,),
        group=FUSION,
        choices=list(GUIDANCES),
        help="a second pass in each step: nvqg leads away from the style picture's things, spg towards the style; a "
        "portrait mostly needs neither (default: none)",
    ),
    _row(
        "--style-scale",
        commands=(STYLIZE,),
        group=FUSION,
        type=float,
        help=f"of --guidance, from 0 to {MAX_SCALE:g}: how far each prediction moves (default: "
        f"{StyleGuidance.scale:g})",
    ),
    _row(
        "--likeness",
        commands=(STYLIZE,),
        group=FUSION,
        type=float,
        help="one knob from 0, the style's, to 1, the portrait's: how far the white of --keep is kept (default: 1), or "
        "without a mask query preservation at this value",
    ),
    _row(
        "--keep",
        commands=(STYLIZE,),
        group=FUSION,
        metavar="MASK",
        help="where portraits stay like themselves, such as the face: a picture whose white is kept and whose black is "
        "styled as ever, or a folder with one for each portrait, by the same name",
    ),
    _row(
        "--adain",
        commands=(STYLIZE,),
        group=FUSION,
        type=float,
        default=Recipe.adain,
        help="from 0 to 1: how far overall colours move (default: %(default)s)",
    ),
    _row(
        "--library",
        commands=(STYLIZE,),
        group=MANY,
        metavar="PLACE",
        help="a folder or an address (s3://, gs://) of inverted styles, which invert-styles makes; portraits and -o "
        "may then be addresses, too, and STYLE names styles of the library (default: all)",
    ),
    _row(
        "--library",
        commands=(INVERT,),
        group=MANY,
        metavar="PLACE",
        help="the folder or the address (s3://, gs://) that the inverted styles go to",
    ),
    _row("--shard", group=MANY, metavar="I/N", help="make the I-th of N parts, for a job array"),
    _row(
        "--ray",
        commands=(STYLIZE,),
        group=MANY,
        metavar="ADDRESS",
        help="paint on a Ray cluster, or auto: the one that runs here",
    ),
    _row(
        "--workers",
        commands=(STYLIZE,),
        group=MANY,
        type=int,
        help="workers on the Ray cluster (default: one per GPU, or one per core where there are no GPUs)",
    ),
    _row("--device", help="such as cpu or cuda (default: cuda where there is one)"),
    _row(
        "--block",
        commands=(STYLIZE,),
        group=MANY,
        metavar="16x50",
        help="portraits x styles that are painted together, each inverted latent run once a step for all of them "
        f"(default: 16x50 with more than {HELD} styles, else pair by pair with the styles' features held in memory)",
    ),
    _row(
        "--batch",
        commands=(STYLIZE,),
        group=MANY,
        type=int,
        help="pictures in one model call of a block (default: 4, on a GPU 16), or frames of a video at once (default: "
        "as many, if their features fit a quarter of the free memory)",
    ),
    _row("--overwrite", action="store_true", help="make again what is finished"),
    _row("--quiet", action="store_true", help="no progress, only paths and what goes wrong"),
    _row("--version", action="store_true", help="say which version this is"),
)


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Give a command's parser its rows, each in its group."""
    groups: dict[str, Any] = {MAIN: parser}
    for option in OPTIONS:
        if command in option.commands:
            if option.group not in groups:
                groups[option.group] = parser.add_argument_group(option.group)
            groups[option.group].add_argument(*option.names, **option.facts)


def owners(name: str) -> tuple[str, ...]:
    """The commands that have an option of this name."""
    return tuple(command for option in OPTIONS if name in option.names for command in option.commands)

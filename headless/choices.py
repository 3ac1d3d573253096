"""What pictures are made with, as options choose it, for both kinds of runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..banks.level_groups import MAX_EVERY
from ..core.controls import StyleControls
from ..core.errors import MagicStyleError
from ..core.fusion import FusionSettings
from ..core.guidance import StyleGuidance
from ..core.inversion_methods import InversionSettings
from ..core.layers import select_layers
from .engine.blocks import MAX_BLOCK_SIDE
from .engine.checkpoints import ModelFile, model_file
from .engine.recipe import Recipe
from .option_table import CONTROLS, KNOBS, STYLIZE
from .pictures.sizes import Frame, LongerSide, parse_size


def model_and_recipe(given: argparse.Namespace) -> tuple[ModelFile, Recipe, Frame | LongerSide]:
    """What pictures are made with, and at which sizes."""
    _check_numbers(given)
    inversion = InversionSettings(given.inversion, given.corrections, given.gamma)
    size = None if given.size is None else parse_size(given.size)
    model = model_file(None if given.checkpoint is None else Path(given.checkpoint))
    frame = model.frame if size is None else Frame(size, fixed=True)
    recipe = Recipe(steps=given.steps, inversion=inversion, every=given.level_stride)
    if given.command == STYLIZE:
        select_layers(given.layers, model.layers)
        controls = StyleControls(**{name: getattr(given, name) for name in CONTROLS})
        settings = FusionSettings(given.method, controls=controls, **{name: getattr(given, name) for name in KNOBS})
        guidance = _guidance(given)
        recipe = replace(recipe, settings=settings, layers=given.layers, adain=given.adain, guidance=guidance)
    return model, recipe, frame


def _guidance(given: argparse.Namespace) -> StyleGuidance:
    if given.guidance is None and given.style_scale is not None:
        raise MagicStyleError("--style-scale is for style guidance: give --guidance too, or leave it out.")
    if given.guidance is None:
        return Recipe.guidance
    return StyleGuidance(given.guidance, StyleGuidance.scale if given.style_scale is None else given.style_scale)


def _check_numbers(given: argparse.Namespace) -> None:
    if not 1 <= given.steps <= 999:
        raise MagicStyleError(f"--steps is {given.steps}: choose a number from 1 to 999.")
    if given.command == STYLIZE:
        _check_numbers_of_stylize(given)
    if not 1 <= given.level_stride <= MAX_EVERY:
        raise MagicStyleError(
            f"--level-stride is {given.level_stride}: choose a number from 1, which keeps each noise level, to "
            f"{MAX_EVERY}."
        )


def _check_numbers_of_stylize(given: argparse.Namespace) -> None:
    if given.batch is not None and not 1 <= given.batch <= MAX_BLOCK_SIDE:
        raise MagicStyleError(f"--batch is {given.batch}: choose a number from 1 to {MAX_BLOCK_SIDE}.")
    if not 0.0 <= given.adain <= 1.0:
        raise MagicStyleError(f"--adain is {given.adain}: choose a value from 0 to 1.")
    if given.workers is not None and given.ray is None:
        raise MagicStyleError("--workers is for runs on Ray: give --ray too, or leave it out.")
    if given.workers is not None and given.workers < 1:
        raise MagicStyleError(f"--workers is {given.workers}: choose 1 or more.")

"""Scores of photographs as a table in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .photo_measures import Score

HEAD = (
    "",
    "pairs",
    "**identity**",
    "below 0.6",
    "own photograph nearest",
    "faces lost",
    "faceres",
    "nearest by faceres",
    "**style**: patches",
    "ELite-Gram",
    "structure",
    "the style picture's structure",
)


def table(scores: Mapping[str, Score]) -> str:
    """A row for each score, by its name."""
    lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 1))]
    lines += [(label, *cells(found)) for label, found in scores.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cells(found: Score) -> tuple[str, ...]:
    """A score's numbers; nothing where a picture shows no one or a recogniser did not run."""
    return (
        str(found.pairs),
        _number(found.identity),
        _share(found.same),
        _share(found.first),
        str(found.lost),
        _number(found.second),
        _share(found.second_first),
        _number(found.patches),
        _number(found.gram),
        _number(found.structure),
        _number(found.leak),
    )


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return "lost" if math.isinf(value) else f"{value:.3f}"


def _share(value: float) -> str:
    """Of a share that is not all of it, 100 % is never said."""
    if math.isnan(value):
        return ""
    shown = f"{value:.0%}"
    return (f"{value:.1%}" if shown == "100%" and value < 1.0 else shown).replace("%", " %")

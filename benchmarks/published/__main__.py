"""StyleID's published comparison, settled with the weights that you bring (docs/published.md says what to fetch).

    python -m benchmarks.published --checkpoint sd-v1-4.safetensors --data StyleID/data --metric-weights weights \\
        --methods styleid,ffa --protocol styleid-repo

Run it again after it was stopped: what is finished is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FUSIONS

from .inputs import read_checkpoint, read_data, read_metric_weights
from .metrics import load_plugin
from .painting import Order, paint_all
from .reference import Calibration
from .report import write_report, write_sheet
from .scoring import Scorer, Scores, estimates
from .walks import PROTOCOLS, Walk, load_walk, times

BASE = "styleid"
ROUNDS = 1000
SIZES = {True: 128, False: 512}  # of the demo model's pictures, and of Stable Diffusion's
CALIBRATION = "calibration.json"
NOT_CALIBRATED = 3  # exit status


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        "python -m benchmarks.published", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--checkpoint", required=True, help="a .safetensors file of SD1.4, or the word demo")
    made.add_argument("--data", required=True, type=Path, help="a folder with cnt/ and sty/: StyleID's data folder")
    made.add_argument("--metric-weights", required=True, type=Path, help="the folder of the metrics' weight files")
    made.add_argument("--methods", default=BASE + ",ffa", help="separated by commas; default: %(default)s")
    made.add_argument("--protocol", choices=PROTOCOLS, default="styleid-repo")
    made.add_argument("--out", type=Path, default=Path("published_results"))
    made.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--block", type=int, default=8, help="styles kept in memory at a time; default: %(default)s")
    made.add_argument("--plugin", action="append", default=[], metavar="MODULE:FACTORY", help="a metric of your own")
    made.add_argument("--any-data", action="store_true", help="take other pictures than StyleID's")
    made.add_argument("--steps", type=int, default=50, help="other than 50 for a trial only")
    made.add_argument("--draws", type=int, default=ROUNDS, help="of the bootstrap; default: %(default)s")
    made.add_argument("--quiet", action="store_true", help="no progress bars")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    given = parser().parse_args(arguments)
    try:
        return compare(given)
    except MagicStyleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def compare(given: argparse.Namespace) -> int:
    """Check everything, paint, measure, write the table."""
    methods = chosen_methods(given.methods)
    order = read_order(given)
    weights = read_metric_weights(given.metric_weights, given.device)
    plugins = [load_plugin(name, device=given.device) for name in given.plugin]
    scorer = Scorer(weights, given.device, plugins)

    @cache
    def load() -> Walk:
        return load_walk(order.protocol, order.checkpoint.path, given.device, order.steps)

    def results(method: str) -> Scores:
        paint_all(order, method, load, quiet=given.quiet)
        return scorer.score(order, method, quiet=given.quiet)

    def report(scores: dict[str, Scores], calibration: Calibration | None) -> None:
        base = BASE if BASE in scores else None
        found = estimates(scores, base, given.draws)
        options = {"device": given.device, "rounds": given.draws, "base": base, "calibration": calibration}
        print(write_report(order, found, weights, **options).read_text(encoding="utf-8"))
        print(f"{write_sheet(order, list(scores))} shows some pairs.")

    scores: dict[str, Scores] = {}
    calibration = None
    if can_calibrate(order):
        scores[BASE] = results(BASE)
        calibration = Calibration(scores[BASE].summary()["FID"])
        (order.out / CALIBRATION).write_text(json.dumps(calibration._asdict()), encoding="utf-8")
        if not calibration.holds:
            report(scores, calibration)
            print(f"stopped: {calibration}; docs/published.md says what to look at.", file=sys.stderr)
            return NOT_CALIBRATED
    scores |= {method: results(method) for method in methods if method not in scores}
    report(scores, calibration or earlier_calibration(order))
    return 0


def chosen_methods(text: str) -> list[str]:
    """The methods that were named."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    for name in found:
        if name not in FUSIONS:
            raise MagicStyleError(f"--methods {name} is unknown: choose from {', '.join(FUSIONS)}.")
    if not found:
        raise MagicStyleError(f"--methods names none: choose from {', '.join(FUSIONS)}.")
    return found


def read_order(given: argparse.Namespace) -> Order:
    """Pictures, checkpoint and numbers, checked."""
    if min(given.steps, given.block, given.draws) < 1 or given.steps > 1000:
        raise MagicStyleError("--steps must be from 1 to 1000, --block and --draws at least 1.")
    if given.protocol == "styleid-repo":
        times(given.steps)
    checkpoint = read_checkpoint(given.checkpoint)
    size = SIZES[checkpoint.path is None]
    data = read_data(given.data, size, any_data=given.any_data)
    return Order(data, checkpoint, given.protocol, given.steps, size, given.out, given.block)


def can_calibrate(order: Order) -> bool:
    """Whether a published value can be expected: StyleID's pictures, walk and steps."""
    return order.protocol == "styleid-repo" and order.data.published and order.steps == 50


def earlier_calibration(order: Order) -> Calibration | None:
    """That of a run of `styleid-repo` with the same output folder."""
    path = order.out / CALIBRATION
    try:
        return Calibration(**json.loads(path.read_text(encoding="utf-8"))) if order.data.published else None
    except (OSError, ValueError, TypeError):
        return None


if __name__ == "__main__":
    sys.exit(main())

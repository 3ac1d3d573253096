"""The measured table in Markdown beside the published one, and a contact sheet."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch
from magicstyle.headless.pictures.reading import read_picture
from magicstyle.headless.pictures.sheet import contact_sheet
from magicstyle.headless.version import version

from .inputs import MetricWeights
from .painting import Order, cost, settings_of
from .reference import SOURCE, TABLE, Calibration
from .scoring import Estimate

SHOWN = 4  # pairs on the contact sheet
PUBLISHED_COLUMNS = ("ArtFID", "FID", "LPIPS", "CFSD")
WALKS = {
    "magicstyle": "this pack's own (every call on a latent of its own noise level, rounded pixels)",
    "styleid-repo": "StyleID's script (levels 1 to 981, then 999; start at 961; truncated pixels)",
}
Estimates = Mapping[str, Mapping[str, Estimate]]


def versions() -> str:
    """What ran."""
    names = ("torch", "diffusers", "transformers", "numpy")
    return ", ".join([f"magicstyle {version()}", f"Python {platform.python_version()}", *map(_version, names)])


def _version(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"{name} missing"


def device_name(device: str) -> str:
    """The device in words."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"


def write_report(
    order: Order,
    found: Estimates,
    weights: MetricWeights,
    *,
    device: str,
    rounds: int,
    base: str | None,
    calibration: Calibration | None,
) -> Path:
    """Write table.md; returns its path."""
    facts = [
        f"Protocol: `{order.protocol}`, {WALKS[order.protocol]}; {order.steps} steps.",
        f"Pictures: {order.data.title}, {order.size}x{order.size}.",
        f"Checkpoint: {order.checkpoint.title}.",
        f"Device: {device_name(device)}. Versions: {versions()}.",
        f"Metric weights (SHA-256): {', '.join(f'{kind} {found}' for kind, found in weights.hashes.items())}.",
        f"Calibration: {calibration if calibration else 'not done here'}.",
        f"± is half of a 95 % interval from {rounds} draws of contents and styles.",
    ]
    settings = [f"- `{method}`: {settings_of(method)}" for method in found]
    lines = ["# The published comparison", "", *(f"- {fact}" for fact in facts), "", *_table(order, found, base)]
    path = order.folder / "table.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "", "Settings:", "", *settings, ""]), encoding="utf-8")
    return path


def _table(order: Order, found: Estimates, base: str | None) -> list[str]:
    metrics = list(next(iter(found.values())))
    apart = [f"ArtFID - {base}"] if base in found and len(found) > 1 else []
    head = ["method", *metrics, *apart, "s a picture", "GiB"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for method, values in found.items():
        spent = cost(order, method)
        ends = [f"{spent.seconds_a_picture:.1f}", f"{spent.gibibytes:.1f}"] if spent else ["", ""]
        differences = [_difference(values["ArtFID"])] if apart else []
        rows.append([f"**{method}**", *(_measured(values[name]) for name in metrics), *differences, *ends])
    if order.data.published:
        for row in TABLE:
            cells = [_plain(row.values.get(name)) for name in metrics]
            rows.append([f"{row.method}, published ({SOURCE})", *cells, *([""] if apart else []), "", ""])
    return [f"| {' | '.join(row)} |" for row in rows]


def _measured(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} ± {estimate.half:.4f}"


def _difference(estimate: Estimate) -> str:
    return "" if estimate.difference is None else f"{estimate.difference:+.4f} ± {estimate.difference_half:.4f}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def write_sheet(order: Order, methods: Sequence[str]) -> Path:
    """Write sheet.png: some pairs off the diagonal of the set, a column for each method."""
    size = (order.size, order.size)
    count = min(SHOWN, len(order.data.contents), len(order.data.styles))
    width = len(order.data.styles)
    places = [i * (len(order.data.contents) // count) * width + i * (width // count) for i in range(count)]
    rows = []
    for place in places:
        pairs = [order.pairs(method)[place] for method in methods]
        paths = [pairs[0].content, pairs[0].style, *(pair.result for pair in pairs)]
        rows.append([read_picture(path, size) for path in paths])
    path = order.folder / "sheet.png"
    contact_sheet(rows, ["content", "style", *methods], tile=192).save(path, optimize=True)
    return path

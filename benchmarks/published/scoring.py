"""Metrics of all results of a method: a file for each content's row, kept as long as results and weights are the same.

Letters: n results, m styles, d features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from magicstyle.banks.atomic import write_whole
from magicstyle.core.errors import MagicStyleError
from magicstyle.headless.pictures.reading import read_picture, to_tensor
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from .inputs import MetricWeights
from .metrics import Cfsd, ColourHistogram, Lpips, PairMetric, art_fid, bootstrap, fid, half_width
from .networks import inception_features
from .painting import Order, Pair

TOGETHER = 4  # pictures in a network at a time
FEATURES = "inception"


@dataclass(frozen=True)
class Scores:
    """What was measured of a method: features of all results n d and of all styles m d, and numbers of each pair."""

    results: Tensor
    styles: Tensor
    pairs: dict[str, np.ndarray]
    contents: int

    def summary(self, chosen: np.ndarray | None = None) -> dict[str, float]:
        """The metrics of all pairs, or of chosen ones: whole rows and columns of the grid of pairs."""
        m = len(self.styles)
        chosen = np.arange(self.contents * m) if chosen is None else chosen
        columns = torch.from_numpy(chosen.reshape(self.contents, m)[0] % m)
        found = {name: float(values[chosen].mean()) for name, values in self.pairs.items()}
        distance = fid(self.results[torch.from_numpy(chosen)], self.styles[columns])
        return {"ArtFID": art_fid(distance, found["LPIPS"]), "FID": distance, **found}


class Scorer:
    """The metrics with their networks on a device."""

    def __init__(self, weights: MetricWeights, device: str, plugins: Sequence[PairMetric] = ()) -> None:
        self._inception = weights.tensors["art_inception"]
        self._device = device
        built_in = [
            Lpips(weights.tensors["alexnet"], weights.tensors["lpips_alex"]),
            Cfsd(weights.tensors["vgg19"]),
            ColourHistogram(),
        ]
        self.metrics: list[PairMetric] = [*built_in, *plugins]
        if len({metric.name for metric in self.metrics}) < len(self.metrics):
            raise MagicStyleError("two metrics have the same name: give the plug-in another one.")
        self._identity = json.dumps([weights.hashes, [metric.name for metric in self.metrics]], sort_keys=True)

    def score(self, order: Order, method: str, *, quiet: bool = False) -> Scores:
        """Measure what is not measured yet, and read the rest."""
        contents, styles = order.data.contents, order.data.styles
        size, folder = order.size, order.folder / "scores"
        looks = self._kept(folder / "styles.safetensors", styles, lambda: {FEATURES: self._features(styles, size)})
        rows = []
        pairs = order.pairs(method)
        for number, content in enumerate(tqdm(contents, desc=f"{method}: metrics", unit="row", disable=quiet or None)):
            row = pairs[number * len(styles) : (number + 1) * len(styles)]
            files = [*(pair.result for pair in row), content, *styles]
            path = folder / method / f"{content.stem}.safetensors"
            rows.append(self._kept(path, files, lambda row=row: self._row(row, size)))
        joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        found = {metric.name: joined[metric.name].double().numpy() for metric in self.metrics}
        return Scores(joined[FEATURES], looks[FEATURES], found, len(contents))

    def _kept(self, path: Path, files: Sequence[Path], make: object) -> dict[str, Tensor]:
        """The tensors of a file, made anew unless they come from these very files and networks."""
        found = hashlib.sha256(self._identity.encode())
        for file in files:
            found.update(file.read_bytes())
        kept = _read(path, found.hexdigest())
        if kept is None:
            kept = make()  # type: ignore[operator]
            path.parent.mkdir(parents=True, exist_ok=True)
            blob = save(kept, {"made_of": found.hexdigest()})
            write_whole(path, lambda file: file.write(blob))
        return kept

    @torch.inference_mode()
    def _features(self, paths: Sequence[Path], size: int) -> Tensor:
        parts = [self._pictures(paths[i : i + TOGETHER], size) for i in range(0, len(paths), TOGETHER)]
        return torch.cat([inception_features(self._inception, part) for part in parts]).cpu()

    @torch.inference_mode()
    def _row(self, row: Sequence[Pair], size: int) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {metric.name: [] for metric in self.metrics}
        for i in range(0, len(row), TOGETHER):
            some = row[i : i + TOGETHER]
            results, contents, styles = (
                self._pictures([getattr(pair, part) for pair in some], size) for part in ("result", "content", "style")
            )
            for metric in self.metrics:
                found[metric.name].append(self._checked(metric, metric(results, contents, styles), len(some)))
        numbers = {name: torch.cat(values) for name, values in found.items()}
        return {FEATURES: self._features([pair.result for pair in row], size), **numbers}

    def _checked(self, metric: PairMetric, values: Tensor, count: int) -> Tensor:
        if tuple(values.shape) != (count,):
            raise MagicStyleError(
                f"the metric {metric.name} answered a tensor of shape {tuple(values.shape)} for {count} pictures: "
                "it must answer one number for each."
            )
        return values.float().cpu()

    def _pictures(self, paths: Sequence[Path], size: int) -> Tensor:
        """b 3 h w in 0..1."""
        pictures = torch.cat([to_tensor(read_picture(path, (size, size))) for path in paths])
        return ((pictures + 1.0) / 2.0).to(self._device)


def _read(path: Path, made_of: str) -> dict[str, Tensor] | None:
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("made_of") != made_of:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError):
        return None


@dataclass(frozen=True)
class Estimate:
    """A metric's value, half of its 95 % interval, and the same for its difference to the base method."""

    value: float
    half: float
    difference: float | None = None
    difference_half: float | None = None


def estimates(scores: dict[str, Scores], base: str | None, rounds: int) -> dict[str, dict[str, Estimate]]:
    """Every method's metrics with their intervals; differences to the base come from the same draws."""
    drawn = {
        method: bootstrap(each.summary, each.contents, len(each.styles), rounds) for method, each in scores.items()
    }
    whole = {method: each.summary() for method, each in scores.items()}

    def estimate(method: str, name: str) -> Estimate:
        own = [draw[name] for draw in drawn[method]]
        value, half = whole[method][name], half_width(own)
        if base is None or base not in scores or method == base:
            return Estimate(value, half)
        others = [draw[name] for draw in drawn[base]]
        apart = [a - b for a, b in zip(own, others, strict=True)]
        return Estimate(value, half, value - whole[base][name], half_width(apart))

    return {method: {name: estimate(method, name) for name in whole[method]} for method in scores}

"""How much of a picture returns from its noise, and where the rest is lost: every inversion method on the demo model.

    python -m benchmarks.inversion        writes docs/inversion.png and the measured part of docs/inversion.md

Pictures are drawn portraits that the demo model never saw. Errors are norms of latents, of the latent's own norm.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from . import quality
from .gammas import bdia, o_belm
from .measures import psnr

# isort: split
# the line above made the checkout a package
from magicstyle.core.inversion import Denoiser, predicted_noise, sample_ddim, sample_ddim_inversion, sampling_grid
from magicstyle.core.inversion_methods import InversionSettings, RoundTrip, invert_latent, sample_back
from magicstyle.core.reversible import Gamma, damped, sample_exact, sample_exact_inversion
from magicstyle.core.schedule import LEVELS, ddim_uniform, noise_levels
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import Recipe

PAGE, PLOT = (Path(__file__).resolve().parents[1] / "docs" / f"inversion.{kind}" for kind in ("md", "png"))
START, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PICTURES = 2
PAIRS = 8
CALLS = (10, 20, 50, 100, 200)
STYLED_CALLS = (20,)
FEW = (10, 50)
GAMMAS: dict[str, Gamma] = {"damped (ours)": damped, "BDIA": bdia, "O-BELM": o_belm}


class Method(NamedTuple):
    """A row of the table: a method, and how many steps it gets out of a number of model calls."""

    label: str
    settings: InversionSettings
    calls_per_step: int
    mark: str  # of the plot

    def steps(self, calls: int) -> int:
        """Steps that come nearest to the calls; one call more or less counts for nothing."""
        return max(round(calls / self.calls_per_step), 2)


METHODS = (
    Method("ddim", InversionSettings("ddim"), 1, "o"),
    Method("fixed_point, 1 correction", InversionSettings("fixed_point", 1), 2, "s"),
    Method("fixed_point, 2 corrections", InversionSettings("fixed_point", 2), 3, "^"),
    Method("exact", InversionSettings("exact"), 1, "D"),
    Method("midpoint", InversionSettings("midpoint"), 1, "v"),
)
NOISING = Method("noising", InversionSettings("noising"), 1, "")


class Found(NamedTuple):
    """One round trip."""

    calls: int
    steps: int
    trip: RoundTrip


def schedule(steps: int) -> Tensor:
    """The host's default schedule of about so many steps, on levels that the model knows."""
    return ddim_uniform(noise_levels(), steps)


def karras(steps: int) -> Tensor:
    """A schedule between the model's levels (Karras et al. 2022, eq. 5), with the final zero."""
    levels, rho = noise_levels(), 7.0
    high, low = float(levels[-1]) ** (1 / rho), float(levels[0]) ** (1 / rho)
    grid = (high + torch.linspace(0, 1, steps) * (low - high)) ** rho
    return torch.cat([grid, grid.new_zeros(1)])


def snapped(sigmas: Tensor) -> Tensor:
    """The same schedule moved to the nearest levels that the model knows, each once."""
    levels = noise_levels()
    places = (sampling_grid(sigmas).log().unsqueeze(1) - levels.log()).abs().argmin(dim=1)
    return torch.cat([levels[places.unique().flip(0)], levels.new_zeros(1)])


def round_trip(model: Denoiser, clean: Tensor, sigmas: Tensor, settings: InversionSettings) -> Found:
    """Invert and sample back with what belongs to the method."""
    found = invert_latent(model, clean, sigmas, settings)
    back = sample_back(model, found.noise_pair, sigmas, settings.method)
    return Found(found.calls, len(sigmas) - 1, RoundTrip.between(back, clean))


def heun(model: Denoiser, x: Tensor, levels: Sequence[float]) -> Tensor:
    """Second-order steps along levels in either direction (Karras et al. 2022, alg. 1); plain ones from or to zero."""
    for here, there in zip(levels[:-1], levels[1:], strict=True):
        dt = there - here
        eps = predicted_noise(model, x, x.new_tensor(here or there), None)
        if here and there:
            eps = (eps + predicted_noise(model, x + dt * eps, x.new_tensor(there), None)) / 2
        x = x + dt * eps
    return x


def heun_round_trip(model: Denoiser, clean: Tensor, sigmas: Tensor) -> RoundTrip:
    """Up and down with second-order steps."""
    levels = sigmas.tolist()
    return RoundTrip.between(heun(model, heun(model, clean, levels[::-1]), levels), clean)


@contextmanager
def continuous_time(model: HeadlessModel) -> Iterator[None]:
    """The model called at the timestep between its own that a sigma means, instead of at the nearest."""
    logs = noise_levels().log()

    def between(sigma: Tensor) -> Tensor:
        high = torch.searchsorted(logs, sigma.log()).clamp(1, LEVELS - 1)
        share = (sigma.log() - logs[high - 1]) / (logs[high] - logs[high - 1])
        return (high - 1 + share).clamp(0, LEVELS - 1)

    model.timesteps = between
    try:
        yield
    finally:
        del model.timesteps


def curves(model: HeadlessModel, clean: Tensor) -> dict[str, list[Found]]:
    """Every method at every number of calls."""
    trip = partial(round_trip, model.denoised, clean)
    return {row.label: [trip(schedule(row.steps(calls)), row.settings) for calls in CALLS] for row in METHODS}


def order(found: Sequence[Found]) -> float:
    """By which power of the number of steps the error falls, over the largest numbers."""
    a, b = found[-2:]
    return math.log(a.trip.relative / b.trip.relative) / math.log(b.steps / a.steps)


def sources(model: HeadlessModel, pictures: Tensor, clean: Tensor, found: dict[str, list[Found]]) -> list[list[str]]:
    """Where the error comes from: rows of what, how it was measured, relative error."""
    ddim, steps = InversionSettings("ddim"), 20
    trip = partial(round_trip, model.denoised, clean, settings=ddim)
    rounded, own = trip(karras(steps)).trip.relative, trip(snapped(karras(steps))).trip.relative
    with continuous_time(model):
        between = trip(karras(steps)).trip.relative
    plain = {seen.steps: seen.trip.relative for seen in found["ddim"]}
    second = heun_round_trip(model.denoised, clean, schedule(20)).relative
    decoded = (model.decode(clean) + 1) / 2
    back = sample_ddim(model.denoised, sample_ddim_inversion(model.denoised, clean, schedule(50)), schedule(50))
    again = RoundTrip.between(model.encode(decoded * 2 - 1), clean).relative
    whole = float(psnr((model.decode(back) + 1) / 2, pictures).mean())
    alone = float(psnr(decoded, pictures).mean())
    return [
        ["grid rounding", f"{steps} Karras steps, timesteps rounded as ComfyUI does", f"{rounded:.4f}"],
        ["", "the same steps, timesteps interpolated", f"{between:.4f}"],
        ["", "the same steps moved to the model's own levels", f"{own:.4f}"],
        ["step order", "ddim, 20 steps", f"{plain[20]:.4f}"],
        ["", f"ddim, 50 steps (order {order(found['ddim']):.1f} from 100 to 200)", f"{plain[50]:.4f}"],
        ["", "Heun both ways, 20 steps, twice the calls", f"{second:.4f}"],
        ["VAE", "latent decoded and encoded again, no diffusion", f"{again:.4f}"],
        ["", "picture through the VAE alone, PSNR", f"{alone:.1f} dB"],
        ["", "picture through VAE and 50 ddim steps, PSNR", f"{whole:.1f} dB"],
    ]


def spread(model: HeadlessModel, clean: Tensor, steps: int, gamma: Gamma) -> list[str]:
    """What a reversible scheme does: the error, the noise's standard deviation, how far its ends are apart."""
    sigmas = schedule(steps)
    pair = sample_exact_inversion(model.denoised, clean, sigmas, gamma=gamma)
    back = sample_exact(model.denoised, pair.noise, sigmas, step_from=pair.step_from, gamma=gamma)
    deviation = float(((pair.noise - clean) / sigmas[0]).std())
    apart = float((pair.step_from - pair.noise).norm() / pair.noise.norm())
    return [f"{RoundTrip.between(back, clean).relative:.0e}", f"{deviation:.2f}", f"{100 * apart:.1f} %"]


def stylization(model: HeadlessModel) -> list[list[str]]:
    """Structure kept and style left with the default fusion, each method at the same number of model calls."""
    rows = []
    for calls in STYLED_CALLS:
        for row in (METHODS[0], *METHODS[2:], NOISING):
            recipe = Recipe(steps=row.steps(calls), inversion=row.settings)
            pairs = quality.prepare(model, PAIRS, recipe)
            result = quality.sample(model, pairs, quality.Row(row.label, quality.FFA), recipe)
            score = quality.measure(row.label, result, pairs)
            cells = [str(calls), str(len(recipe.sigmas) - 1), f"{score.structure:.3f}", f"{score.style:.3f}"]
            rows.append([row.label, *cells])
    return rows


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first columns are texts and whose others are numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def report(model: HeadlessModel, found: dict[str, list[Found]], pictures: Tensor, clean: Tensor) -> str:
    """The measured part of the page."""
    errors = [
        [label, *(f"{seen.trip.relative:.2g} ({seen.trip.psnr:.0f})" for seen in row)] for label, row in found.items()
    ]
    schemes = [[name, *(cell for n in FEW for cell in spread(model, clean, n, g))] for name, g in GAMMAS.items()]
    columns = [f"{what}, {n}" for n in FEW for what in ("error", "deviation", "ends apart")]
    parts = [
        f"Relative error of the latent (PSNR in dB) against model calls of the inversion, {PICTURES} pictures:",
        markdown(["method", *(f"{calls} calls" for calls in CALLS)], errors),
        "Where the error of plain inversion comes from:",
        markdown(["part", "measured as", "relative error"], sources(model, pictures, clean, found), 2),
        f"Reversible schemes in float32 at {FEW[0]} and {FEW[1]} steps: relative error, deviation of the noise "
        "(standard, 1 expected), distance of the two ends:",
        markdown(["scheme", *columns], schemes),
        f"Stylization of {PAIRS} held-out pairs with the default fusion, each inversion at the same model calls "
        "(structure: higher keeps more; style: lower is nearer to the style):",
        markdown(["method", "calls", "noise levels", "structure", "style"], stylization(model)),
    ]
    return "\n\n".join(parts)


def replaced(page: str, measured: str) -> str:
    """The page with its measured part renewed and the rest as it was."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{measured}\n\n{END}{after}"


def plot(found: dict[str, list[Found]], path: Path) -> None:
    """Error against model calls, every method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    for row in METHODS:
        points = found[row.label]
        axes.plot([p.calls for p in points], [p.trip.relative for p in points], marker=row.mark, label=row.label)
    axes.set(xscale="log", yscale="log", xlabel="model calls of the inversion", ylabel="relative error of the latent")
    axes.set_xticks(CALLS, [str(calls) for calls in CALLS])
    axes.minorticks_off()
    axes.axhline(1e-4, color="grey", linewidth=0.8, linestyle=":")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title("Inverted and sampled back without fusion, demo model", fontsize=11)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


@torch.inference_mode()
def main() -> None:
    """Measure, draw, and write."""
    started, model = time.perf_counter(), load_demo_model()
    pictures = quality.pictures(quality.draw(quality.CONTENT_SEED, PICTURES))
    clean = model.encode(pictures * 2 - 1)
    found = curves(model, clean)
    plot(found, PLOT)
    measured = report(model, found, pictures, clean)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    print(measured, f"({time.perf_counter() - started:.0f} s)", sep="\n")


if __name__ == "__main__":
    main()

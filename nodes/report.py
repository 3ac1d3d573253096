"""The short texts that the nodes hand out: what was done, what it holds and whether it looks right."""

from __future__ import annotations

from torch import Tensor

from ..banks.bank import FeatureBank, StyleEntry
from ..banks.budget import readable_bytes
from ..banks.image_features import FeatureHeader, ImageFeatures
from ..banks.level_groups import ordinal
from ..core.inversion_methods import INVERSIONS, RoundTrip
from ..core.layers import legal_range
from .inversion.result import InversionResult
from .roles import role_warnings

APART = 0.2


def inversion_report(
    role: str, features: ImageFeatures, result: InversionResult, trip: RoundTrip | None, notes: list[str]
) -> str:
    """The report output of an inversion node."""
    lines = [
        f"{INVERSIONS[result.method].title} of the {role}: {len(result.sigmas)} steps, {result.calls} model calls "
        f"in {result.seconds:.1f} s ({result.seconds / result.calls:.2f} s each)",
        f"sigma {result.sigmas[-1]:.4f} to {result.sigmas[0]:.4f}",
        describe(features),
        _noise_statistics(result),
    ]
    noise, step_from = result.noise_pair
    lines += [] if step_from is None else [_disagreement(noise, step_from)]
    lines += [] if trip is None else [_measured(result.method, trip)]
    return "\n".join([*lines, *notes])


def _disagreement(noise: Tensor, step_from: Tensor) -> str:
    """How far the two latents of a reversible inversion, b c h w, are apart, which grows where steps are too few."""
    share = float((step_from - noise).norm() / noise.norm())
    text = f"the two end latents differ by {100 * share:.1f} % of the noise"
    return f"{text}; far apart: use more steps" if share > APART else text


def _measured(method: str, trip: RoundTrip) -> str:
    found = f"round trip: relative error {trip.relative:.2g} of the latent, PSNR {trip.psnr:.1f} dB"
    if not trip.poor:
        return (
            f"{found}; where the picture still differs, look for an fp16 VAE, cfg other than 1 or a stochastic sampler"
        )
    better = "more steps" if method == "exact" else "more steps, or method midpoint, fixed_point or exact"
    return f"{found}; poor: use {better}, an empty prompt and the VAE of this checkpoint"


def bank_summary(bank: FeatureBank) -> str:
    """The summary output of the Feature Bank."""
    lines = [*role_warnings(bank), *_schedule_difference(bank)]  # first: on a node few lines show
    content = bank.content
    lines.append("no portrait: the prompt says what is painted" if content is None else f"content: {describe(content)}")
    lines += [f"style {number}: {_describe_style(style)}" for number, style in enumerate(bank.styles, start=1)]
    lines.append(f"together {readable_bytes(bank.nbytes)}; all hold layers {legal_range(bank.layers)}")
    return "\n".join(lines)


def describe(features: ImageFeatures) -> str:
    """One line on what an inverted picture keeps."""
    header = features.header
    return (
        f"{_pictures(header)}, layers {legal_range(header.layers)} on token grids {_grids(header)}, "
        f"{_steps(header)} of {features.kept}: {readable_bytes(features.nbytes)} {features.place}"
    )


def _describe_style(style: StyleEntry) -> str:
    extras = [f"weight {style.weight:g}"]
    extras += ["in a region"] if style.region is not None else []
    extras += ["drawn from a masked part"] if style.style_mask is not None else []
    return f"{describe(style.features)} ({', '.join(extras)})"


def _steps(header: FeatureHeader) -> str:
    steps, kept = len(header.sigmas), header.groups.count
    return f"{steps} steps" if header.every == 1 else f"{kept} of {steps} steps, every {ordinal(header.every)},"


def _pictures(header: FeatureHeader) -> str:
    frames = header.size.frames
    one, several = ("picture", "pictures") if frames == 1 else (f"film of {frames} frames", f"films of {frames} frames")
    pictures = f"1 {one}" if header.batch == 1 else f"{header.batch} {several}"
    return f"{pictures}, latent {header.size.width}x{header.size.height}"


def _grids(header: FeatureHeader) -> str:
    return ", ".join(f"{grid.width}x{grid.height}" for grid in dict.fromkeys(header.grids.values()))


def _noise_statistics(result: InversionResult) -> str:
    sigma = result.sigmas[0]
    share = 1.0 - sigma if result.flow else 1.0
    eps = (result.noise_pair.noise - share * result.clean) / sigma
    mean, std = float(eps.mean()), float(eps.std())
    text = f"noise: mean {mean:+.3f} (expected 0), standard deviation {std:.3f} (expected 1)"
    if abs(mean) > 0.2 or not 0.8 < std < 1.25:
        text += "; far from white noise: use more steps, an empty prompt, and the VAE of this checkpoint"
    return text


def _schedule_difference(bank: FeatureBank) -> list[str]:
    if bank.content is None:
        return []
    different = [
        str(number)
        for number, style in enumerate(bank.styles, start=1)
        if style.features.header.sigmas != bank.content.header.sigmas
    ]
    if not different:
        return []
    return [
        f"style {', '.join(different)} was inverted on other noise levels than the content: the nearest serve; "
        "give both inversions the same steps and scheduler for exact features"
    ]

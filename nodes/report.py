"""The short texts that the nodes hand out: what was done, what it holds and whether it looks right."""

from __future__ import annotations

from torch import Tensor

from ..core.features import FeatureBank, FeatureHeader, ImageFeatures, StoredFeatures, StyleEntry
from ..core.layers import legal_range

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def readable_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def inversion_report(
    role: str, features: ImageFeatures, clean: Tensor, noise: Tensor, seconds: float, notes: list[str]
) -> str:
    """The report output of an inversion node."""
    header = features.header
    lines = [
        f"DDIM inversion of the {role}: {len(header.sigmas)} steps, {len(header.sigmas) + 1} model calls "
        f"in {seconds:.1f} s ({seconds / (len(header.sigmas) + 1):.2f} s each)",
        f"sigma {header.sigmas[-1]:.4f} to {header.sigmas[0]:.4f}",
        describe(features),
        _noise_statistics(clean, noise, header.sigmas[0]),
    ]
    return "\n".join([*lines, *notes])


def bank_summary(bank: FeatureBank) -> str:
    """The summary output of the Feature Bank."""
    lines = [f"content: {describe(bank.content)}"]
    lines += [f"style {number}: {_describe_style(style)}" for number, style in enumerate(bank.styles, start=1)]
    lines.append(f"together {readable_bytes(bank.nbytes)}; all hold layers {legal_range(bank.layers)}")
    if warning := _schedule_difference(bank):
        lines.append(warning)
    return "\n".join(lines)


def describe(features: ImageFeatures) -> str:
    """One line on what an inverted picture keeps."""
    header = features.header
    kept = features.representation
    if isinstance(features, StoredFeatures):
        dtype = str(next(iter(features.tensors.values())).dtype).removeprefix("torch.")
        kept = f"{', '.join(features.roles)} in {dtype}"
    return (
        f"{_pictures(header)}, layers {legal_range(header.layers)} on token grids {_grids(header)}, "
        f"{len(header.sigmas)} steps of {kept}: {readable_bytes(features.nbytes)} {_place(features)}"
    )


def _place(features: ImageFeatures) -> str:
    if isinstance(features, StoredFeatures) and features.disk is not None:
        return "on disk"
    device = next(iter(features.tensors.values())).device.type
    return "in memory" if device == "cpu" else f"on the {device} device"


def _describe_style(style: StyleEntry) -> str:
    extras = [f"weight {style.weight:g}"]
    extras += ["in a region"] if style.region is not None else []
    extras += ["drawn from a masked part"] if style.style_mask is not None else []
    return f"{describe(style.features)} ({', '.join(extras)})"


def _pictures(header: FeatureHeader) -> str:
    pictures = "1 picture" if header.batch == 1 else f"{header.batch} pictures"
    return f"{pictures}, latent {header.latent_shape[3]}x{header.latent_shape[2]}"


def _grids(header: FeatureHeader) -> str:
    return ", ".join(f"{w}x{h}" for h, w in dict.fromkeys(header.grids.values()))


def _noise_statistics(clean: Tensor, noise: Tensor, sigma: float) -> str:
    eps = (noise - clean) / sigma
    mean, std = float(eps.mean()), float(eps.std())
    text = f"noise: mean {mean:+.3f} (expected 0), standard deviation {std:.3f} (expected 1)"
    if abs(mean) > 0.2 or not 0.8 < std < 1.25:
        text += "; far from white noise: use more steps, an empty prompt, and the VAE of this checkpoint"
    return text


def _schedule_difference(bank: FeatureBank) -> str | None:
    different = [
        str(number)
        for number, style in enumerate(bank.styles, start=1)
        if style.features.header.sigmas != bank.content.header.sigmas
    ]
    if not different:
        return None
    return (
        f"style {', '.join(different)} was inverted on other noise levels than the content: the nearest serve; "
        "give both inversions the same steps and scheduler for exact features"
    )

"""Which way to the noise a user has chosen, and how much of the picture came back from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .errors import MagicStyleError
from .inversion import (
    Denoiser,
    Record,
    no_record,
    sample_ddim,
    sample_ddim_inversion,
    sample_fixed_point_inversion,
    sample_noising,
)
from .reversible import NoisePair, sample_exact, sample_exact_inversion

METHODS = ("ddim", "fixed_point", "exact", "noising")
MOST_CORRECTIONS = 20
POOR = 0.1  # of the latent's norm: a reconstruction in which one sees the difference


@dataclass(frozen=True)
class InversionSettings:
    """How a picture becomes noise."""

    method: str = "ddim"
    corrections: int = 2  # of each step, for fixed_point

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise MagicStyleError(f"inversion method '{self.method}' is unknown: choose from {', '.join(METHODS)}.")
        if not 0 <= self.corrections <= MOST_CORRECTIONS:
            raise MagicStyleError(
                f"corrections is {self.corrections}: choose a number from 0 to {MOST_CORRECTIONS}; 2 serve most."
            )


class Inverted(NamedTuple):
    """What a walk to the noise gave: b c h w each."""

    noise: Tensor
    companion: Tensor | None  # of the exact method
    calls: int  # of the model


def invert_latent(
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    settings: InversionSettings,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    *,
    record: Record = no_record,
) -> Inverted:
    """Take a clean latent b c h w to its noise by the chosen method."""
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return model(*args, **kwargs)

    walks: dict[str, Callable[..., Tensor | NoisePair]] = {
        "ddim": sample_ddim_inversion,
        "fixed_point": sample_fixed_point_inversion,
        "exact": sample_exact_inversion,
        "noising": sample_noising,
    }
    options = {"corrections": settings.corrections} if settings.method == "fixed_point" else {}
    end = walks[settings.method](counted, x, sigmas, extra_args, callback, record=record, **options)
    pair = end if isinstance(end, NoisePair) else NoisePair(end, None)
    return Inverted(*pair, calls)


def sample_back(
    model: Denoiser,
    noise: Tensor,
    companion: Tensor | None,
    sigmas: Tensor,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Tensor:
    """Sample with what belongs to the inversion: the reversible sampler where there is a companion, else DDIM."""
    if companion is None:
        return sample_ddim(model, noise, sigmas, callback=callback)
    return sample_exact(model, noise, sigmas, callback=callback, companion=companion)


class RoundTrip(NamedTuple):
    """How near a reconstruction came to its latent."""

    relative: float  # norm of the difference, of the latent's norm
    psnr: float  # dB, the latent's own range as peak

    @classmethod
    def between(cls, back: Tensor, clean: Tensor) -> RoundTrip:
        """Compare a reconstruction b c h w with what it should be."""
        back, clean = back.double(), clean.double()
        error = back - clean
        span = (clean.max() - clean.min()) ** 2
        psnr = 10.0 * float((span / error.square().mean().clamp(min=1e-30)).log10())
        return cls(float(error.norm() / clean.norm()), psnr)

    @property
    def poor(self) -> bool:
        """Whether one will see the difference."""
        return not self.relative <= POOR

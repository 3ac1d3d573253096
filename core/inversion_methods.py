"""The inversion methods, the sampler that leads back from each, and how much of the picture comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .errors import MagicStyleError
from .gamma import GAMMA, sample_gamma_inversion
from .inversion import (
    Denoiser,
    Mix,
    Record,
    no_record,
    noised,
    sample_ddim,
    sample_ddim_inversion,
    sample_fixed_point_inversion,
    sample_noising,
    sampling_grid,
    steps_together,
    with_zero,
)
from .midpoint import middles, sample_midpoint, sample_midpoint_inversion
from .noise_pair import NoisePair
from .ranges import check_range
from .reversible import sample_exact, sample_exact_inversion

MAX_CORRECTIONS = 20
POOR = 0.1  # of the latent's norm: a reconstruction in which one sees the difference


@dataclass(frozen=True)
class InversionSettings:
    """How a picture becomes noise."""

    method: str = "ddim"
    corrections: int = 2  # of each step, for fixed_point
    gamma: float = GAMMA  # for gamma: the model's share of each step, the straight line has the rest

    def __post_init__(self) -> None:
        if self.method not in INVERSIONS:
            raise MagicStyleError(f"inversion method '{self.method}' is unknown: choose from {', '.join(INVERSIONS)}.")
        if not 0 <= self.corrections <= MAX_CORRECTIONS:
            raise MagicStyleError(
                f"corrections is {self.corrections}: choose a number from 0 to {MAX_CORRECTIONS}; 2 serve most."
            )

        check_range("gamma", self.gamma, 0.0, 1.0)

    @property
    def spec(self) -> InversionMethod:
        """The row of the registry."""
        return INVERSIONS[self.method]


@dataclass(frozen=True)
class InversionMethod:
    """A row of the registry: how a picture becomes noise, the sampler that belongs to it, and what it costs."""

    title: str
    sample: Callable[..., Tensor | NoisePair]
    sampler: str  # a row of SAMPLERS
    calls: Callable[[int, int], int]  # (steps, corrections) -> model calls, at most
    options: tuple[str, ...] = ()  # the settings that `sample` takes
    inverts: bool = True  # whether the sampler returns the picture
    mixes: bool = False  # whether `sample` adds noise of its own, and must know how
    levels: Callable[[Tensor], Tensor] = sampling_grid  # schedule -> the levels that are recorded
    sampling_calls: Callable[[int], int] = lambda steps: steps  # of the sampler
    steps_per_call: Callable[[int, int], int] = lambda batch, levels: 1  # how many of the levels share a model call


SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "ddim": sample_ddim,
    "exact": sample_exact,
    "midpoint": sample_midpoint,
}

INVERSIONS = {
    "ddim": InversionMethod("DDIM inversion", sample_ddim_inversion, "ddim", lambda steps, _: steps + 1),
    "fixed_point": InversionMethod(
        "Fixed-point inversion",
        sample_fixed_point_inversion,
        "ddim",
        # one more where the last guess is not the best
        lambda steps, corrections: steps * (corrections + 1 + (corrections > 0)),
        options=("corrections",),
    ),
    "exact": InversionMethod("Exact inversion", sample_exact_inversion, "exact", lambda steps, _: steps + 1),
    "noising": InversionMethod(
        "Noising",
        sample_noising,
        "ddim",
        lambda steps, _: steps,
        inverts=False,
        mixes=True,
        steps_per_call=steps_together,
    ),
    "midpoint": InversionMethod(
        "Midpoint inversion",
        sample_midpoint_inversion,
        "midpoint",
        lambda steps, _: steps + 1,
        sampling_calls=lambda steps: steps + 1,
        levels=lambda sigmas: middles(with_zero(sigmas)),
    ),
    "gamma": InversionMethod(
        "Gamma inversion",
        sample_gamma_inversion,
        "ddim",
        lambda steps, _: steps + 1,
        options=("gamma",),
        inverts=False,
        mixes=True,
    ),
}


def visited_levels(sampler: object, sigmas: Tensor) -> Tensor:
    """The levels n at which a sampler's steps need features, from its function and its descending schedule.

    What `sample_midpoint` finds at its first level only leads to the first middle.
    """
    return middles(sigmas) if sampler is sample_midpoint else sampling_grid(sigmas)


class Inverted(NamedTuple):
    """What a walk to the noise gave, and at what cost."""

    noise_pair: NoisePair
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
    mix: Mix = noised,
) -> Inverted:
    """Take a clean latent b c h w to its noise by the chosen method."""
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        """The model, x b c h w -> b c h w."""
        nonlocal calls
        calls += 1
        return model(*args, **kwargs)

    options = {name: getattr(settings, name) for name in settings.spec.options}
    options |= {"mix": mix} if settings.spec.mixes else {}
    end = settings.spec.sample(counted, x, sigmas, extra_args, callback, record=record, **options)
    return Inverted(end if isinstance(end, NoisePair) else NoisePair(end), calls)


def sample_back(
    model: Denoiser,
    noise_pair: NoisePair,
    sigmas: Tensor,
    method: str,
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> Tensor:
    """Sample with what belongs to the inversion method: b c h w."""
    step_from = {} if noise_pair.step_from is None else {"step_from": noise_pair.step_from}
    return SAMPLERS[INVERSIONS[method].sampler](model, noise_pair.noise, sigmas, callback=callback, **step_from)


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

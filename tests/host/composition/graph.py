"""The graph around a sampler node, the sampler nodes that it may hold, and the portrait that goes through it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from magicstyle.nodes.inversion.run import Inversion, invert
from magicstyle.tests.host.neighbours import ran, stock
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_latent, tiny_model, tiny_sigmas
from torch import Tensor

STEPS = 4
SCHEDULER = "ddim_uniform"
GRID, LARGE = (8, 12), (16, 16)
STYLE_GRIDS = {GRID: (10, 7), LARGE: (16, 12)}
STRONG = 14.0 / 0.18215  # latents so large that the random network's prediction is a smooth function of them


@dataclass(frozen=True)
class Kind:
    """A kind of model in miniature: what of it is loaded, inverted and said."""

    name: str
    model: Callable[[], Any]
    latent: Callable[[tuple[int, int], int, int], Tensor]  # grid, batch, seed
    prompt: Callable[[int], Any]  # seed
    sampler: str
    scheduler: str
    layers: str  # that are fused


@dataclass(frozen=True)
class Graph:
    """What is wired into a sampler node."""

    model: Any
    samples: Tensor  # b c h w
    positive: Any = field(default_factory=tiny_conditioning)
    negative: Any = field(default_factory=lambda: tiny_conditioning(seed=3))
    sigmas: Tensor = field(default_factory=lambda: tiny_sigmas(tiny_model(), STEPS, SCHEDULER))
    cfg: float = 1.0
    noise_mask: Tensor | None = None
    sampler: str = "ddim"
    node: Callable[[Graph], Tensor] | None = None
    portraits: int = 1  # that were inverted
    kind: Kind = field(default_factory=lambda: SD15)

    def but(self, **changes: Any) -> Graph:
        """The same graph, changed."""
        return replace(self, **changes)

    @property
    def latent(self) -> dict[str, Tensor]:
        """The LATENT."""
        mask = {} if self.noise_mask is None else {"noise_mask": self.noise_mask}
        return {"samples": self.samples, **mask}

    def picture(self) -> Tensor:
        """What comes out of the sampler node."""
        with torch.inference_mode():
            torch.manual_seed(0)  # token merging draws from the global generator
            return (self.node or sampler_custom)(self)


Wire = Callable[[Graph], Graph]

# --- sampler nodes -------------------------------------------------------------------------------------------------


def sampler_object(name: str) -> Any:
    """A SAMPLER from the host's KSamplerSelect."""
    ran[name] += 1
    return stock("comfy_extras.nodes_custom_sampler.KSamplerSelect", sampler_name=name)[0]


def sampler_custom(graph: Graph, *, add_noise: bool = False) -> Tensor:
    """SamplerCustom; by default without noise of its own."""
    return stock(
        "comfy_extras.nodes_custom_sampler.SamplerCustom",
        model=graph.model,
        add_noise=add_noise,
        noise_seed=3,
        cfg=graph.cfg,
        positive=graph.positive,
        negative=graph.negative,
        sampler=sampler_object(graph.sampler),
        sigmas=graph.sigmas,
        latent_image=graph.latent,
    )[0]["samples"]


def noisy_sampler_custom(graph: Graph) -> Tensor:
    """SamplerCustom with noise of its own, from the portrait."""
    return sampler_custom(graph.but(samples=portrait(graph.portraits, kind=graph.kind)), add_noise=True)


def _run(graph: Graph) -> dict[str, Any]:
    """What both KSamplers take of a graph."""
    return {
        "model": graph.model,
        "steps": STEPS,
        "cfg": graph.cfg,
        "sampler_name": graph.sampler,
        "scheduler": graph.kind.scheduler,
        "positive": graph.positive,
        "negative": graph.negative,
    }


def ksampler_advanced(graph: Graph, split: int = STEPS) -> Tensor:
    """KSamplerAdvanced without noise of its own, in one go or handing over after some steps."""
    latent = graph.latent
    for start, end in itertools.pairwise(sorted({0, split, STEPS})):
        latent = stock(
            "nodes.KSamplerAdvanced",
            **_run(graph),
            add_noise="disable",
            noise_seed=0,
            latent_image=latent,
            start_at_step=start,
            end_at_step=end,
            return_with_leftover_noise="enable" if end < STEPS else "disable",
        )[0]
    return latent["samples"]


def ksampler(denoise: float) -> Callable[[Graph], Tensor]:
    """KSampler, which adds noise of its own, from the portrait."""

    def node(graph: Graph) -> Tensor:
        return stock(
            "nodes.KSampler",
            **_run(graph),
            seed=3,
            latent_image={**graph.latent, "samples": portrait(graph.portraits, kind=graph.kind)},
            denoise=denoise,
        )[0]["samples"]

    return node


def sampler_custom_advanced(guider: str, **inputs: Any) -> Callable[[Graph], Tensor]:
    """SamplerCustomAdvanced with one of the guider nodes; values that name a field of the graph stand for it."""
    custom = "comfy_extras.nodes_custom_sampler"

    def node(graph: Graph) -> Tensor:
        given = {
            name: getattr(graph, value, value) if isinstance(value, str) else value for name, value in inputs.items()
        }
        return stock(
            f"{custom}.SamplerCustomAdvanced",
            noise=stock(f"{custom}.DisableNoise")[0],
            guider=stock(guider, model=graph.model, **given)[0],
            sampler=sampler_object(graph.sampler),
            sigmas=graph.sigmas,
            latent_image=graph.latent,
        )[0]["samples"]

    return node


# --- the portrait, inverted ---


SD15 = Kind(
    "SD1.5",
    tiny_model,
    lambda grid, batch, seed: STRONG * tiny_latent(*grid, batch=batch, seed=seed),
    lambda seed: tiny_conditioning(seed=seed),
    "ddim",
    SCHEDULER,
    "output.6-11",
)


def portrait(batch: int = 1, grid: tuple[int, int] = GRID, kind: Kind = SD15) -> Tensor:
    """The content's latents: one, or three of which it is the first."""
    return kind.latent(grid, 3, 2)[:batch]


def style_picture(grid: tuple[int, int] = GRID, kind: Kind = SD15) -> Tensor:
    """The style's latent, of another size."""
    return kind.latent(STYLE_GRIDS[grid], 1, 9)


def inversion(
    model: Any, samples: Tensor, storage: str, layers: str, scheduler: str | None = None, kind: Kind = SD15
) -> Inversion:
    """One of the inversion nodes."""
    with torch.inference_mode():
        return invert(
            "content",
            model,
            {"samples": samples},
            kind.prompt(1),
            STEPS,
            scheduler or kind.scheduler,
            layers,
            storage,
            precision="fp32",
        )


@functools.cache
def inverted(batch: int = 1, grid: tuple[int, int] = GRID, kind: Kind = SD15, scheduler: str | None = None) -> Tensor:
    """The content's noise."""
    samples = portrait(batch, grid, kind)
    return inversion(kind.model(), samples, "latents", "all", scheduler, kind).noise["samples"]


def base() -> Graph:
    """Neither node: the portrait sampled back."""
    return Graph(tiny_model(), inverted())


def guided() -> Graph:
    """The same with a negative prompt that counts."""
    return base().but(cfg=3.0)


def three() -> Graph:
    """Three portraits at once."""
    return base().but(samples=inverted(3), portraits=3)


def large() -> Graph:
    """A picture that still has four tokens in the middle."""
    return base().but(samples=inverted(1, LARGE))


def large_guided() -> Graph:
    """The same with a negative prompt that counts."""
    return large().but(cfg=3.0)

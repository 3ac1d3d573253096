"""The matrix: our patcher beside each of its neighbours, and what must hold.

Four pictures a cell: neither node, the neighbour alone, ours alone, both. Where both act, `both` lies as far from
`ours alone` as the neighbour moves a picture, and as far from `neighbour alone` as ours does.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from unittest import mock

import comfy.model_management
import comfy.samplers
import comfy.sd
import torch
import torch._dynamo
from magicstyle.attention_patches.host import install_fusion
from magicstyle.core.features import FeatureBank, StyleEntry
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.inversion_run import Inversion, invert
from magicstyle.tests.host.neighbours import (
    PIXELS,
    HalvedQueries,
    ImagePromptAttention,
    clip,
    controlnet,
    hint,
    lora_name,
    stock,
    t2i_adapter,
    values_alone,
)
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_latent, tiny_model, tiny_sigmas
from magicstyle.tests.tiny_checkpoint import VARIANTS, Autoencoder
from torch import Tensor

STEPS = 4
SCHEDULER = "ddim_uniform"
GRID, LARGE = (8, 12), (16, 16)
STYLE_GRIDS = {GRID: (10, 7), LARGE: (16, 12)}
STRONG = 14.0 / 0.18215  # latents so large that the random network's prediction is a smooth function of them
LAYERS = "output.6-11"
FLOOR = 3e-4  # of a picture: a node that moves it by less does nothing, rounding moves it by 1e-6
SHARES = (0.1, 10.0)  # of a node's effect alone, what its effect beside the other may be
BOTH_ACT, SAME_PICTURE = "both act", "ours acts, same picture as without it"
STORAGES, ONE_STORAGE = ("features", "latents"), ("features",)


@dataclass(frozen=True)
class Graph:
    """What is wired into a sampler node."""

    model: Any
    samples: Tensor  # b 4 h w
    positive: Any = field(default_factory=tiny_conditioning)
    negative: Any = field(default_factory=lambda: tiny_conditioning(seed=3))
    sigmas: Tensor = field(default_factory=lambda: tiny_sigmas(tiny_model(), STEPS, SCHEDULER))
    cfg: float = 1.0
    noise_mask: Tensor | None = None
    sampler: str = "ddim"
    node: Callable[[Graph], Tensor] | None = None
    portraits: int = 1  # that were inverted

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
    return sampler_custom(graph.but(samples=portrait(graph.portraits)), add_noise=True)


def ksampler_advanced(graph: Graph, split: int = STEPS) -> Tensor:
    """KSamplerAdvanced without noise of its own, in one go or handing over after some steps."""
    latent = graph.latent
    for start, end in itertools.pairwise(sorted({0, split, STEPS})):
        latent = stock(
            "nodes.KSamplerAdvanced",
            model=graph.model,
            add_noise="disable",
            noise_seed=0,
            steps=STEPS,
            cfg=graph.cfg,
            sampler_name=graph.sampler,
            scheduler=SCHEDULER,
            positive=graph.positive,
            negative=graph.negative,
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
            model=graph.model,
            seed=3,
            steps=STEPS,
            cfg=graph.cfg,
            sampler_name=graph.sampler,
            scheduler=SCHEDULER,
            positive=graph.positive,
            negative=graph.negative,
            latent_image={**graph.latent, "samples": portrait(graph.portraits)},
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


# --- ours ----------------------------------------------------------------------------------------------------------


def portrait(batch: int = 1, grid: tuple[int, int] = GRID) -> Tensor:
    """The content's latents: one, or three of which it is the first."""
    return STRONG * tiny_latent(*grid, batch=3)[:batch]


def inversion(model: Any, samples: Tensor, storage: str, layers: str, scheduler: str = SCHEDULER) -> Inversion:
    """One of the inversion nodes."""
    with torch.inference_mode():
        return invert(
            "content",
            model,
            {"samples": samples},
            tiny_conditioning(),
            STEPS,
            scheduler,
            layers,
            storage,
            precision="fp32",
        )


def make_bank(
    model: Any,
    storage: str,
    batch: int = 1,
    grid: tuple[int, int] = GRID,
    layers: str = "all",
    scheduler: str = SCHEDULER,
) -> FeatureBank:
    """A bank of both pictures, inverted with this model."""
    content = inversion(model, portrait(batch, grid), storage, layers, scheduler)
    style = inversion(model, STRONG * tiny_latent(*STYLE_GRIDS[grid], seed=9), storage, layers, scheduler)
    return FeatureBank(content.features, (StyleEntry(style.features),))


@functools.cache
def plain_bank(storage: str, batch: int = 1, grid: tuple[int, int] = GRID, scheduler: str = SCHEDULER) -> FeatureBank:
    """The bank of the plain model."""
    return make_bank(tiny_model(), storage, batch, grid, scheduler=scheduler)


@functools.cache
def inverted(batch: int = 1, grid: tuple[int, int] = GRID) -> Tensor:
    """The content's noise."""
    return inversion(tiny_model(), portrait(batch, grid), "latents", "output.11").noise["samples"]


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


# --- cells ---------------------------------------------------------------------------------------------------------


class Tried(NamedTuple):
    """One way of wiring a neighbour."""

    name: str
    wire: Wire
    on: Callable[[], Graph] = base
    scheduler: str = SCHEDULER  # of the inversions beside it


@dataclass(frozen=True)
class Row:
    """One neighbour: how it is wired, and what must hold."""

    name: str
    tried: tuple[Tried, ...]
    outcome: str = BOTH_ACT
    after: bool = False  # whether it is also tried behind our node: it patches the model
    inverts: bool = False  # whether the inversion's model has it, too
    storages: tuple[str, ...] = STORAGES
    layers: str = LAYERS
    warns: str = ""  # the layers that the one warning names
    yields: str = ""  # layers in which the neighbour leaves us nothing
    note: str = ""  # what was tried, where that is a long list
    flag: str = ""  # the attention that a flag of the host chooses
    witness: Callable[[], int] | None = None  # how often a neighbour that changes no picture has acted

    @property
    def summary(self) -> tuple[str, str, str]:
        """The row as users read it: the neighbour, what was tried, what holds."""
        tried = self.note or ", ".join(tried.name for tried in self.tried)
        tried += "; before and after ours" if self.after else ""
        tried += "; stored features" if len(self.storages) == 1 and self.tried else ""
        warned = f"; ours yields in {self.yields}, one warning" if self.yields else ""
        warned = warned or (f"; one warning names {self.warns}" if self.warns else "")
        return self.name, tried, self.outcome + warned


class Cell(NamedTuple):
    """One case of a row."""

    row: Row
    tried: Tried
    storage: str = "features"
    order: str = "before"  # or "after" our node

    def __str__(self) -> str:
        return "-".join((self.row.name, self.tried.name, self.storage, self.order))


class Verdict(NamedTuple):
    """What was seen, as shares of each node's effect alone."""

    neighbour: float
    ours: float


def cells(rows: tuple[Row, ...]) -> Iterator[Cell]:
    """Every case of every row."""
    for row in rows:
        for tried in row.tried:
            for storage in row.storages:
                for order in ("before", "after") if row.after and storage == "features" else ("before",):
                    yield Cell(row, tried, storage, order)


@functools.cache
def alone(on: Callable[[], Graph]) -> Tensor:
    """The picture of a graph with neither node."""
    return on().picture()


@functools.cache
def neighbour_alone(tried: Tried) -> Tensor:
    """The picture with the neighbour alone."""
    return tried.wire(tried.on()).picture()


@functools.cache
def ours_alone(on: Callable[[], Graph], storage: str, layers: str) -> Tensor:
    """The picture with our node alone."""
    graph = on()
    return stylized(graph, bank_for(graph, storage), layers).picture()


def bank_for(graph: Graph, storage: str, scheduler: str = SCHEDULER) -> FeatureBank:
    """The plain model's bank of a graph's portraits."""
    return plain_bank(storage, graph.portraits, tuple(graph.samples.shape[2:]), scheduler)


def stylized(graph: Graph, bank: FeatureBank, layers: str = LAYERS, **knobs: Any) -> Graph:
    """FFA Model Patcher."""
    return graph.but(model=install_fusion(graph.model, bank, FusionSettings(**knobs), layers, 0.0, 1.0))


def both_wired(cell: Cell, layers: str = "") -> Graph:
    """The graph with both nodes."""
    row, tried = cell.row, cell.tried
    graph, layers = tried.on(), layers or row.layers
    wired = tried.wire(graph)
    if row.inverts:
        grid = tuple(wired.samples.shape[2:])
        bank = make_bank(wired.model, cell.storage, wired.portraits, grid, layers)
    else:
        bank = bank_for(wired, cell.storage, tried.scheduler)
    if cell.order == "after":
        return tried.wire(stylized(graph, bank, layers))
    return stylized(wired, bank, layers)


@functools.cache
def both(cell: Cell, layers: str = "") -> tuple[Tensor, tuple[str, ...]]:
    """The picture with both nodes, and what ours warned of."""
    with warnings_of_ours() as messages:
        return both_wired(cell, layers).picture(), tuple(messages)


@contextmanager
def warnings_of_ours() -> Iterator[list[str]]:
    """The pack's warnings about other nodes, as they come."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda record: "another node" in record.getMessage())
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("magicstyle")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def distance(a: Tensor, b: Tensor) -> float:
    """How far two pictures are apart."""
    return float((a - b).norm())


def effect(picture: Tensor, neither: Tensor) -> float:
    """How far a node moves a picture; one that moves none proves nothing."""
    moved = distance(picture, neither)
    assert moved > FLOOR * float(neither.norm()), f"a node alone moves the picture by {moved:.3g}"
    return moved


def verdict(neither: Tensor, neighbour: Tensor, ours: Tensor, both: Tensor) -> Verdict:
    """Four pictures compared."""
    theirs, mine = effect(neighbour, neither), effect(ours, neither)
    return Verdict(distance(both, ours) / theirs, distance(both, neighbour) / mine)


def check_both_act(seen: Verdict) -> None:
    """Each node's effect beside the other is comparable to its effect alone."""
    for name, share in seen._asdict().items():
        assert SHARES[0] <= share <= SHARES[1], f"of {name}'s effect {share:.3g} times is left"


# --- the neighbours ------------------------------------------------------------------------------------------------


def with_controlnet(*, positive_only: bool = False, nets: int = 1, start: float = 0.0, end: float = 1.0) -> Wire:
    """The host's ControlNetApplyAdvanced, once or twice."""

    def wire(graph: Graph) -> Graph:
        positive, negative = graph.positive, graph.negative
        for place in range(nets):
            positive, negative = stock(
                "nodes.ControlNetApplyAdvanced",
                positive=positive,
                negative=negative,
                control_net=controlnet(5 + place),
                image=hint(5 + place, len(graph.samples)),
                strength=1.0,
                start_percent=start,
                end_percent=end,
            )
        return graph.but(positive=positive, negative=graph.negative if positive_only else negative)

    return wire


def lora_loader(graph: Graph) -> Graph:
    """The host's LoraLoaderModelOnly."""
    model = stock("nodes.LoraLoaderModelOnly", model=graph.model, lora_name=lora_name(), strength_model=0.7)[0]
    return graph.but(model=model)


def image_prompt(graph: Graph) -> Graph:
    """An attn2_replace in every block, as IPAdapter sets it."""
    model, attention = graph.model.clone(), ImagePromptAttention()
    for block, number in [("input", n) for n in (1, 2, 4, 5, 7, 8)] + [("output", n) for n in range(3, 12)]:
        model.set_model_attn2_replace(attention, block, number)
    model.set_model_attn2_replace(attention, "middle", 0)
    return graph.but(model=model)


def patched(address: str, **inputs: Any) -> Wire:
    """One of the host's nodes from MODEL to MODEL."""
    return lambda graph: graph.but(model=stock(address, model=graph.model, **inputs)[0])


def sampled_by(node: Callable[[Graph], Tensor]) -> Wire:
    """Another sampler node in the place of SamplerCustom."""
    return lambda graph: graph.but(node=node)


def text_encoded(graph: Graph) -> Graph:
    """A prompt from the text encoder."""
    return graph.but(positive=stock("nodes.CLIPTextEncode", clip=clip(), text="a painted portrait")[0])


def prompted() -> Graph:
    """The graph with a prompt from the text encoder."""
    return text_encoded(base())


def lora_on_text(graph: Graph) -> Graph:
    """LoraLoader, its strength on the model 0: the prompt alone changes."""
    encoder = stock(
        "nodes.LoraLoader", model=graph.model, clip=clip(), lora_name=lora_name(), strength_model=0.0, strength_clip=2.0
    )[1]
    return graph.but(positive=stock("nodes.CLIPTextEncode", clip=encoder, text="a painted portrait")[0])


def hook_lora(schedule: tuple[tuple[float, float], ...], *, positive_only: bool = False) -> Wire:
    """A LoRA hooked to the prompts, its strength scheduled as (percent, strength)."""
    module = "comfy_extras.nodes_hooks"

    def wire(graph: Graph) -> Graph:
        hooks = stock(f"{module}.CreateHookLoraModelOnly", lora_name=lora_name(), strength_model=1.0)[0]
        keyframes = None
        for percent, strength in schedule:
            keyframes = stock(
                f"{module}.CreateHookKeyframe", strength_mult=strength, start_percent=percent, prev_hook_kf=keyframes
            )[0]
        hooks = stock(f"{module}.SetHookKeyframes", hooks=hooks, hook_kf=keyframes)[0]
        positive, negative = (
            stock(f"{module}.SetModelHooksOnCond", conditioning=prompt, hooks=hooks)[0]
            for prompt in (graph.positive, graph.negative)
        )
        return graph.but(positive=positive, negative=graph.negative if positive_only else negative)

    return wire


def with_adapter(graph: Graph) -> Graph:
    """A T2I-adapter through the same node as a ControlNet."""
    positive, negative = stock(
        "nodes.ControlNetApplyAdvanced",
        positive=graph.positive,
        negative=graph.negative,
        control_net=t2i_adapter(),
        image=hint(batch=len(graph.samples)),
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    return graph.but(positive=positive, negative=negative)


def override(graph: Graph) -> Graph:
    """An attention override that is assigned, whatever was there before."""
    model = graph.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = HalvedQueries()
    return graph.but(model=model)


def replaced(*layers: tuple[str, int]) -> Wire:
    """An attn1_replace on some blocks."""

    def wire(graph: Graph) -> Graph:
        model = graph.model.clone()
        for block, number in layers:
            model.set_model_attn1_replace(values_alone, block, number)
        return graph.but(model=model)

    return wire


OTHER = tiny_conditioning(seed=8)


def half_mask() -> Tensor:
    """A MASK of the picture's left half."""
    mask = torch.zeros(1, PIXELS * GRID[0], PIXELS * GRID[1])
    mask[..., : PIXELS * GRID[1] // 2] = 1.0
    return mask


def joined(graph: Graph, other: list[Any]) -> Graph:
    """A second positive prompt beside the first."""
    return graph.but(
        positive=stock("nodes.ConditioningCombine", conditioning_1=graph.positive, conditioning_2=other)[0]
    )


def masked_prompt(bounds: str) -> Wire:
    """A second prompt for the left half, by ConditioningSetMask."""
    return lambda graph: joined(
        graph,
        stock("nodes.ConditioningSetMask", conditioning=OTHER, mask=half_mask(), strength=1.0, set_cond_area=bounds)[0],
    )


def area_prompt(graph: Graph) -> Graph:
    """A second prompt for the left two thirds, by ConditioningSetArea."""
    area = {"width": 8 * PIXELS, "height": 8 * PIXELS, "x": 0, "y": 0}
    return joined(graph, stock("nodes.ConditioningSetArea", conditioning=OTHER, strength=1.0, **area)[0])


def prompts_in_turn(graph: Graph) -> Graph:
    """One prompt while noise is high, then another."""
    ranged = "nodes.ConditioningSetTimestepRange"
    early = stock(ranged, conditioning=graph.positive, start=0.0, end=0.4)[0]
    late = stock(ranged, conditioning=OTHER, start=0.4, end=1.0)[0]
    return joined(graph.but(positive=early), late)


def inpainted(graph: Graph) -> Graph:
    """SetLatentNoiseMask: the right half stays."""
    masked = stock("nodes.SetLatentNoiseMask", samples={"samples": graph.samples}, mask=half_mask())[0]
    return graph.but(noise_mask=masked["noise_mask"])


def soft_inpainted(graph: Graph) -> Graph:
    """The same through DifferentialDiffusion, which makes a soft mask of it."""
    graph = inpainted(graph)
    model = stock("comfy_extras.nodes_differential_diffusion.DifferentialDiffusion", model=graph.model)[0]
    ramp = torch.linspace(1.0, 0.0, graph.noise_mask.shape[-1]).expand_as(graph.noise_mask)
    return graph.but(model=model, noise_mask=ramp)


def by(name: str) -> Tried:
    """Another sampler."""
    return Tried(name, lambda graph: graph.but(sampler=name), guided if "cfg_pp" in name else base)


def scheduled(name: str) -> Tried:
    """Another scheduler, for the inversion as well as for sampling."""
    return Tried(name, lambda graph: graph.but(sigmas=tiny_sigmas(tiny_model(), STEPS, name)), scheduler=name)


def noisy() -> Graph:
    """KSampler at its full strength."""
    return base().but(node=ksampler(1.0))


def first_of(graph: Graph) -> Graph:
    """The first picture of a batch."""
    return graph.but(node=lambda graph: sampler_custom(graph)[:1])


def repeated(graph: Graph) -> Tensor:
    """One portrait's noise three times."""
    return stock("nodes.RepeatLatentBatch", samples={"samples": graph.samples}, amount=3)[0]["samples"]


def decoded() -> Graph:
    """The graph with VAEDecode behind the sampler."""
    return base().but(node=lambda graph: stock("nodes.VAEDecode", vae=vae(), samples=readable(graph))[0])


def decoded_in_tiles(graph: Graph) -> Tensor:
    """VAEDecodeTiled in the place of VAEDecode."""
    return stock("nodes.VAEDecodeTiled", vae=vae(), samples=readable(graph), tile_size=64, overlap=0)[0]


def readable(graph: Graph) -> dict[str, Tensor]:
    """The sampled latent in the range of pictures."""
    return {"samples": sampler_custom(graph) / STRONG}


tiles_decoded, runs_layer_by_layer = [0], [0]


def layer_by_layer(graph: Graph) -> Tensor:
    """SamplerCustom with the model loaded as --novram does, which the host does not allow beside --cpu."""
    management = comfy.model_management
    management.unload_all_models()
    with (
        mock.patch.object(management, "vram_state", management.VRAMState.NO_VRAM),
        mock.patch.object(management, "is_device_cpu", lambda device: False),
    ):
        picture = sampler_custom(graph)
    runs_layer_by_layer[0] += bool(graph.model.model.model_lowvram)
    management.unload_all_models()
    return picture


@functools.cache
def vae() -> Any:
    """The tests' own autoencoder, which counts its tiled decodings."""
    weights = Autoencoder(VARIANTS["full"].scale).build()
    made = comfy.sd.VAE(sd={name: weight.float() for name, weight in weights.items()})
    tiled = made.decode_tiled_

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        tiles_decoded[0] += 1
        return tiled(*args, **kwargs)

    made.decode_tiled_ = counted
    return made


SDE = ("ancestral", "sde", "ddpm", "lcm", "seeds", "sa_solver")
SECOND = ("heun", "dpm_2", "dpmpp_2s", "exp_heun", "dpm_fast", "dpm_adaptive")
SAMPLERS = [
    name for name in comfy.samplers.KSAMPLER_NAMES if name not in ("ddim", "euler") and not name.endswith("_gpu")
]
SECOND_ORDER = [name for name in SAMPLERS if name.startswith(SECOND) and "ancestral" not in name and "sde" not in name]
RANDOM = [name for name in SAMPLERS if any(part in name for part in SDE)]
DETERMINISTIC = [name for name in SAMPLERS if name not in SECOND_ORDER + RANDOM]
CUSTOM = "comfy_extras.nodes_custom_sampler"
DEEP_SHRINK = {
    "block_number": 3,
    "downscale_factor": 2.0,
    "start_percent": 0.0,
    "end_percent": 0.5,
    "downscale_after_skip": True,
    "downscale_method": "bicubic",
    "upscale_method": "bicubic",
}
HYPERTILE = {"tile_size": 32, "swap_size": 1, "max_depth": 0, "scale_depth": False}

ROWS = (
    Row(
        "ControlNet",
        (
            Tried("positive prompt only", with_controlnet(positive_only=True), guided),
            Tried("both prompts", with_controlnet(), guided),
            Tried("two chained", with_controlnet(nets=2)),
            Tried("part of the steps", with_controlnet(start=0.2, end=0.7)),
            Tried("batch of three", with_controlnet(), three),
        ),
    ),
    Row("T2I-adapter", (Tried("both prompts", with_adapter, guided),)),
    Row("LoRA", (Tried("one portrait", lora_loader), Tried("three portraits", lora_loader, three)), after=True),
    Row("LoRA on the inversion's model, too", (Tried("one portrait", lora_loader),), inverts=True),
    Row("LoRA on the text encoder", (Tried("LoraLoader", lora_on_text, prompted),)),
    Row(
        "hook LoRA, scheduled",
        (
            Tried("both prompts", hook_lora(((0.0, 0.3), (0.5, 1.0))), guided),
            Tried("positive prompt only", hook_lora(((0.0, 1.0), (0.5, 0.0)), positive_only=True), guided),
        ),
    ),
    Row(
        "attn2_replace, as IPAdapter sets it",
        (Tried("cfg 1", image_prompt), Tried("cfg 3", image_prompt, guided)),
        after=True,
    ),
    Row(
        "attn1_replace",
        (Tried("output.7", replaced(("output", 7))),),
        after=True,
        warns="output.7.0",
        yields="output.7",
    ),
    Row(
        "PAG", (Tried("scale 3", patched("comfy_extras.nodes_pag.PerturbedAttentionGuidance", scale=3.0)),), after=True
    ),
    Row(
        "PAG, its own block fused too",
        (Tried("scale 3", patched("comfy_extras.nodes_pag.PerturbedAttentionGuidance", scale=3.0)),),
        layers="middle, output.6-11",
        warns="middle.0.0",
    ),
    Row(
        "SAG",
        (
            Tried(
                "scale 2",
                patched("comfy_extras.nodes_sag.SelfAttentionGuidance", scale=2.0, blur_sigma=2.0),
                large_guided,
            ),
        ),
        after=True,
        yields="middle",
    ),
    Row(
        "FreeU",
        (
            Tried("FreeU", patched("comfy_extras.nodes_freelunch.FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2)),
            Tried("FreeU_V2", patched("comfy_extras.nodes_freelunch.FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2)),
        ),
        after=True,
    ),
    Row(
        "HyperTile",
        (Tried("finest grid", patched("comfy_extras.nodes_hypertile.HyperTile", **HYPERTILE)),),
        after=True,
        warns="output.9.0, output.10.0, output.11.0",
        yields="output.9-11",
    ),
    Row(
        "ToMe",
        (Tried("ratio 0.5", patched("comfy_extras.nodes_tomesd.TomePatchModel", ratio=0.5)),),
        after=True,
        warns="output.9.0, output.10.0, output.11.0",
        yields="output.9-11",
    ),
    Row(
        "PatchModelAddDownscale (Deep Shrink)",
        (Tried("half", patched("comfy_extras.nodes_model_downscale.PatchModelAddDownscale", **DEEP_SHRINK), large),),
        after=True,
    ),
    Row(
        "Deep Shrink on the inversion's model, too",
        (Tried("half", patched("comfy_extras.nodes_model_downscale.PatchModelAddDownscale", **DEEP_SHRINK), large),),
        inverts=True,
    ),
    Row(
        "RescaleCFG",
        (Tried("multiplier 1", patched("comfy_extras.nodes_model_advanced.RescaleCFG", multiplier=1.0), guided),),
        after=True,
    ),
    Row(
        "APG, TCFG, Mahiro, FreSca",
        (
            Tried("APG", patched("comfy_extras.nodes_apg.APG", eta=0.5, norm_threshold=0.0, momentum=0.3), guided),
            Tried("TCFG", patched("comfy_extras.nodes_tcfg.TCFG"), guided),
            Tried("Mahiro", patched("comfy_extras.nodes_mahiro.Mahiro"), guided),
            Tried(
                "FreSca",
                patched("comfy_extras.nodes_fresca.FreSca", scale_low=1.0, scale_high=3.0, freq_cutoff=1),
                guided,
            ),
        ),
    ),
    Row(
        "NAG",
        (
            Tried(
                "scale 5, in ComfyUI 0.33",
                patched("comfy_extras.nodes_nag.NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5),
                guided,
            ),
        ),
        after=True,
    ),
    Row(
        "Perp-Neg",
        (
            Tried(
                "PerpNeg",
                patched("comfy_extras.nodes_perpneg.PerpNeg", empty_conditioning=OTHER, neg_scale=1.0),
                guided,
            ),
            Tried(
                "PerpNegGuider",
                sampled_by(
                    sampler_custom_advanced(
                        "comfy_extras.nodes_perpneg.PerpNegGuider",
                        positive="positive",
                        negative="negative",
                        empty_conditioning=OTHER,
                        cfg="cfg",
                        neg_scale=1.0,
                    )
                ),
                guided,
            ),
        ),
    ),
    Row(
        "DualCFGGuider",
        tuple(
            Tried(
                style,
                sampled_by(
                    sampler_custom_advanced(
                        f"{CUSTOM}.DualCFGGuider",
                        cond1="positive",
                        cond2=OTHER,
                        negative="negative",
                        cfg_conds=2.0,
                        cfg_cond2_negative=2.0,
                        style=style,
                    )
                ),
                guided,
            )
            for style in ("regular", "nested")
        ),
    ),
    Row(
        "ConditioningSetMask",
        (Tried("default", masked_prompt("default")), Tried("mask bounds", masked_prompt("mask bounds"))),
    ),
    Row("ConditioningSetArea", (Tried("cfg 1", area_prompt), Tried("cfg 3", area_prompt, guided))),
    Row("ConditioningSetTimestepRange", (Tried("two prompts in turn", prompts_in_turn),)),
    Row("attention override", (Tried("assigned", override),), after=True),
    Row("inpainting mask", (Tried("SetLatentNoiseMask", inpainted), Tried("DifferentialDiffusion", soft_inpainted))),
    Row("SamplerCustom, noise of its own", (Tried("add_noise on", sampled_by(noisy_sampler_custom)),)),
    Row("KSampler, noise of its own", (Tried("from the portrait", sampled_by(ksampler(1.0))),)),
    Row("KSampler, denoise below 1", (Tried("denoise 0.6", sampled_by(ksampler(0.6)), noisy),)),
    Row(
        "deterministic samplers",
        tuple(by(name) for name in DETERMINISTIC),
        note="each of the host's",
        storages=ONE_STORAGE,
    ),
    Row(
        "second-order samplers",
        tuple(by(name) for name in SECOND_ORDER),
        note="each of the host's",
        storages=ONE_STORAGE,
    ),
    Row(
        "ancestral and SDE samplers",
        tuple(by(name) for name in RANDOM),
        note="each of the host's",
        storages=ONE_STORAGE,
    ),
    Row("euler_ancestral", (by("euler_ancestral"),)),
    Row(
        "schedulers",
        tuple(scheduled(name) for name in comfy.samplers.SCHEDULER_NAMES if name != SCHEDULER),
        note="each of the host's",
        storages=ONE_STORAGE,
    ),
    Row("euler", (by("euler"),), SAME_PICTURE),
    Row(
        "batch of three, one style",
        (
            Tried("three portraits", lambda graph: first_of(graph.but(samples=inverted(3), portraits=3))),
            Tried("RepeatLatentBatch", lambda graph: first_of(graph.but(samples=repeated(graph)))),
        ),
        SAME_PICTURE,
    ),
    Row(
        "tiled VAE",
        (Tried("VAEDecodeTiled", lambda graph: graph.but(node=decoded_in_tiles), decoded),),
        SAME_PICTURE,
        witness=lambda: tiles_decoded[0],
    ),
    Row(
        "--novram: weights cast layer by layer",
        (
            Tried("without LoRA", lambda graph: graph.but(node=layer_by_layer)),
            Tried("with LoRA", lambda graph: graph.but(node=layer_by_layer), lambda: lora_loader(base())),
        ),
        SAME_PICTURE,
        storages=STORAGES,
        witness=lambda: runs_layer_by_layer[0],
    ),
    Row("--use-split-cross-attention", (), SAME_PICTURE, note="in a process of its own", flag="split"),
    Row("--use-pytorch-cross-attention", (), SAME_PICTURE, note="in a process of its own", flag="pytorch"),
    Row(
        "TorchCompileModel",
        (
            Tried(
                "backend eager, our part not compiled",
                patched("comfy_extras.nodes_torch_compile.TorchCompileModel", backend="eager"),
            ),
        ),
        SAME_PICTURE,
        after=True,
        storages=ONE_STORAGE,
        witness=lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"],
    ),
    Row(
        "KSamplerAdvanced",
        (
            Tried("in one go", sampled_by(ksampler_advanced)),
            Tried("in two halves", sampled_by(lambda graph: ksampler_advanced(graph, STEPS // 2))),
        ),
        SAME_PICTURE,
    ),
    Row(
        "SamplerCustomAdvanced",
        (
            Tried(
                "BasicGuider",
                sampled_by(sampler_custom_advanced(f"{CUSTOM}.BasicGuider", conditioning="positive")),
            ),
            Tried(
                "CFGGuider",
                sampled_by(
                    sampler_custom_advanced(f"{CUSTOM}.CFGGuider", positive="positive", negative="negative", cfg="cfg")
                ),
                guided,
            ),
        ),
        SAME_PICTURE,
    ),
)

"""How each neighbour is wired into a graph, as users wire it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import comfy.model_management
import comfy.samplers
import comfy.sd
import torch
from magicstyle.tests.host.composition.graph import (
    GRID,
    STEPS,
    STRONG,
    Graph,
    Wire,
    base,
    guided,
    ksampler,
    sampler_custom,
    sampler_custom_advanced,
)
from magicstyle.tests.host.composition.matrix import Tried, bank_for, stylized
from magicstyle.tests.host.neighbours import (
    PIXELS,
    HalvedQueries,
    ImagePromptAttention,
    Tiles,
    clip,
    controlnet,
    hint,
    lora_name,
    stock,
    t2i_adapter,
    values_alone,
    windows,
    wrapped,
)
from magicstyle.tests.host.tiny import tiny_conditioning, tiny_model, tiny_sigmas
from magicstyle.tests.tiny_checkpoint import VARIANTS, Autoencoder
from torch import Tensor


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


def bypassed_lora(graph: Graph) -> Graph:
    """The host's LoraLoaderBypassModelOnly: the same LoRA beside the weights."""
    address = "comfy_extras.nodes_lora_debug.LoraLoaderBypassModelOnly"
    return graph.but(model=stock(address, model=graph.model, lora_name=lora_name(), strength_model=0.7)[0])


def chosen_attention(graph: Graph) -> Graph:
    """The host's ModelAttentionBackend."""
    address = "comfy_extras.nodes_model_advanced.ModelAttentionBackend"
    return graph.but(model=stock(address, model=graph.model, attention="pytorch attention")[0])


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


def tiled(graph: Graph) -> Graph:
    """Overlapping tiles of 6 latent pixels in one batch."""
    return graph.but(model=wrapped(graph.model, Tiles(6, 2)))


def windowed(dim: int, length: int = 8) -> Wire:
    """The host's Context Windows (Manual) over rows or columns."""
    return lambda graph: graph.but(model=windows(graph.model, length, 2, dim))


SKIPPING = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}


def easy_cache(graph: Graph) -> Graph:
    """The host's EasyCache, as eager as it can be."""
    return patched("comfy_extras.nodes_easycache.EasyCacheNode", **SKIPPING)(graph)


def lazy_cache(graph: Graph) -> Graph:
    """The host's LazyCache, likewise."""
    return patched("comfy_extras.nodes_easycache.LazyCacheNode", **SKIPPING)(graph)


def sampled_by(node: Callable[[Graph], Tensor]) -> Wire:
    """Another sampler node in the place of SamplerCustom."""
    return lambda graph: graph.but(node=node)


def style_guided(guidance: str, method: str) -> Wire:
    """Our own guider, its second model behind a patcher of its own."""

    def node(graph: Graph) -> Tensor:
        guiding = stylized(graph, bank_for(graph, "features"), graph.kind.layers, method=method).model
        return sampler_custom_advanced(
            "magicstyle.nodes.style_guidance.StyleGuidanceNode",
            guiding_model=guiding,
            positive="positive",
            negative="negative",
            guidance=guidance,
            style_scale=1.0,
            cfg="cfg",
        )(graph)

    return sampled_by(node)


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

    def node(graph: Graph) -> Tensor:
        pictures = sampler_custom(graph)
        batches_of_three[0] += len(pictures) == 3
        return pictures[:1]

    return graph.but(node=node)


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


tiles_decoded, runs_layer_by_layer, batches_of_three = [0], [0], [0]


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

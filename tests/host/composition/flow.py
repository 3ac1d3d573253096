"""The rows of the matrix for flow-matching transformers: Flux.1 and Z-Image beside what their users wire in."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import comfy.sd
import folder_paths
import torch
from comfy.ldm.flux.redux import ReduxImageEncoder
from magicstyle.attention_patches.comfy import install_start
from magicstyle.tests.host.composition.graph import (
    GRID,
    STEPS,
    Graph,
    Kind,
    Wire,
    inverted,
    ksampler,
    ksampler_advanced,
    noisy_sampler_custom,
    sampler_custom_advanced,
)
from magicstyle.tests.host.composition.matrix import ONE_STORAGE, SAME_PICTURE, STORAGES, Row, Tried
from magicstyle.tests.host.composition.rows import CUSTOM, DETERMINISTIC, SECOND_ORDER
from magicstyle.tests.host.composition.wires import (
    batches_of_three,
    chosen_attention,
    first_of,
    half_mask,
    inpainted,
    joined,
    layer_by_layer,
    override,
    patched,
    repeated,
    runs_layer_by_layer,
    sampled_by,
    soft_inpainted,
    style_guided,
)
from magicstyle.tests.host.families import TEXT, family_latent, family_model, family_prompt, family_sigmas
from magicstyle.tests.host.family_neighbours import Residuals, around_block, behind_block, lora_weights, residuals
from magicstyle.tests.host.neighbours import LORAS, ran, stock
from safetensors.torch import save_file
from torch import Tensor

# ddim_uniform would end in a leap over ten octaves of noise, on which multistep samplers stumble
SCHEDULER = "simple"


def kind(title: str, name: str) -> Kind:
    """A family as a kind of model: a model that begins with inverted noise, as one behind our node does."""
    return Kind(
        title,
        lambda: install_start(family_model(name)),
        lambda grid, batch, seed: family_latent(name, grid, batch=batch, seed=seed),
        lambda seed: family_prompt(name, seed=seed),
        "euler",
        SCHEDULER,
        "all",
    )


FLUX, Z_IMAGE = kind("Flux.1", "flux"), kind("Z-Image", "z-image")
KINDS = {"flux": FLUX, "z-image": Z_IMAGE}
POSITIVE, NEGATIVE, OTHER = 6, 3, 8  # seeds of prompts


@dataclass(frozen=True)
class Wires:
    """How neighbours are wired to one kind of transformer."""

    name: str  # in FAMILIES

    @property
    def kind(self) -> Kind:
        """What is loaded."""
        return KINDS[self.name]

    def base(self, scheduler: str = SCHEDULER) -> Graph:
        """Neither node: the portrait sampled back."""
        return Graph(
            self.kind.model(),
            inverted(kind=self.kind, scheduler=scheduler),
            self.kind.prompt(POSITIVE),
            self.kind.prompt(NEGATIVE),
            family_sigmas(self.name, STEPS, scheduler),
            sampler=self.kind.sampler,
            kind=self.kind,
        )

    def guided(self) -> Graph:
        """The same with a negative prompt that counts."""
        return self.base().but(cfg=3.0)

    def three(self) -> Graph:
        """Three portraits at once."""
        return self.base().but(samples=inverted(3, kind=self.kind), portraits=3)

    def noisy(self) -> Graph:
        """KSampler at its full strength."""
        return self.base().but(node=ksampler(1.0))

    @property
    def other(self) -> Any:
        """Another prompt."""
        return self.kind.prompt(OTHER)

    def lora(self, graph: Graph) -> Graph:
        """The host's LoraLoaderModelOnly with a LoRA on every block's linear layers."""
        model = stock("nodes.LoraLoaderModelOnly", model=graph.model, lora_name=lora(self.name), strength_model=0.7)[0]
        return graph.but(model=model)

    def bypassed_lora(self, graph: Graph) -> Graph:
        """The same LoRA beside the weights, by the host's LoraLoaderBypassModelOnly."""
        address = "comfy_extras.nodes_lora_debug.LoraLoaderBypassModelOnly"
        return graph.but(model=stock(address, model=graph.model, lora_name=lora(self.name), strength_model=0.7)[0])

    def controlled(self, graph: Graph) -> Graph:
        """What a ControlNet adds behind the first blocks, in both prompts."""
        control = Residuals(residuals(self.name, GRID[0] * GRID[1] // 4, scale=0.3))
        positive, negative = (
            [[text, {**carried, "control": control}]] for ((text, carried),) in (graph.positive, graph.negative)
        )
        return graph.but(positive=positive, negative=negative)

    def model_patch(self, graph: Graph) -> Graph:
        """A patch behind the first block, as ModelPatchLoader's ControlNets set it."""
        model = graph.model.clone()
        model.set_model_patch(behind_block, "double_block")
        return graph.but(model=model)

    def block_patch(self, graph: Graph) -> Graph:
        """A block that another node replaces, around the host's own."""
        model = graph.model.clone()
        model.set_model_patch_replace(around_block, "dit", "double_block", 1)
        return graph.but(model=model)

    def referring(self, graph: Graph) -> Graph:
        """A second picture as reference latent."""
        reference = {"samples": family_latent(self.name, (6, 4), seed=12)}
        told = stock("comfy_extras.nodes_edit_model.ReferenceLatent", conditioning=graph.positive, latent=reference)
        return graph.but(positive=told[0])

    def shown(self, strength_type: str) -> Wire:
        """A picture beside the words, at a third of its strength."""

        def wire(graph: Graph) -> Graph:
            told = stock(
                "nodes.StyleModelApply",
                conditioning=graph.positive,
                style_model=style_model(),
                clip_vision_output=SimpleNamespace(last_hidden_state=picture_tokens()),
                strength=0.3 if strength_type == "attn_bias" else 1.0,
                strength_type=strength_type,
            )
            return graph.but(positive=told[0])

        return wire

    def stronger_guidance(self, graph: Graph) -> Graph:
        """FluxGuidance at the value that users know."""
        told = stock("comfy_extras.nodes_flux.FluxGuidance", conditioning=graph.positive, guidance=3.5)
        return graph.but(positive=told[0])

    def masked_prompt(self, graph: Graph) -> Graph:
        """A second prompt for the left half, by ConditioningSetMask."""
        settings = {"mask": half_mask(), "strength": 1.0, "set_cond_area": "default"}
        return joined(graph, stock("nodes.ConditioningSetMask", conditioning=self.other, **settings)[0])

    def prompts_in_turn(self, graph: Graph) -> Graph:
        """One prompt while noise is high, then another."""
        ranged = "nodes.ConditioningSetTimestepRange"
        early = stock(ranged, conditioning=graph.positive, start=0.0, end=0.4)[0]
        late = stock(ranged, conditioning=self.other, start=0.4, end=1.0)[0]
        return joined(graph.but(positive=early), late)

    def by(self, sampler: str) -> Tried:
        """Another sampler."""
        return Tried(
            sampler, lambda graph: graph.but(sampler=sampler), self.guided if "cfg_pp" in sampler else self.base
        )

    def scheduled(self, scheduler: str) -> Tried:
        """Another scheduler, for the inversion as well as for sampling."""

        def wire(graph: Graph) -> Graph:
            other = self.base(scheduler)
            return graph.but(samples=other.samples, sigmas=other.sigmas)

        return Tried(scheduler, wire, self.base, scheduler)

    def row(self, name: str, *tried: Tried, **more: Any) -> Row:
        """A neighbour of this kind."""
        return Row(name, tried, layers=self.kind.layers, kind=self.kind, **more)

    def rows(self) -> tuple[Row, ...]:
        """Every neighbour."""
        custom = f"{CUSTOM}.{{}}".format
        guider = sampler_custom_advanced(custom("CFGGuider"), positive="positive", negative="negative", cfg="cfg")
        row, base, guided = self.row, self.base, self.guided
        return (
            row(
                "LoRA",
                Tried("one portrait", self.lora, base),
                Tried("three portraits", self.lora, self.three),
                after=True,
            ),
            row("Load LoRA (Bypass)", Tried("one portrait, in ComfyUI 0.33", self.bypassed_lora, base), after=True),
            row("LoRA on the inversion's model, too", Tried("one portrait", self.lora, base), inverts=True),
            row("attention override", Tried("assigned", override, base), after=True),
            *self.own_rows(),
            row(
                "RescaleCFG, APG, TCFG, Mahiro",
                Tried("RescaleCFG", patched("comfy_extras.nodes_model_advanced.RescaleCFG", multiplier=1.0), guided),
                Tried("APG", patched("comfy_extras.nodes_apg.APG", eta=0.5, norm_threshold=0.0, momentum=0.3), guided),
                Tried("TCFG", patched("comfy_extras.nodes_tcfg.TCFG"), guided),
                Tried("Mahiro", patched("comfy_extras.nodes_mahiro.Mahiro"), guided),
            ),
            row("Style Guidance (MagicStyle)", Tried("nvqg", style_guided("nvqg", "nvqg"), guided)),
            row("ConditioningSetMask", Tried("default", self.masked_prompt, base)),
            row("ConditioningSetTimestepRange", Tried("two prompts in turn", self.prompts_in_turn, base)),
            row(
                "inpainting mask",
                Tried("SetLatentNoiseMask", inpainted, base),
                Tried("DifferentialDiffusion", soft_inpainted, base),
            ),
            row("SamplerCustom, noise of its own", Tried("add_noise on", sampled_by(noisy_sampler_custom), base)),
            row("KSampler, denoise below 1", Tried("denoise 0.6", sampled_by(ksampler(0.6)), self.noisy)),
            row(
                "deterministic and second-order samplers",
                *(self.by(name) for name in DETERMINISTIC + SECOND_ORDER if name != "dpm_adaptive"),
                note="each of the host's with a fixed number of steps",
                storages=ONE_STORAGE,
            ),
            row("euler_ancestral", self.by("euler_ancestral")),
            row("schedulers", *map(self.scheduled, ("ddim_uniform", "sgm_uniform", "beta")), storages=ONE_STORAGE),
            row(
                "batch of three, one style",
                Tried(
                    "three portraits",
                    lambda graph: first_of(graph.but(samples=inverted(3, kind=self.kind), portraits=3)),
                    base,
                ),
                Tried("RepeatLatentBatch", lambda graph: first_of(graph.but(samples=repeated(graph))), base),
                outcome=SAME_PICTURE,
                witness=lambda: batches_of_three[0],
            ),
            row(
                "--novram: weights cast layer by layer",
                Tried("without LoRA", lambda graph: graph.but(node=layer_by_layer), base),
                outcome=SAME_PICTURE,
                storages=STORAGES,
                witness=lambda: runs_layer_by_layer[0],
            ),
            row(
                "ModelAttentionBackend",
                Tried("pytorch attention, in ComfyUI 0.33", chosen_attention, base),
                outcome=SAME_PICTURE,
                after=True,
                storages=STORAGES,
                witness=lambda: ran["ModelAttentionBackend"],
            ),
            row(
                "KSamplerAdvanced",
                Tried("in one go", sampled_by(ksampler_advanced), base),
                Tried("in two halves", sampled_by(lambda graph: ksampler_advanced(graph, STEPS // 2)), base),
                outcome=SAME_PICTURE,
                witness=lambda: ran["KSamplerAdvanced"],
            ),
            row(
                "SamplerCustomAdvanced",
                Tried(
                    "BasicGuider",
                    sampled_by(sampler_custom_advanced(custom("BasicGuider"), conditioning="positive")),
                    base,
                ),
                Tried("CFGGuider", sampled_by(guider), guided),
                outcome=SAME_PICTURE,
                witness=lambda: ran["SamplerCustomAdvanced"],
            ),
        )

    def own_rows(self) -> tuple[Row, ...]:
        """Neighbours that this kind alone has."""
        row, base = self.row, self.base
        if self.name == "z-image":
            name = "ControlNet as a model patch (double_block)"
            return (row(name, Tried("behind one block", self.model_patch, base), after=True),)
        return (
            row("ControlNet", Tried("both prompts", self.controlled, self.guided)),
            row(
                "another node's block patch (patches_replace)",
                Tried("around one block", self.block_patch, base),
                after=True,
            ),
            row("ReferenceLatent", Tried("sampling alone", self.referring, base)),
            row(
                "Redux (StyleModelApply)",
                Tried("multiply", self.shown("multiply"), base),
                Tried("attn_bias 0.3", self.shown("attn_bias"), base),
            ),
            row("FluxGuidance", Tried("3.5 while sampling", self.stronger_guidance, base)),
        )


@functools.cache
def lora(name: str) -> str:
    """The name, as loader nodes know it, of a LoRA file for a family."""
    folder_paths.add_model_folder_path("loras", LORAS.name)
    save_file(lora_weights(name)[0], f"{LORAS.name}/magicstyle_{name}.safetensors")
    return f"magicstyle_{name}.safetensors"


@functools.cache
def style_model() -> comfy.sd.StyleModel:
    """Redux of the miniature's widths, with random weights."""
    with torch.inference_mode(False), torch.no_grad():
        network = ReduxImageEncoder(TEXT, TEXT).requires_grad_(False)
        generator = torch.Generator().manual_seed(11)
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
    return comfy.sd.StyleModel(network, "cpu")


def picture_tokens() -> Tensor:
    """What a vision model says of a picture: 1 n c."""
    return 2.0 * torch.randn(1, 6, TEXT, generator=torch.Generator().manual_seed(12))


FLOW_ROWS = tuple(row for name in KINDS for row in Wires(name).rows())


def flow_table() -> list[tuple[str, str, str]]:
    """The rows as users read them: the neighbour, what was tried, what holds, and for whom where that is not both."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in FLOW_ROWS:
        found.setdefault(row.summary, []).append(row.kind.name)
    return [
        (name, tried, outcome if len(kinds) == len(KINDS) else f"{outcome} ({', '.join(kinds)})")
        for (name, tried, outcome), kinds in found.items()
    ]

"""The rows of the matrix: every neighbour, what was tried, and what must hold."""

from __future__ import annotations

import comfy.samplers
import torch
import torch._dynamo
from magicstyle.tests.host.composition.graph import (
    SCHEDULER,
    STEPS,
    base,
    guided,
    inverted,
    ksampler,
    ksampler_advanced,
    large,
    large_guided,
    noisy_sampler_custom,
    sampler_custom_advanced,
    three,
)
from magicstyle.tests.host.composition.matrix import ONE_STORAGE, SAME_PICTURE, STORAGES, Row, Tried
from magicstyle.tests.host.composition.wires import (
    OTHER,
    area_prompt,
    batches_of_three,
    by,
    bypassed_lora,
    chosen_attention,
    decoded,
    decoded_in_tiles,
    easy_cache,
    first_of,
    hook_lora,
    image_prompt,
    inpainted,
    layer_by_layer,
    lazy_cache,
    lora_loader,
    lora_on_text,
    masked_prompt,
    noisy,
    override,
    patched,
    prompted,
    prompts_in_turn,
    repeated,
    replaced,
    runs_layer_by_layer,
    sampled_by,
    scheduled,
    soft_inpainted,
    style_guided,
    tiled,
    tiles_decoded,
    windowed,
    with_adapter,
    with_controlnet,
)
from magicstyle.tests.host.neighbours import ran

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
    Row("Load LoRA (Bypass)", (Tried("one portrait, in ComfyUI 0.33", bypassed_lora),), after=True),
    Row(
        "Load LoRA (Bypass) on the inversion's model, too",
        (Tried("one portrait, in ComfyUI 0.33", bypassed_lora),),
        inverts=True,
    ),
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
        "Style Guidance (MagicStyle)",
        (
            Tried("nvqg", style_guided("nvqg", "nvqg"), guided),
            Tried("spg", style_guided("spg", "zstar"), guided),
        ),
    ),
    Row(
        "ConditioningSetMask",
        (Tried("default", masked_prompt("default")), Tried("mask bounds", masked_prompt("mask bounds"))),
    ),
    Row("ConditioningSetArea", (Tried("cfg 1", area_prompt), Tried("cfg 3", area_prompt, guided))),
    Row("ConditioningSetTimestepRange", (Tried("two prompts in turn", prompts_in_turn),)),
    Row("attention override", (Tried("assigned", override),), after=True),
    Row("tiles, as Tiled Diffusion cuts them", (Tried("cfg 1", tiled), Tried("cfg 3", tiled, guided)), after=True),
    Row(
        "Context Windows (Manual)",
        (Tried("over columns", windowed(3)), Tried("over rows", windowed(2, 6))),
        after=True,
    ),
    Row("Context Windows on the inversion's model, too", (Tried("over columns", windowed(3)),), inverts=True),
    Row("EasyCache", (Tried("threshold 3", easy_cache), Tried("cfg 3", easy_cache, guided)), after=True),
    Row("EasyCache on the inversion's model, too", (Tried("threshold 3", easy_cache),), inverts=True),
    Row("LazyCache", (Tried("threshold 3", lazy_cache),), after=True),
    Row("LazyCache on the inversion's model, too", (Tried("threshold 3", lazy_cache),), inverts=True),
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
    Row("euler", (by("euler"),), SAME_PICTURE, witness=lambda: ran["euler"]),
    Row(
        "batch of three, one style",
        (
            Tried("three portraits", lambda graph: first_of(graph.but(samples=inverted(3), portraits=3))),
            Tried("RepeatLatentBatch", lambda graph: first_of(graph.but(samples=repeated(graph)))),
        ),
        SAME_PICTURE,
        witness=lambda: batches_of_three[0],
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
        # what one cell has compiled serves the next
        witness=lambda: ran["TorchCompileModel"] * bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]),
    ),
    Row(
        "ModelAttentionBackend",
        (Tried("pytorch attention, in ComfyUI 0.33", chosen_attention),),
        SAME_PICTURE,
        after=True,
        storages=STORAGES,
        witness=lambda: ran["ModelAttentionBackend"],
    ),
    Row(
        "KSamplerAdvanced",
        (
            Tried("in one go", sampled_by(ksampler_advanced)),
            Tried("in two halves", sampled_by(lambda graph: ksampler_advanced(graph, STEPS // 2))),
        ),
        SAME_PICTURE,
        witness=lambda: ran["KSamplerAdvanced"],
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
        witness=lambda: ran["SamplerCustomAdvanced"],
    ),
)

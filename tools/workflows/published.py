"""Published methods as they are usually run: StyleID, and DiffStyler's content injection into a LoRA."""

from __future__ import annotations

from .describe import Group, Node, Out, Workflow
from .portrait_stylization import inversion, inversion_below, sampling
from .regions import PORTRAIT, PURPLE, finish, start, styles
from .stock import prompt, result

STYLEID_NOTE = """## StyleID

The method of Chung, Hyun and Heo (CVPR 2024), whose attention is a setting of this pack's.

1. Choose an **SD1.5 checkpoint**, your **picture** and a **style picture**.
2. Press **Run**.

**What to change first** (in *FFA Model Patcher*)

- `query_preservation`, the paper's gamma: 0.75 as published; lower for more style.
- `temperature`, the paper's tau: 1.5 as published; it keeps the picture crisp.

Only what StyleID reads is kept in memory: queries of the picture, keys and values of the style.
"""
LORA_NOTE = """## A style LoRA that keeps your portrait

After DiffStyler: the portrait is inverted with the plain checkpoint, and its queries, keys and one ResNet feature are
injected while the checkpoint **with the LoRA** paints.

1. Choose an **SD1.5 checkpoint**, a **style LoRA** for it and your **portrait**.
2. Write the LoRA's trigger words into *Style prompt*.
3. Press **Run**.

**What to change first**

- `strength_model` in *Load LoRA*: how strongly the style paints.
- `end_percent` in *FFA Model Patcher*: lower lets go of the portrait earlier, for more style.
- `cfg` in *SamplerCustom*: how closely the style prompt is followed.
"""
LORA = "style_lora.safetensors"


def small(kind: str, title: str, keep: str) -> Node:
    """An inversion that keeps some features alone."""
    node = inversion(kind, title)
    return Node(node.key, node.type, {**node.inputs, "keep": keep})


def styleid_fusion() -> Group:
    """StyleID's settings, as published."""
    bank = {"content": Out("invert_content", "features"), "style": Out("invert_style", "features")}
    knobs = {"method": "styleid", "query_preservation": 0.75, "temperature": 1.5, "layers": "output.6-11"}
    patch = {"model": Out("checkpoint", "MODEL"), "bank": Out("bank", "bank"), **knobs}
    noises = {"content": Out("invert_content", "noise"), "style": Out("invert_style", "noise")}
    stack = (
        Node("bank", "MagicStyleFeatureBank", bank),
        Node("patch", "MagicStylePatchFFA", patch),
        Node("initial", "MagicStyleInitialLatent", noises),
    )
    return Group("Phase 2: style injection", (stack,), color=PURPLE)


def lora_model() -> Group:
    """The checkpoint with the style's LoRA, and its prompt."""
    lora = {"model": Out("checkpoint", "MODEL"), "lora_name": LORA}
    stack = (
        Node("lora", "LoraLoaderModelOnly", lora),
        prompt("style_prompt", "a portrait painting", "Style prompt"),
    )
    return Group("Style: a LoRA", (stack,))


def injection() -> Group:
    """The portrait's features as a bank of their own, injected into the model with the LoRA."""
    patch = {
        "model": Out("lora", "MODEL"),
        "bank": Out("bank", "bank"),
        "method": "diffstyler",
        "layers": "output.4-11",
    }
    stack = (
        Node("bank", "MagicStyleFeatureBank", {"content": Out("invert_content", "features")}),
        Node("patch", "MagicStylePatchFFA", patch),
    )
    return Group("Phase 2: content injection", (stack,), color=PURPLE)


def guided_sampling() -> Group:
    """DDIM from the portrait's noise, guided by the style's prompt."""
    (ddim, sample) = sampling().stacks[0]
    guided = {
        "positive": Out("style_prompt", "CONDITIONING"),
        "cfg": 5.0,
        "latent_image": Out("invert_content", "noise"),
    }
    return Group("Sampling", ((ddim, Node(sample.key, sample.type, {**sample.inputs, **guided})),))


STYLEID = Workflow(
    "styleid",
    (
        start(STYLEID_NOTE),
        inversion_below(PORTRAIT, small("content", "Content", "queries"), "Phase 1: content inversion"),
        inversion_below(*styles("style"), small("style", "Style", "keys and values"), "Phase 1: style inversion"),
        (styleid_fusion(),),
        finish("magicstyle/styleid"),
    ),
)

LORA_STYLE = Workflow(
    "lora_style_with_content_injection",
    (
        start(LORA_NOTE),
        inversion_below(PORTRAIT, small("content", "Content", "all and ResNet"), "Phase 1: content inversion"),
        (lora_model(), injection()),
        (guided_sampling(), result(Out("sample", "output"), "magicstyle/lora")),
    ),
)

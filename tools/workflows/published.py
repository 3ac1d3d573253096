"""Published methods as they are usually run: StyleID, and DiffStyler's content injection into a LoRA."""

from __future__ import annotations

from .describe import Block, Knob, Node, Out
from .parts import (
    IMAGE,
    block,
    features,
    inversion,
    invert_block,
    latent_of,
    noise,
    page,
    paint_block,
    patch,
    pictures,
    portrait_and_style,
    result,
    size_knobs,
    steps_knob,
    work,
)
from .stock import LORA, load_checkpoint, load_lora, load_picture, prompt

STYLEID_NOTE = """## StyleID as published

## The portrait takes on the colours of the style picture, by the method of Chung, Hyun and Heo (CVPR 2024). Both
pictures are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, your **Portrait** and a **Style picture**.
2. Press **Run**.

### What to change first

In *FFA Model Patcher*:

- *query_preservation*, the paper's gamma: 0.75 as published; lower for more style.
- *temperature*, the paper's tau: 1.5 as published; it keeps the picture crisp.

Only what StyleID reads is kept in memory: queries of the portrait, keys and values of the style.
"""
LORA_NOTE = """## A style LoRA that keeps your portrait

## The LoRA is the style: it paints your portrait, which is first cropped to 512x512. There is no style picture.

1. Choose an **SD1.5 checkpoint**, a **style LoRA** for it and your **Portrait**.
2. Write the LoRA's trigger words into *Style prompt*, and press **Run**.

### What to change first

- *strength_model* in *Load LoRA*: how strongly the style paints.
- *end_percent* in *FFA Model Patcher* (in Nodes 2.0: *Show advanced inputs*): lower lets go of the portrait
earlier, for more style.
- *cfg* in *Paint*: how closely the style prompt is followed.

After DiffStyler: the portrait's queries, keys and one ResNet feature are injected while the LoRA paints.
"""
WORDS = Out("style_prompt", "CONDITIONING")


def portrait_block() -> Block:
    """The portrait alone: its features as a bank of their own."""
    return block(
        "invert",
        "Invert the portrait",
        (prompt(), *latent_of("content", 512)),
        (
            inversion("content", roles="all and ResNet"),
            Node("bank", "MagicStyleFeatureBank", {"content": features("content")}),
        ),
        knobs=(steps_knob("invert_content"), *size_knobs("content_sized")),
        latent=noise("content"),
    )


def guided_block() -> Block:
    """DDIM from the portrait's noise, guided by the style's prompt."""
    knobs = (Knob("cfg", (("sample", "cfg"),)),)
    guided = paint_block(knobs, positive=WORDS, cfg=5.0, latent_image=noise("content"))
    names = {**guided.names, WORDS: "style prompt", noise("content"): "latent"}
    return Block(guided.key, guided.title, guided.stacks, guided.knobs, names)


STYLEID = page(
    "styleid",
    STYLEID_NOTE,
    (load_checkpoint(),),
    portrait_and_style(),
    work(
        invert_block(content={"roles": "queries"}, style={"roles": "keys and values"}),
        patch(method="styleid", query_preservation=0.75, temperature=1.5, layers="output.6-11"),
        paint_block(),
    ),
    result(IMAGE, "magicstyle/styleid"),
)

LORA_STYLE = page(
    "lora_style_with_content_injection",
    LORA_NOTE,
    (
        load_checkpoint(),
        load_lora(LORA),
        prompt("style_prompt", "PixArFK, a portrait", "Style prompt"),
    ),
    pictures(load_picture("content", "Portrait")),
    work(
        portrait_block(),
        patch(Out("lora", "MODEL"), method="diffstyler", layers="output.4-11"),
        guided_block(),
    ),
    result(IMAGE, "magicstyle/lora"),
    width=720,
)

"""A prompt painted in the style of a picture, without a portrait: by one block, and with Krea 2 Turbo."""

from __future__ import annotations

from typing import Any

from .describe import Block, Group, Knob, Node, Out, Workflow
from .krea_and_anima import KREA_PARTS, TURBO
from .parts import (
    EMPTY,
    GREEN,
    IMAGE,
    OPENED,
    PURPLE,
    block,
    decoded,
    features,
    inversion,
    page,
    patch,
    pictures,
    sampler,
)
from .stock import CLIP, MODEL, VAE, encoded, largest, load_checkpoint, load_picture, prompt, save
from .transformers import APART, network

BLOCK = "Paint from a Prompt (MagicStyle)"
ABOUT = (
    "Paints what a prompt describes in the style of one picture: inverts that picture and fuses its attention features "
    "while sampling, returns the result. No training, no extra weights, no portrait. Made of the pack's separate nodes."
)
# under which the node search finds it: style transfer, prompt, text to image in Chinese; style, prompt in Japanese
WORDS = (
    *("style transfer", "prompt", "text to image", "style", "reference style", "style reference", "MagicStyle"),
    *(
        "\u98ce\u683c\u8fc1\u79fb",
        "\u63d0\u793a\u8bcd",
        "\u6587\u751f\u56fe",
        "\u30b9\u30bf\u30a4\u30eb",
        "\u30d7\u30ed\u30f3\u30d7\u30c8",
    ),
)
EXAMPLE_PROMPT = "a lighthouse on a cliff above the sea, boats in the harbour"
LEVELS, CANVAS = Out("schedule", "SIGMAS"), Out("canvas", "LATENT")
KNOBS = (
    Knob("prompt", (("words", "text"),)),
    Knob("negative prompt", (("unwanted", "text"),)),
    Knob("style strength", (("patch", "style_weight"),)),
    Knob("method", (("patch", "method"),)),
    Knob("steps", (("schedule", "steps"),)),
    Knob("cfg", (("sample", "cfg"),)),
    # the style picture is as large as the picture is wide
    Knob("width", (("canvas", "width"), ("style_sized", "largest_size"))),
    Knob("height", (("canvas", "height"),)),
    Knob("noise_seed", (("sample", "noise_seed"),)),
)
NOTE = """# Prompt in a style, by one block

## What the prompt says is painted like the style picture, which is first scaled to the picture's width.

1. Choose an **SD1.5 or SDXL checkpoint** in *Load Checkpoint*.
2. Choose a **Style picture**, and write into *prompt* what is to be seen.
3. Press **Run**. You need no portrait.

# What to change first

In *Paint from a Prompt*:

- The style picture's things are painted: lower *style strength*, or write them into *negative prompt*.
- Too little style: *method* **ffa** draws from the style alone, **zstar** from both.
- *width* and *height*: 512 for SD1.5, 1024 for SDXL; the style picture is scaled to the width.
- *noise_seed*: another picture.

Inside are the separate nodes: open it by the button in its corner, in Nodes 2.0 by *Enter subgraph*. The block takes
every model that the pack knows.
"""
KREA_NOTE = """## Prompt in a style, with Krea 2 Turbo

## What the prompt says is painted like the style picture, which is first scaled to 1024 pixels, in eight steps.

1. Fetch **Krea 2 Turbo**, its text encoder and its VAE, 19 GB in all: the loaders offer the downloads. For
   ComfyUI 0.33 or newer.
2. Choose a **Style picture**, and write into **Prompt** what is to be seen.
3. Press **Run**.

### What to change first

- *positions* in *FFA Model Patcher* (in Nodes 2.0: *Show advanced inputs*): **untwist** lets the model copy
  less of the style picture's layout; *high_frequencies*: lower copies still less.
- Too little style: *method* **ffa** draws from the style alone, **zstar** from both.
- *layers*: **single.7-27** of 28 are the blocks in which other packs bring style in.
- *noise_seed* in *Paint*: another picture.

Nothing is inverted: method **noising** adds one fixed noise to the style picture at each level and keeps the features
seen there. Layers and settings rest on papers and on small models. Tell us what you find.
"""


def words_and_levels(clip: Out, model: Out, **schedule: Any) -> tuple[Node, ...]:
    """The empty prompt of the style picture, what is to be painted and what is not, and the noise levels of both."""
    return (
        prompt().with_inputs(clip=clip),
        prompt("words", EXAMPLE_PROMPT, "Prompt").with_inputs(clip=clip),
        prompt("unwanted", title="Negative prompt").with_inputs(clip=clip),
        Node("schedule", "BasicScheduler", {"model": model, "denoise": 1.0, **schedule}),
    )


def style_read(model: Out, vae: Out, side: int, **way: Any) -> tuple[Node, ...]:
    """The style picture's features at the levels that are sampled, in a bank without a portrait."""
    return (
        largest("style_sized", Out("style", "IMAGE"), side),
        encoded("style_latent", Out("style_sized", "IMAGE"), vae),
        inversion("style", model, sigmas=LEVELS, **way),
        Node("bank", "MagicStyleFeatureBank", {"style": features("style")}),
    )


def painted(vae: Out, **inputs: Any) -> tuple[Node, ...]:
    """From fresh noise to a picture, at the levels of the schedule."""
    fresh = {"add_noise": True, "sigmas": LEVELS, "latent_image": CANVAS, "sampler": Out("euler", "SAMPLER")}
    return Node("euler", "KSamplerSelect", {"sampler_name": "euler"}), sampler(**fresh, **inputs), decoded(vae=vae)


def prompt_block(side: int = 512) -> Block:
    """From a model, a style picture and a prompt to a picture."""
    told = {"positive": Out("words", "CONDITIONING"), "negative": Out("unwanted", "CONDITIONING")}
    canvas = Node("canvas", "EmptyLatentImage", {"width": side, "height": side, "batch_size": 1})
    stacks = (
        words_and_levels(CLIP, MODEL, scheduler="normal", steps=25),
        style_read(MODEL, VAE, side),
        (patch(MODEL, method="style_aligned"), canvas),
        painted(VAE, cfg=7.0, **told),
    )
    names = {"model": MODEL, "clip": CLIP, "vae": VAE, "style": Out("style", "IMAGE")}
    return block("prompted", BLOCK, *stacks, knobs=KNOBS, **names)


def prompt_page(name: str, note: str, loaders: tuple[Node, ...], *worked: Any, **about: Any) -> Workflow:
    """A page with a style picture alone."""
    return page(
        name,
        note,
        loaders,
        pictures(load_picture("style", "Style picture")),
        Group("Paint the prompt like the style", (worked,), PURPLE),
        Group("Result", ((save(IMAGE, f"magicstyle/{name}"),),), GREEN),
        **about,
    )


def krea_blocks() -> tuple[Block, Node, Block]:
    """The style picture noised, the model that looks at it, and the prompt painted in a few steps."""
    model, clip, vae = APART
    empty, words, _, levels = words_and_levels(clip, model, scheduler="simple", steps=8)
    told = {"positive": Out("words", "CONDITIONING"), "negative": EMPTY}
    read = block(
        "read",
        "Read the style",
        (empty, levels, *style_read(model, vae, 1024, method="noising")),
        knobs=(Knob("steps", (("schedule", "steps"),)), Knob("size", (("style_sized", "largest_size"),))),
        model=model,
        clip=clip,
        vae=vae,
        noise_levels=LEVELS,
    )
    canvas = Node("canvas", "EmptyLatentImage", {"width": 1024, "height": 1024, "batch_size": 1})
    names = ("width", "canvas"), ("height", "canvas"), ("noise_seed", "sample")
    paint = block(
        "paint",
        "Paint",
        (words, canvas),
        painted(vae, **told),
        knobs=(Knob("prompt", (("words", "text"),)), *(Knob(name, ((key, name),)) for name, key in names)),
        clip=clip,
        vae=vae,
        noise_levels=LEVELS,
    )
    return read, patch(model, method="style_aligned", positions="untwist"), paint


PROMPT = prompt_page("style_and_prompt", NOTE, (load_checkpoint(),), prompt_block(), width=560)
KREA_PROMPT = prompt_page(
    "krea2_style_and_prompt", KREA_NOTE, (network(TURBO), *KREA_PARTS), *krea_blocks(), width=700, tested=OPENED
)

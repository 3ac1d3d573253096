"""Portrait stylization with Krea 2 (Raw, and Turbo without an inversion) and with Anima."""

from __future__ import annotations

from .describe import Block, Knob, Node, Out, Workflow
from .parts import (
    EMPTY,
    IMAGE,
    OPENED,
    bank,
    block,
    decoded,
    initial,
    inversion,
    page,
    patch,
    portrait_and_style,
    result,
    sampler,
    size_knobs,
    steps_knob,
    work,
)
from .stock import HUB, prompt
from .transformers import (
    APART,
    CLIP,
    MODEL,
    STEPS,
    VAE,
    autoencoder,
    encoder,
    network,
    picture_latent,
    transformer_page,
)

OPENING = """# Portrait in a style, with {model}

## The portrait takes on the look of the style picture; both are first cropped to 1024x1024.

1. Fetch {files}, {size}: the loaders offer them.
2. Choose your **Portrait** and a **Style picture**.
3. Press **Run**. You need no prompt.

### What to change first

"""
CLOSING = """
Layers and settings rest on small models and on other packs. Tell us what you find.
"""
FACE = """In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- *layers*: **auto** is {layers}.
- *positions* (in Nodes 2.0: *Show advanced inputs*): **untwist** copies less of the style picture's shapes, and
brings less of its style.
"""
RAW_NOTE = (
    OPENING.format(model="Krea 2", files="**Krea 2 Raw**, its text encoder and its VAE", size="19 GB")
    + FACE.format(layers="**single.7-27** of 28, the blocks in which other packs bring style in")
    + """
*Krea 2 Turbo* cannot be inverted well: {turbo} is for it.
"""
    + CLOSING.lstrip()
)
TURBO_NOTE = (
    OPENING.format(model="Krea 2 Turbo", files="**Krea 2 Turbo**, its text encoder and its VAE", size="19 GB")
    + """- *denoise* in *Few steps*: lower starts nearer to the portrait, higher paints more freely. *steps*: 4 to 8.
- *query_preservation* and *content_weight* in *FFA Model Patcher*: higher keeps more of the portrait.

Nothing is inverted: method **noising** adds one fixed noise to both pictures at each level and keeps the features
seen there.
"""
    + CLOSING
)
ANIMA_NOTE = (
    OPENING.format(model="Anima", files="**Anima**, its text encoder and its VAE", size="6 GB")
    + FACE.format(layers="all 28 blocks; not measured apart; try **double.10-27**")
    + """
*er_sde*, the sampler of Anima's own template, draws noise, which drowns the portrait's.
"""
    + CLOSING
)

KREA_FILES = f"{HUB}/Comfy-Org/Krea-2/resolve/main"
RAW, TURBO = (f"{KREA_FILES}/diffusion_models/krea2_{kind}_fp8_scaled.safetensors" for kind in ("raw", "turbo"))
KREA_PARTS = (
    encoder(f"{KREA_FILES}/text_encoders/qwen3vl_4b_fp8_scaled.safetensors", "krea2"),
    autoencoder(f"{KREA_FILES}/vae/qwen_image_vae.safetensors"),
)
ANIMA_FILES = f"{HUB}/circlestone-labs/Anima/resolve/main/split_files"
ANIMA = (
    network(f"{ANIMA_FILES}/diffusion_models/anima-base-v1.0.safetensors"),
    encoder(f"{ANIMA_FILES}/text_encoders/qwen_3_06b_base.safetensors", "stable_diffusion"),
    autoencoder(f"{ANIMA_FILES}/vae/qwen_image_vae.safetensors"),
)
LEVELS = Out("schedule", "SIGMAS")


def few_steps() -> Block:
    """The noise levels of the few steps."""
    schedule = {"model": MODEL, "scheduler": "simple", "steps": 8, "denoise": 0.8}
    knobs = tuple(Knob(name, (("schedule", name),)) for name in ("steps", "denoise"))
    return block("few", "Few steps", (Node("schedule", "BasicScheduler", schedule),), knobs=knobs, sigmas=LEVELS)


def both(title: str, *knobs: Knob, **settings: object) -> Block:
    """From pictures to a bank and an initial latent."""
    return block(
        "invert",
        title,
        (prompt().with_inputs(clip=CLIP), *picture_latent("content", VAE), *picture_latent("style", VAE)),
        (inversion("content", MODEL, **settings), inversion("style", MODEL, **settings)),
        (bank(), initial()),
        knobs=(*knobs, *size_knobs("content_sized", "style_sized")),
        model=MODEL,
        clip=CLIP,
        vae=VAE,
    )


def euler_block(**inputs: object) -> Block:
    """From an initial latent to a picture by Euler steps, which of flow matching are DDIM's."""
    euler = Node("euler", "KSamplerSelect", {"sampler_name": "euler"})
    sample = sampler(positive=EMPTY, negative=EMPTY, sampler=Out("euler", "SAMPLER"), **inputs)
    return block("paint", "Paint", (euler, sample, decoded(vae=VAE)), vae=VAE)


def euler_page(name: str, note: str, url: str, *blocks: Block) -> Workflow:
    """A page of Krea 2 from its blocks, the last of which paints."""
    *before, last = blocks
    return page(
        name,
        note,
        (network(url), *KREA_PARTS),
        portrait_and_style(),
        work(*before, patch(MODEL), last),
        result(IMAGE, f"magicstyle/{name}"),
        width=700,
        tested=OPENED,
    )


KREA_PORTRAIT = euler_page(
    "krea2_portrait",
    RAW_NOTE.format(turbo="*23 Krea 2 Turbo, noised*"),
    RAW,
    both("Invert both pictures", steps_knob("invert_content", "invert_style"), scheduler="simple", steps=STEPS),
    euler_block(),
)
KREA_TURBO = euler_page(
    "krea2_turbo_noising",
    TURBO_NOTE,
    TURBO,
    few_steps(),
    both("Noise both pictures", sigmas=LEVELS, method="noising"),
    euler_block(sigmas=LEVELS),
)
ANIMA_PORTRAIT = transformer_page("anima_portrait", ANIMA_NOTE, ANIMA, APART, tested=OPENED)

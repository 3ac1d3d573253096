"""Portrait stylization with flow-matching transformers: Flux.1, SD3.5, Qwen-Image and Z-Image."""

from __future__ import annotations

from typing import Any

from .describe import Block, Item, Knob, Node, Out, Workflow
from .parts import (
    EMPTY,
    IMAGE,
    ON_BOTH,
    ON_NEWER,
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
from .stock import HUB, download, encoded, file_name, load_checkpoint, prompt, sized

SIDE, STEPS = 1024, 20
NOTE = """## Portrait in a style, with {model}

## The portrait takes on the look of the style picture; both are first cropped to 1024x1024.

1. {fetch}
2. Choose your **Portrait** and a **Style picture**.
3. Press **Run**. You need no prompt.

### What to change first

In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- *layers*: **auto** is {layers}.
{positions}
The inversions keep **latents**, as features take gigabytes. Layers
and settings rest on papers and on small models. Tell us what you find.
"""
UNTWIST = """- *positions* (in Nodes 2.0: *Show advanced inputs*): **untwist** copies less of the style picture's
shapes, and brings less of its style.
"""
OFFERED = "Fetch **{}**, its {} and its VAE, {} GB in all: the loaders offer the downloads."
UNMEASURED = "all {} blocks; nobody has measured which of them carry style, try **{}**"
FLUX_NOTE = NOTE.format(
    model="Flux.1",
    fetch=OFFERED.format("Flux.1 dev", "two text encoders", 34) + " Its guidance is set to 1.",
    layers="**single**, all 38 single blocks; **single.20-37** keeps more of the portrait",
    positions=UNTWIST,
)
SD35_NOTE = NOTE.format(
    model="SD3.5",
    fetch="Choose **SD3.5 medium**, about 12 GB, in *Load Checkpoint*: text encoders and VAE are in it.",
    layers=UNMEASURED.format(24, "double.8-23"),
    positions="",
)
QWEN_NOTE = NOTE.format(
    model="Qwen-Image",
    fetch=OFFERED.format("Qwen-Image", "text encoder", 30),
    layers=UNMEASURED.format(60, "double.20-59"),
    positions=UNTWIST,
)
Z_NOTE = NOTE.format(
    model="Z-Image",
    fetch=OFFERED.format("Z-Image", "text encoder", 21)
    + " For **ComfyUI 0.5** or newer. *Z-Image Turbo* cannot be inverted well.",
    layers=UNMEASURED.format(30, "double.10-29"),
    positions=UNTWIST,
)

MODEL, CLIP, VAE = Out("network", "MODEL"), Out("encoder", "CLIP"), Out("vae", "VAE")
SD35 = f"{HUB}/Comfy-Org/stable-diffusion-3.5-fp8/resolve/main/sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors"
FLUX = f"{HUB}/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors"
FLUX_ENCODERS = tuple(
    f"{HUB}/comfyanonymous/flux_text_encoders/resolve/main/{name}.safetensors" for name in ("clip_l", "t5xxl_fp16")
)
FLUX_VAE = f"{HUB}/Comfy-Org/Lumina_Image_2.0_Repackaged/resolve/main/split_files/vae/ae.safetensors"
QWEN_FILES = f"{HUB}/Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files"
QWEN = f"{QWEN_FILES}/diffusion_models/qwen_image_fp8_e4m3fn.safetensors"
QWEN_ENCODER = f"{QWEN_FILES}/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors"
QWEN_VAE = f"{QWEN_FILES}/vae/qwen_image_vae.safetensors"
Z = f"{HUB}/Comfy-Org/z_image/resolve/main/split_files/diffusion_models/z_image_bf16.safetensors"
Z_FILES = f"{HUB}/Comfy-Org/z_image_turbo/resolve/main/split_files"
Z_ENCODER, Z_VAE = f"{Z_FILES}/text_encoders/qwen_3_4b.safetensors", f"{Z_FILES}/vae/ae.safetensors"


def network(url: str) -> Node:
    """The transformer itself."""
    inputs = {"unet_name": file_name(url)}
    return Node("network", "UNETLoader", inputs, models=download(url, "diffusion_models"))


def encoder(url: str, kind: str) -> Node:
    """Its text encoder."""
    inputs = {"clip_name": file_name(url), "type": kind}
    return Node("encoder", "CLIPLoader", inputs, models=download(url, "text_encoders"))


def two_encoders(urls: tuple[str, ...], kind: str) -> Node:
    """Its two text encoders."""
    inputs = {f"clip_name{place}": file_name(url) for place, url in enumerate(urls, 1)}
    models = tuple(model for url in urls for model in download(url, "text_encoders"))
    return Node("encoder", "DualCLIPLoader", {**inputs, "type": kind}, models=models)


def autoencoder(url: str) -> Node:
    """Its VAE."""
    return Node("vae", "VAELoader", {"vae_name": file_name(url)}, models=download(url, "vae"))


def picture_latent(kind: str, vae: Out) -> tuple[Node, Node]:
    """A picture at the working size, and its latent."""
    picture = sized(f"{kind}_sized", Out(kind, "IMAGE"), SIDE)
    return picture, encoded(f"{kind}_latent", Out(picture.key, "IMAGE"), vae)


def invert_block(model: Out, clip: Out, vae: Out) -> Block:
    """From pictures to a bank and an initial latent, by the midpoint rule."""
    settings: dict[str, Any] = {"model": model, "method": "midpoint", "scheduler": "simple", "steps": STEPS}
    return block(
        "invert",
        "Invert both pictures",
        (prompt().with_inputs(clip=clip), *picture_latent("content", vae), *picture_latent("style", vae)),
        (inversion("content", **settings), inversion("style", **settings)),
        (bank(), initial()),
        knobs=(steps_knob("invert_content", "invert_style"), *size_knobs("content_sized", "style_sized")),
        model=model,
        clip=clip,
        vae=vae,
    )


def paint_block(vae: Out, *, guided: bool = False) -> Block:
    """From an initial latent to a picture; a distilled model takes its guidance as an input."""
    midpoint = Node("midpoint", "MagicStyleMidpointSampler")
    guidance = Node("guidance", "FluxGuidance", {"conditioning": EMPTY, "guidance": 1.0})
    words = Out("guidance", "CONDITIONING") if guided else EMPTY
    sample = sampler(positive=words, negative=words, sampler=Out("midpoint", "sampler"))
    stack = (midpoint, *([guidance] if guided else []), sample, decoded(vae=vae))
    knobs = (Knob("guidance", (("guidance", "guidance"),)),) if guided else ()
    return block("paint", "Paint", stack, knobs=knobs, vae=vae)


def transformer_page(
    name: str,
    note: str,
    loaders: tuple[Item, ...],
    outs: tuple[Out, Out, Out],
    *,
    guided: bool = False,
    tested: str = ON_BOTH,
) -> Workflow:
    """A portrait painted like a style picture by a model, its text encoder and its VAE."""
    model, _, vae = outs
    return page(
        name,
        note,
        loaders,
        portrait_and_style(),
        work(invert_block(*outs), patch(model), paint_block(vae, guided=guided)),
        result(IMAGE, f"magicstyle/{name}"),
        width=740,
        tested=tested,
    )


APART = MODEL, CLIP, VAE
TOGETHER = Out("checkpoint", "MODEL"), Out("checkpoint", "CLIP"), Out("checkpoint", "VAE")
FLUX_PORTRAIT = transformer_page(
    "flux_portrait",
    FLUX_NOTE,
    (network(FLUX), two_encoders(FLUX_ENCODERS, "flux"), autoencoder(FLUX_VAE)),
    APART,
    guided=True,
    tested=ON_NEWER,
)
SD35_PORTRAIT = transformer_page("sd35_portrait", SD35_NOTE, (load_checkpoint(SD35),), TOGETHER)
QWEN_PORTRAIT = transformer_page(
    "qwen_image_portrait",
    QWEN_NOTE,
    (network(QWEN), encoder(QWEN_ENCODER, "qwen_image"), autoencoder(QWEN_VAE)),
    APART,
    tested=OPENED,
)
Z_PORTRAIT = transformer_page(
    "z_image_portrait", Z_NOTE, (network(Z), encoder(Z_ENCODER, "lumina2"), autoencoder(Z_VAE)), APART, tested=OPENED
)

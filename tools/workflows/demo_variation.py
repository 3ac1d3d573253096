"""A bank without a portrait on the models that ship: the photograph is noised in part and painted over in the style."""

from __future__ import annotations

from typing import Any

from .demo_no_download import FITTED, MODEL, PROMPT, VAE
from .describe import Block, Knob, Node, Out, Workflow
from .parts import (
    IMAGE,
    block,
    compared,
    comparison,
    decoded,
    features,
    inversion,
    page,
    patch,
    portrait_and_style,
    result,
    sampler,
    work,
)
from .stock import encoded, largest
from .titles import called

SIDE, STEPS = 512, 16
LEVELS = Out("schedule", "SIGMAS")
NOTE = """# Photograph varied in a style{model}

## Noise is laid over the photograph, and the model paints it anew in the style. Both are first scaled to 512 pixels.

1. Press **Run**: no portrait is inverted, and nothing is downloaded.
2. Choose a photograph of yours in *Portrait*, a painting in *Style picture*, and press **Run** again.

{needs}# What to change first

- More of the style: raise *denoise* in *Read the style*. From 0.45 the face begins to dissolve; at 1 nothing is left of
the photograph.{grid}
- Another picture: another *noise_seed* in *Paint*.
- Less of the style: {weaker}

Below the result: the photograph, what the model makes of it without a style, the style, the result.
Likenesses are better where the portrait is inverted: {inverted}. A prompt is painted in a style in the same way:
{prompts}; but the models that ship read no prompts.
"""


def read_block(denoise: float, scheduler: str) -> Block:
    """The style's features at the noise levels that are sampled, in a bank without a portrait."""
    scaled = tuple(largest(out.key, Out(kind, "IMAGE"), SIDE) for kind, out in FITTED.items())
    schedule = {"model": MODEL, "scheduler": scheduler, "steps": STEPS, "denoise": denoise}
    return block(
        "read",
        "Read the style",
        (*scaled, *(encoded(f"{kind}_latent", image, VAE) for kind, image in FITTED.items())),
        (
            Node("schedule", "BasicScheduler", schedule),
            inversion("style", MODEL, PROMPT, sigmas=LEVELS),
            Node("bank", "MagicStyleFeatureBank", {"style": features("style")}),
        ),
        knobs=(
            *(Knob(name, (("schedule", name),)) for name in ("denoise", "steps")),
            Knob("size", tuple((node.key, "largest_size") for node in scaled)),
        ),
        model=MODEL,
        vae=VAE,
        conditioning=PROMPT,
        photograph=Out("content_latent", "LATENT"),
        noise_levels=LEVELS,
    )


def painted(image: str, **inputs: Any) -> tuple[Node, ...]:
    """The photograph noised in part and painted anew; `image` is the end of the nodes' keys."""
    usual = {"add_noise": True, "positive": PROMPT, "negative": PROMPT, "sampler": Out("euler", "SAMPLER")}
    usual |= {"sigmas": LEVELS, "latent_image": Out("content_latent", "LATENT")}
    return sampler(f"sample{image}", **usual, **inputs), decoded(f"decode{image}", f"sample{image}", VAE)


def paint_block() -> Block:
    """The same noise on the photograph, painted in the style and without it."""
    row = compared(FITTED["content"], Out("decode_plain", "IMAGE"), FITTED["style"], IMAGE)
    return block(
        "paint",
        "Paint",
        (Node("euler", "KSamplerSelect", {"sampler_name": "euler"}), *painted("")),
        (*painted("_plain", model=MODEL), *row),
        knobs=(Knob("noise_seed", (("sample", "noise_seed"), ("sample_plain", "noise_seed"))),),
        model=Out("patch", "model"),
        conditioning=PROMPT,
        vae=VAE,
        plain_model=MODEL,
        photograph=Out("content_latent", "LATENT"),
        noise_levels=LEVELS,
    )


def variation(name: str, note: str, demo: Node, read: Block, patcher: Node) -> Workflow:
    """A page for the user's two pictures, which shows what came of them beside them."""
    return page(
        name,
        note,
        (demo,),
        portrait_and_style(),
        work(read, patcher, paint_block()),
        result(IMAGE, f"magicstyle/{name}", comparison("Photograph, without style, style, result", (560, 330))),
        width=560,
    )


PROMPTS = f"{called('style_and_prompt')}, {called('krea2_style_and_prompt')}"
UNET = variation(
    "demo_variation",
    NOTE.format(
        model="",
        prompts=PROMPTS,
        needs="",
        grid="",
        weaker="raise *content_weight* in *FFA Model Patcher*.",
        inverted=called("demo_no_download"),
    ),
    Node("demo", "MagicStyleDemoModel"),
    read_block(0.35, "simple"),
    patch(MODEL, method="ffa"),
)
TRANSFORMER = variation(
    "demo_transformer_variation",
    NOTE.format(
        model=" by a transformer",
        prompts=PROMPTS,
        needs="For **ComfyUI 0.5** or newer.\n\n",
        grid=" This small transformer weaves a faint grid into its pictures, more of it at a higher *denoise*.",
        weaker="lower *style_weight* in *FFA Model Patcher*.",
        inverted=called("demo_transformer"),
    ),
    Node("demo", "MagicStyleDemoModel", {"model": "transformer"}),
    read_block(0.35, "simple"),
    patch(MODEL, method="zstar", positions="shift"),
)

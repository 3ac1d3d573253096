"""The method beside other people's models: a ControlNet and a LoRA, SDXL, an inpainting checkpoint."""

from __future__ import annotations

from .describe import Block, Group, Knob, Node, Out
from .parts import (
    IMAGE,
    bank,
    block,
    decoded,
    initial,
    inversion,
    invert_block,
    latent_of,
    page,
    paint_block,
    patch,
    portrait_and_style,
    result,
    sampler,
    size_knobs,
    steps_knob,
    work,
)
from .regions import MASK, painted_mask
from .stock import (
    HUB,
    LORA,
    SD15_INPAINTING,
    SDXL,
    VAE,
    download,
    file_name,
    load_checkpoint,
    load_lora,
    prompt,
)
from .titles import called

CANNY = f"{HUB}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/control_v11p_sd15_canny_fp16.safetensors"

CONTROL_NOTE = """## ControlNet and LoRA

## A checkpoint with a LoRA paints the portrait like the style picture, and a ControlNet holds the edges. Both
pictures are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, a **LoRA** and a **ControlNet** for it, your **Portrait** and a **Style picture**.
2. Write the LoRA's trigger words into *LoRA prompt*.
3. Press **Run**.

### What to change first

- *ControlNet strength* in *Paint*: lower lets go of the portrait's edges, for more style.
- *strength_model* in *Load LoRA*: how much of the LoRA shows.
- *query_preservation* in *FFA Model Patcher*: it holds the outlines, too; lower it when edges become too hard.
- *cfg* in *Paint*: 2 or 3 follows the LoRA prompt more closely.

The inversions run on the plain checkpoint with an empty prompt; ControlNet and LoRA come in while sampling.
"""
SDXL_NOTE = """## Portrait in a style, with SDXL

## The portrait takes on the colours and the brush of the style picture. Both are first cropped to 1024x1024.

1. Choose an **SDXL checkpoint**, about 7 GB, in *Load Checkpoint*.
2. Choose your **Portrait** and a **Style picture**.
3. Press **Run**. You need no prompt.

### What to change first

In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- *layers*: **output.3-5** has the finest tokens and moves colour and texture alone; **output.0-2** also moves shapes.

SDXL has attention in **output.0-5**, 36 layers of it: at 1024x1024 and 50 steps the features of one picture take 16 GB.
*storage* **auto** keeps fewer, or latents, where they do not fit; **output.3-5**, on all three nodes, takes 5 GB.
"""
INPAINT_NOTE = f"""## Inpaint a region in a style

## An inpainting checkpoint paints the region anew, in the style; the rest of the portrait stays exactly as it is. Both
pictures are first cropped to 512x512.

1. Choose an **SD1.5 inpainting checkpoint**, your **Portrait** and a **Style picture**.
2. Right-click *Portrait*, choose *Open in MaskEditor*, and paint the **region**. Save.
3. Press **Run**.

### What to change first

- Too little style: lower *query_preservation* in *FFA Model Patcher*.
- A seam: paint the mask with a soft brush, or a little larger.
- No inpainting checkpoint at hand: {called("portrait_keep_background")} does it with any.

The portrait is inverted as it is sampled: with the mask and the masked picture that *InpaintModelConditioning* adds to
the prompt.
"""

# --- ControlNet and LoRA ---

LORA_MODEL, LORA_WORDS = Out("lora", "MODEL"), Out("lora_prompt", "CONDITIONING")
SIZED, CONTROL_NET = Out("content_sized", "IMAGE"), Out("control_net", "CONTROL_NET")


def lora() -> tuple[Node, Node]:
    """A LoRA on the sampling model, and its prompt."""
    return (
        load_lora(LORA),
        prompt("lora_prompt", "PixArFK, a portrait", "LoRA prompt"),
    )


def guided_block() -> Block:
    """DDIM guided by the LoRA's prompt, with the portrait's edges as a ControlNet's picture on both prompts."""
    apply = {
        "positive": LORA_WORDS,
        "negative": Out("prompt", "CONDITIONING"),
        "control_net": CONTROL_NET,
        "image": Out("edges", "IMAGE"),
        "strength": 0.6,
    }
    hold = (Node("edges", "Canny", {"image": SIZED}), Node("control", "ControlNetApplyAdvanced", apply))
    plain = paint_block(**{name: Out("control", name) for name in ("positive", "negative")})
    knobs = Knob("ControlNet strength", (("control", "strength"),)), Knob("cfg", (("sample", "cfg"),))
    names = {**plain.names, LORA_WORDS: "LoRA prompt", CONTROL_NET: "ControlNet"}
    return Block(plain.key, plain.title, (hold, *plain.stacks), knobs, names)


CONTROLNET_AND_LORA = page(
    "controlnet_and_lora",
    CONTROL_NOTE,
    (load_checkpoint(),),
    portrait_and_style(),
    Group(
        "LoRA and ControlNet",
        (
            (
                *lora(),
                Node(
                    "control_net",
                    "ControlNetLoader",
                    {"control_net_name": file_name(CANNY)},
                    models=download(CANNY, "controlnet"),
                ),
            ),
        ),
    ),
    work(invert_block(), patch(LORA_MODEL), guided_block()),
    result(IMAGE, "magicstyle/controlnet_and_lora"),
    width=440,  # a column more than the others have
)

# --- SDXL ---

SDXL_LAYERS = {"layers": "output.0-5"}

SDXL_PORTRAIT = page(
    "sdxl_portrait",
    SDXL_NOTE,
    (load_checkpoint(SDXL),),
    portrait_and_style(),
    work(invert_block(1024, content=SDXL_LAYERS, style=SDXL_LAYERS), patch(**SDXL_LAYERS), paint_block()),
    result(IMAGE, "magicstyle/sdxl"),
)

# --- inpainting ---

POSITIVE, NEGATIVE = Out("masked", "positive"), Out("masked", "negative")


def inpainting_block() -> Block:
    """Both pictures inverted, the portrait with the mask and the masked picture that an inpainting model sees."""
    empty = Out("prompt", "CONDITIONING")
    seen = {"positive": empty, "negative": empty, "vae": VAE, "pixels": SIZED, "mask": MASK, "noise_mask": False}
    return block(
        "invert",
        "Invert both pictures",
        (prompt(), *latent_of("content", 512), *latent_of("style", 512)),
        (*painted_mask(), Node("masked", "InpaintModelConditioning", seen)),
        (inversion("content", conditioning=POSITIVE), inversion("style")),
        (bank(region=MASK), initial(region=MASK)),
        knobs=(
            steps_knob("invert_content", "invert_style"),
            *size_knobs("content_sized", "style_sized", "mask_sized"),
        ),
        positive=POSITIVE,
        negative=NEGATIVE,
        mask=MASK,
    )


def composite_block() -> Block:
    """The painted region over the untouched portrait."""
    over = {"destination": SIZED, "source": IMAGE, "mask": MASK}
    ddim = Node("ddim", "KSamplerSelect", {"sampler_name": "ddim"})
    return block(
        "paint",
        "Paint the region",
        (
            ddim,
            sampler(positive=POSITIVE, negative=NEGATIVE),
            decoded(),
            Node("composite", "ImageCompositeMasked", over),
        ),
        positive=POSITIVE,
        negative=NEGATIVE,
        mask=MASK,
        image=Out("composite", "IMAGE"),
    )


INPAINT_REGION = page(
    "inpaint_region",
    INPAINT_NOTE,
    (load_checkpoint(SD15_INPAINTING),),
    portrait_and_style(),
    work(inpainting_block(), patch(), composite_block()),
    result(Out("composite", "IMAGE"), "magicstyle/inpaint"),
)

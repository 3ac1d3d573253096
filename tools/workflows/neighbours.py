"""The method beside other people's models: a ControlNet and a LoRA, SDXL, an inpainting checkpoint."""

from __future__ import annotations

from .describe import Group, Node, Note, Out, Workflow
from .portrait_stylization import content_lane, fusion, inversion, inversion_below, sampling, style_lane
from .regions import GOLD, painted_mask, start, styles
from .regions import fusion as region_fusion
from .stock import HUB, SD15_INPAINTING, SDXL, download, file_name, load_checkpoint, picture, prompt, result

CANNY = f"{HUB}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/control_v11p_sd15_canny_fp16.safetensors"
LORA = (
    f"{HUB}/artificialguybr/pixelartredmond-1-5v-pixel-art-loras-for-sd-1-5/resolve/main/"
    "PixelArtRedmond15V-PixelArt-PIXARFK.safetensors"
)

CONTROL_NOTE = """## ControlNet and LoRA

The portrait in the style of a picture, its edges held by a ControlNet, painted by a checkpoint with a LoRA.

1. Choose an **SD1.5 checkpoint**, a **LoRA** and a **ControlNet** for it, your **portrait** and a **style picture**.
2. Write the LoRA's trigger words into *LoRA prompt*.
3. Press **Run**.

**What to change first**

- `strength` in *Apply ControlNet*: lower lets go of the portrait's edges, for more style.
- `strength_model` in *Load LoRA*: how much of the LoRA shows.
- `query_preservation` in *FFA Model Patcher*: another hold on the outlines; lower it when edges become too hard.
- `cfg` in *SamplerCustom*: 2 or 3 follows the LoRA prompt more closely.

The inversions run on the plain checkpoint with an empty prompt; ControlNet and LoRA come in while sampling.
"""
SDXL_NOTE = """## Portrait stylization with SDXL

1. Choose an **SDXL checkpoint** in *Load Checkpoint*.
2. Choose your **portrait** and a **style picture**.
3. Press **Run**.

**What to change first** (in *FFA Model Patcher*)

- Too little style: lower `query_preservation`, or raise `style_weight`.
- The face is lost: raise `query_preservation`, or raise `content_weight`.
- `layers`: *output.3-5* has the finest tokens and moves colour and texture alone; *output.0-2* also moves shapes.

SDXL has attention in *output.0-5*, 36 layers of it: at 1024x1024 and 50 steps the features of one picture take 16 GB.
`storage` *auto* keeps them when they fit, and latents otherwise; *output.3-5*, on all three nodes, takes 5 GB.
"""
INPAINT_NOTE = """## Inpaint a region in a style

An inpainting checkpoint paints the region anew, in the style; the rest of the portrait stays exactly as it is.

1. Choose an **SD1.5 inpainting checkpoint**, your **portrait** and a **style picture**.
2. Right-click the portrait's *Load Image*, *Open in MaskEditor*, and paint the **region**. Save.
3. Press **Run**.

**What to change first**

- Too little style: lower `query_preservation` in *FFA Model Patcher*.
- A seam: put *Grow Mask* or *Feather Mask* before *ImageCompositeMasked*.
- No inpainting checkpoint at hand: *portrait_keep_background* does it with any.

The portrait is inverted as it is sampled: with the mask and the masked picture that *InpaintModelConditioning* adds
to the prompt.
"""


def _start(note: str, url: str) -> tuple[Group, Group]:
    return (
        Group("Start here", ((Note("note", note),),), color=GOLD),
        Group("Model", ((load_checkpoint(url=url), prompt()),)),
    )


def _with(node: Node, **inputs: object) -> Node:
    """The node with some inputs set."""
    return Node(node.key, node.type, {**node.inputs, **inputs}, node.title, node.models, node.size)


def _changed(group: Group, key: str, **inputs: object) -> Group:
    """The group with some inputs of one of its nodes set."""
    stacks = tuple(
        tuple(_with(item, **inputs) if item.key == key else item for item in stack) for stack in group.stacks
    )
    return Group(group.title, stacks, group.color, group.row)


# --- ControlNet and LoRA ---


def lora() -> Group:
    """A LoRA on the sampling model, and its prompt."""
    load = {"model": Out("checkpoint", "MODEL"), "lora_name": file_name(LORA)}
    stack = (
        Node("lora", "LoraLoaderModelOnly", load, models=download(LORA, "loras")),
        prompt("lora_prompt", "PixArFK, a portrait", "LoRA prompt"),
    )
    return Group("LoRA", (stack,))


def control() -> Group:
    """The portrait's edges as a ControlNet's picture, on both prompts of the sampler."""
    apply = {
        "positive": Out("lora_prompt", "CONDITIONING"),
        "negative": Out("prompt", "CONDITIONING"),
        "control_net": Out("control_net", "CONTROL_NET"),
        "image": Out("edges", "IMAGE"),
        "strength": 0.6,
    }
    load = {"control_net_name": file_name(CANNY)}
    stack = (
        Node("edges", "Canny", {"image": Out("content_sized", "IMAGE")}),
        Node("control_net", "ControlNetLoader", load, models=download(CANNY, "controlnet")),
        Node("control", "ControlNetApplyAdvanced", apply),
    )
    return Group("ControlNet: the portrait's edges", (stack,))


CONTROLNET_AND_LORA = Workflow(
    "controlnet_and_lora",
    (
        start(CONTROL_NOTE),
        content_lane(),
        style_lane(),
        (lora(), control()),
        (_changed(fusion(), "patch", model=Out("lora", "MODEL")),),
        (
            _changed(sampling(), "sample", positive=Out("control", "positive"), negative=Out("control", "negative")),
            result(Out("sample", "output"), "magicstyle/controlnet_and_lora"),
        ),
    ),
)

# --- SDXL ---

SDXL_LAYERS = "output.0-5"


def large_lane(kind: str, name: str, title: str) -> tuple[Group, Group]:
    """A picture at SDXL's size, and its inversion."""
    file = "portrait.png" if kind == "content" else "style.png"
    return inversion_below(
        picture(kind, title, file, 1024, 1024),
        _with(inversion(kind, name), layers=SDXL_LAYERS),
        f"Phase 1: {kind} inversion",
    )


SDXL_PORTRAIT = Workflow(
    "sdxl_portrait",
    (
        _start(SDXL_NOTE, SDXL),
        large_lane("content", "Content", "Content: the portrait"),
        large_lane("style", "Style", "Style: the picture to paint like"),
        (_changed(fusion(), "patch", layers=SDXL_LAYERS),),
        (sampling(), result(Out("sample", "output"), "magicstyle/sdxl")),
    ),
)

# --- inpainting ---


def masked_prompt() -> Group:
    """The empty prompt with the mask and the masked portrait, which an inpainting model sees beside the latent."""
    inputs = {
        "positive": Out("prompt", "CONDITIONING"),
        "negative": Out("prompt", "CONDITIONING"),
        "vae": Out("checkpoint", "VAE"),
        "pixels": Out("content_sized", "IMAGE"),
        "mask": Out("mask", "MASK"),
        "noise_mask": False,
    }
    return Group("What the model sees of the portrait", ((Node("masked", "InpaintModelConditioning", inputs),),))


def composite() -> Group:
    """The painted region over the untouched portrait."""
    (decode, save) = result(Out("sample", "output"), "magicstyle/inpaint").stacks[0]
    inputs = {
        "destination": Out("content_sized", "IMAGE"),
        "source": Out(decode.key, "IMAGE"),
        "mask": Out("mask", "MASK"),
    }
    over = Node("composite", "ImageCompositeMasked", inputs)
    return Group("Result", ((decode, over, _with(save, images=Out("composite", "IMAGE"))),), color="#8a8")


INPAINT_REGION = Workflow(
    "inpaint_region",
    (
        _start(INPAINT_NOTE, SD15_INPAINTING),
        (picture("content", "Content: the portrait", "portrait.png"), painted_mask()),
        inversion_below(
            masked_prompt(),
            _with(inversion("content", "Content"), conditioning=Out("masked", "positive")),
            "Phase 1: content inversion",
        ),
        inversion_below(*styles("style"), inversion("style", "Style"), "Phase 1: style inversion"),
        (region_fusion({"region": Out("mask", "MASK")}),),
        (
            _changed(sampling(), "sample", positive=Out("masked", "positive"), negative=Out("masked", "negative")),
            composite(),
        ),
    ),
)

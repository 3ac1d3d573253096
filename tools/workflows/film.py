"""Videos in a style: frames of a file by ComfyUI's own loader to its own writer, on the demo model, SD1.5 and Wan."""

from __future__ import annotations

from typing import Any

from . import stock
from .demo_no_download import MIDPOINT
from .describe import Block, Group, Item, Knob, Node, Out, Workflow
from .parts import (
    GREEN,
    IMAGE,
    bank,
    block,
    decoded,
    initial,
    inversion,
    page,
    patch,
    sampler,
    steps_knob,
    work,
)
from .stock import HUB, VAE, encoded, load_checkpoint, load_picture, prompt
from .transformers import APART, autoencoder, encoder, network

SHIPPED = "magicstyle_clip.mp4"  # the pack lays it into ComfyUI's input folder
VIDEO = Out("video", "VIDEO")
FRAMES, SOUND, RATE = (Out("components", name) for name in ("images", "audio", "fps"))
PICKED = Out("picked", "IMAGE")
WAN_FILES = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
WAN = f"{WAN_FILES}/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors"
WAN_ENCODER = f"{WAN_FILES}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors"
WAN_VAE = f"{WAN_FILES}/vae/wan_2.1_vae.safetensors"
DEMO_NOTE = """## A short video painted, no download

## Eight frames of a clip are painted like the style picture. All are first cropped to 256x256.

1. Press *Run*. It takes a few minutes on a CPU.
2. Choose a video of yours: head and shoulders, in the middle.

### What to change first

- More frames: *frames* in *Invert the frames*. Each takes as long as the first; all run as one batch.
- Another part of the video: *first frame* there.
- More of the style and more flicker: lower *query_preservation* in *FFA Model Patcher*.

Frames are painted one by one, so the texture flickers. They share one mean and spread, so that a fade stays a fade:
*frames_together* of *Initial Latent*, inside *Invert the frames*.
"""
FRAMES_NOTE = """## A video, frame by frame, with SD1.5

## Its first 16 frames are painted like the style picture, the sound kept. All are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, a **Video** and a **Style picture**.
2. Press **Run**.

### Memory and time, before you begin

A frame takes 61 model calls at 20 steps: 21 to invert, 20 to paint, 20 replays. All frames run as one batch, and take
what a batch of 16 pictures takes. ComfyUI's loader decodes the whole video: 25 MB a frame at 1920x1080, 7 GB for ten
seconds. Paint a long video in parts by *first frame* and *frames* of *Invert the frames*, or with the command
*magicstyle stylize clip.mp4 style.jpg*, which holds a few frames at a time.

### What to change first

- Less flicker and less style: raise *query_preservation* in *FFA Model Patcher*, or set its *method* to **gar**.
- More style: lower *query_preservation*.
"""
WAN_NOTE = """## A film in a style, with Wan 2.1

## All frames are painted together like the style picture. They are first cropped to 832x480, 81 at most.

1. Fetch **Wan 2.1 T2V 1.3B**, its text encoder and its VAE: the loaders offer the downloads.
2. Choose a **Video** and a **Style picture**, and press **Run**. You need no prompt.

### Memory and time, computed for 81 frames and 20 steps

The film runs through Wan 41 times: 21 to invert, 20 to paint. Kept latents: 80 MB for the film, 4 MB for the style.
A replay of the style holds 0.3 GB on the card. With *method* **ffa** the film is replayed, too, which holds 8.4 GB.

### What to change first

- Too little of the film: *method* **ffa** in *FFA Model Patcher*, which reads the film, too.
- Too much style: lower *style_weight*.
- Less memory: fewer *frames* in *Invert the film*, one more than a multiple of 4.
"""


def video_and_style() -> Group:
    """The user's video, and the style picture."""
    loader = Node("video", "LoadVideo", {"file": SHIPPED}, title="Video")
    return Group("Your video and style", ((loader, load_picture("style", "Style picture")),))


def video_result(prefix: str) -> Group:
    """The painted frames as a video, with the sound and the rate of the original."""
    made = Node("video_made", "CreateVideo", {"images": IMAGE, "fps": RATE, "audio": SOUND})
    saved = {"video": Out(made.key, "VIDEO"), "filename_prefix": prefix}
    return Group("Result", ((made, Node("save", "SaveVideo", saved, title="Result")),), GREEN)


def scaled(key: str, image: Out, width: int, height: int) -> Node:
    """Frames, or a picture, cropped and scaled."""
    return stock.sized(key, image, width).with_inputs(height=height)


def invert_block(
    title: str, frames: int, size: tuple[int, int], vae: Out, first: tuple[Node, ...], together: bool, **settings: Any
) -> Block:
    """From a video's frames and a style picture to a bank and an initial latent; `settings` are both inversions'."""
    parts = Node("components", "GetVideoComponents", {"video": VIDEO})
    picked = Node("picked", "ImageFromBatch", {"image": FRAMES, "length": frames})
    pictures = scaled("content_sized", PICKED, *size), scaled("style_sized", Out("style", "IMAGE"), *size)
    latents = (encoded(f"{node.key.split('_')[0]}_latent", Out(node.key, "IMAGE"), vae) for node in pictures)
    start = initial(**({"frames_together": True} if together else {}))  # type: ignore[arg-type]
    return block(
        "invert",
        title,
        (*first, parts, picked, *pictures, *latents),
        (inversion("content", storage="latents", **settings), inversion("style", **settings)),
        (bank(), start),
        knobs=(
            Knob("frames", (("picked", "length"),)),
            Knob("first frame", (("picked", "batch_index"),)),
            steps_knob("invert_content", "invert_style"),
            *(Knob(name, tuple((node.key, name) for node in pictures)) for name in ("width", "height")),
        ),
        video=VIDEO,
        audio=SOUND,
        fps=RATE,
    )


def film_page(name: str, note: str, loaders: tuple[Item, ...], width: int, *worked: Item) -> Workflow:
    """A page for a video of the user's; below it there is no room for a loader, which stands below the note."""
    prefix = f"magicstyle/{name}"
    found = page(name, note, loaders, video_and_style(), work(*worked, what="video"), video_result(prefix), width=width)
    (first, *below), (video, *loader), *others = found.columns
    return Workflow(name, ((first, *below, *loader), (video,), *others))


def paint_block(vae: Out, chosen: Node, sampler_out: Out, **inputs: Any) -> Block:
    """From an initial latent to frames."""
    return block("paint", "Paint", (chosen, sampler(sampler=sampler_out, **inputs), decoded(vae=vae)))


DEMO_MODEL, DEMO_VAE, DEMO_PROMPT = (Out("demo", name) for name in ("model", "vae", "conditioning"))
WITH_DEMO = {"model": DEMO_MODEL, "conditioning": DEMO_PROMPT, "method": "midpoint", "steps": 12}
BY_MIDPOINT = Out(MIDPOINT.key, "sampler")
DEMO = film_page(
    "demo_film",
    DEMO_NOTE,
    (Node("demo", "MagicStyleDemoModel"),),
    560,
    invert_block("Invert the frames", 8, (256, 256), DEMO_VAE, (), True, **WITH_DEMO),
    patch(DEMO_MODEL, query_preservation=1.0),
    paint_block(DEMO_VAE, MIDPOINT, BY_MIDPOINT, positive=DEMO_PROMPT, negative=DEMO_PROMPT),
)
SD15 = film_page(
    "video_frames",
    FRAMES_NOTE,
    (load_checkpoint(),),
    720,
    invert_block("Invert the frames", 16, (512, 512), VAE, (prompt(),), True, steps=20),
    patch(),
    paint_block(VAE, Node("ddim", "KSamplerSelect", {"sampler_name": "ddim"}), Out("ddim", "SAMPLER")),
)
WAN_MODEL, WAN_CLIP, WAN_OUT = APART
WAN_SETTINGS = {"model": WAN_MODEL, "method": "midpoint", "scheduler": "simple", "steps": 20}
WAN_FILM = film_page(
    "wan_film",
    WAN_NOTE,
    (network(WAN), encoder(WAN_ENCODER, "wan"), autoencoder(WAN_VAE)),
    815,
    invert_block(
        "Invert the film", 81, (832, 480), WAN_OUT, (prompt().with_inputs(clip=WAN_CLIP),), False, **WAN_SETTINGS
    ),
    patch(WAN_MODEL, method="zstar"),
    paint_block(WAN_OUT, MIDPOINT, BY_MIDPOINT),
)

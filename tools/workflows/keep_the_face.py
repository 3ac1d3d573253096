"""The face kept like the person's while the picture is painted in a strong style."""

from __future__ import annotations

from .describe import Block
from .parts import (
    IMAGE,
    bank,
    block,
    initial,
    inversion,
    latent_of,
    page,
    paint_block,
    patch,
    portrait_and_style,
    result,
    size_knobs,
    steps_knob,
    work,
)
from .regions import MASK, SIDE, painted_mask
from .stock import load_checkpoint, prompt

NOTE = """## Keep the face

## The portrait is painted like the style picture, the face less than the rest. Both are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, your **Portrait** and a **Style picture**.
2. Right-click *Portrait*, choose *Open in MaskEditor*, and paint the **face**, with a soft brush. Save.
3. Press **Run**. Eyes, nose and mouth stay where they are.

### What to change first

In *FFA Model Patcher*:

- A stronger style, as on the card: set *query_preservation* to 0. The mask still holds the face.
- The face looks too little like the style: lower *keep_strength*, or paint eyes, brows, nose and mouth alone.
- The face is still lost: raise *query_preservation* a little. Too little style around it: lower that.

### A face mask without painting

Connect another MASK to *painted mask* of *Invert and mask*: from *Draw Face Mask (MediaPipe)* or *SAM3 Detect*, which
ComfyUI 0.33 brings, or from *Regions from Words* with *face*, made from the whole picture of *Portrait*.
"""


def masked_block() -> Block:
    """From two pictures and a mask to a bank, an initial latent, and the mask at the working size."""
    return block(
        "invert",
        "Invert and mask",
        (prompt(), *latent_of("content", SIDE), *latent_of("style", SIDE)),
        (inversion("content"), inversion("style")),
        painted_mask(),
        (bank(), initial()),
        knobs=(
            steps_knob("invert_content", "invert_style"),
            *size_knobs("content_sized", "style_sized", "mask_sized"),
        ),
        face_mask=MASK,
    )


WORKFLOW = page(
    "keep_the_face",
    NOTE,
    (load_checkpoint(),),
    portrait_and_style(),
    work(masked_block(), patch(keep=MASK), paint_block()),
    result(IMAGE, "magicstyle/face"),
)

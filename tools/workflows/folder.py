"""A folder of portraits, all painted in one style that is inverted once."""

from __future__ import annotations

from .describe import Block, Node, Out
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
    pictures,
    result,
    size_knobs,
    steps_knob,
    work,
)
from .stock import encoded, load_checkpoint, load_picture, prompt, sized

NOTE = """## Folder of portraits, one style

## Every portrait takes on the colours and the brush of the style picture. All are first cropped to 512x512.

1. Put portraits into a folder of ComfyUI's *input*, such as *input/portraits*, and press *R*. Photographs from a phone
   are turned upright; what is no picture is named in a warning.
2. Choose an **SD1.5 checkpoint**, the **folder** and a **Style picture**.
3. Press **Run**: every portrait is painted, the style is inverted once.

### What to change first

- The faces are lost: raise *query_preservation* in *FFA Model Patcher*; too little style: lower it.
- *storage* of *DDIM Inversion (Content)*, inside *Invert all pictures*: **latents** takes next to no memory
  however many the portraits are; **features** is faster for a handful.
"""
FOLDER = "portraits"
PORTRAITS = Out("portraits", "portraits")


def invert_block() -> Block:
    """From a list of portraits and one style to a bank and an initial latent for each portrait."""
    portrait = sized("content_sized", PORTRAITS, 512)
    latent = encoded("content_latent", Out("content_sized", "IMAGE"))
    return block(
        "invert",
        "Invert all pictures",
        (prompt(), portrait, latent, *latent_of("style", 512)),
        (inversion("content", storage="latents"), inversion("style")),
        (bank(), initial()),
        knobs=(steps_knob("invert_content", "invert_style"), *size_knobs("content_sized", "style_sized")),
        portraits=PORTRAITS,
    )


LOAD = Node("portraits", "MagicStyleLoadPortraits", {"folder": FOLDER}, title="Portraits")
WORKFLOW = page(
    "portrait_folder",
    NOTE,
    (load_checkpoint(),),
    pictures(LOAD, load_picture("style", "Style picture")),
    work(invert_block(), patch(), paint_block()),
    result(IMAGE, "magicstyle/folder"),
)

"""The whole method with the small transformer that ships: flow matching without a checkpoint or a graphics card."""

from __future__ import annotations

from .demo_no_download import MODEL, SIDE, demo_page, invert_block, paint_block
from .describe import Node
from .parts import patch
from .titles import called

STEPS = 20
NOTE = f"""# A portrait painted by a transformer, no download

## Press *Run*: a small flow-matching transformer comes with the pack. It shows how Flux and its kin paint.

## Both pictures are scaled first: 512 pixels on the longer side, the shape kept. The result is as large.

For **ComfyUI 0.5** or newer. {called("demo_no_download")} paints better.

# What to change first

In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- *layers*: **double.4-7**, the later half, keeps more of the face and of its colours; **auto** is all eight blocks.
- *positions*: **untwist** copies less of the style picture's shapes, and brings less of its style.
"""
WORKFLOW = demo_page(
    "demo_transformer",
    NOTE,
    Node("demo", "MagicStyleDemoModel", {"model": "transformer"}),
    # ddim_uniform begins below full noise, so that the plain sampler takes the inverted latent as it is
    invert_block(SIDE, scheduler="ddim_uniform", steps=STEPS),
    patch(MODEL),
    paint_block(),
    save_as="magicstyle/demo_transformer",
)

"""The whole method with the small transformer that ships: flow matching without a checkpoint or a graphics card."""

from __future__ import annotations

from .demo_no_download import MODEL, SIDE, demo_page, invert_block, paint_block
from .describe import Node
from .parts import patch
from .titles import called

STEPS = 20
NOTE = f"""# Photograph painted by a transformer

## It takes on the colours and the brush of the style picture. Both are first scaled to 512 pixels on the longer side.

1. Press **Run**: a small flow-matching transformer comes with the pack. It shows how Flux and its kin paint.
2. Choose a photograph of yours in *Portrait*, a painting in *Style picture*, and press **Run** again.

For **ComfyUI 0.5** or newer. {called("demo_no_download")} paints better.

# What to change first

In *FFA Model Patcher*:

- Too little style: set *layers* to **auto**, all eight blocks instead of the later half. This small transformer then
weaves a grid of dark lines over face and background.
- *positions* (in Nodes 2.0: *Show advanced inputs*): **same** copies more of the style picture, also its shapes.
- The face is lost: raise *query_preservation*.
"""
WORKFLOW = demo_page(
    "demo_transformer",
    NOTE,
    Node("demo", "MagicStyleDemoModel", {"model": "transformer"}),
    # ddim_uniform begins below full noise, so that the plain sampler takes the inverted latent as it is
    invert_block(SIDE, scheduler="ddim_uniform", steps=STEPS),
    patch(MODEL, layers="double.4-7", positions="untwist"),
    paint_block(),
    save_as="magicstyle/demo_transformer",
)

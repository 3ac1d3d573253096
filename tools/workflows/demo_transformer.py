"""The whole method with the small transformer that ships: flow matching without a checkpoint or a graphics card."""

from __future__ import annotations

from .demo_no_download import MODEL, demo_page, invert_block, paint_block
from .describe import Node
from .parts import patch
from .titles import called

STEPS = 20
NOTE = f"""## Flow matching without any download

For **ComfyUI 0.5** or newer. Press **Run**: a small flow-matching transformer, built like Lumina 2, and the two
pictures come with the pack.

It knows **drawn portraits of 256x256 pixels** in a dozen techniques and nothing else; for photographs open
{called("flux_portrait")} or another of the transformers' workflows.

### What to change first

In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- *layers*: **double.4-7**, the later half, keeps more of the face and of its colours; **auto** is all eight blocks.
- *positions*: **untwist** copies less of the style picture's shapes, and brings less of its style.

The inversions take method **midpoint**, to which *Midpoint Sampler* belongs.

**Reconstruction** is the portrait sampled back from its noise, without any style.
"""
WORKFLOW = demo_page(
    "demo_transformer",
    NOTE,
    Node("demo", "MagicStyleDemoModel", {"model": "transformer"}),
    # ddim_uniform begins below full noise, so that the plain sampler takes the inverted latent as it is
    invert_block(method="midpoint", scheduler="ddim_uniform", steps=STEPS),
    patch(MODEL),
    paint_block(Node("midpoint", "MagicStyleMidpointSampler"), "sampler"),
    save_as="magicstyle/demo_transformer",
)

"""One portrait, one style picture, one checkpoint."""

from __future__ import annotations

from .describe import Out
from .parts import IMAGE, compared, comparison, invert_block, page, paint_block, patch, portrait_and_style, result, work
from .stock import load_checkpoint

NOTE = """## Portrait stylization

1. Choose an **SD1.5 checkpoint** in *Load Checkpoint*.
2. Choose your **Portrait** and a **Style picture**. Both begin with the same example, which shows no style.
3. Press **Run**. You need no prompt.

### What to change first

In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- Too soft: raise *temperature*. Higher is sharper here.

In *Invert both pictures*: the steps, and the working size in multiples of 8, to which both pictures are cropped.

### Calls and memory

With *method* midpoint in both inversions and *Midpoint Sampler* in place of *KSamplerSelect*: 12 steps are **fast**
(42 model calls), 20 **balanced** (63), 50 **faithful** (153). *every* 5 in both takes a fifth of the memory.

*Invert both pictures* and *Paint* hold the separate nodes: open them by the button in their corner, in Nodes 2.0 by
*Enter subgraph*.
"""

PORTRAIT, STYLE = Out("content", "IMAGE"), Out("style", "IMAGE")
WORKFLOW = page(
    "portrait_stylization",
    NOTE,
    (load_checkpoint(),),
    portrait_and_style(),
    work(invert_block(), patch(), paint_block(after=compared(PORTRAIT, STYLE, IMAGE))),
    result(IMAGE, "magicstyle/portrait", comparison()),
)

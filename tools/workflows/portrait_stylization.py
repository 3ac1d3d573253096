"""One portrait, one style picture, one checkpoint."""

from __future__ import annotations

from .describe import Out
from .parts import IMAGE, compared, comparison, invert_block, page, paint_block, patch, portrait_and_style, result, work
from .stock import load_checkpoint

NOTE = """## Portrait stylization

1. Choose an **SD1.5 checkpoint** in *Load Checkpoint*.
2. Choose your **Portrait** and a **Style picture**.
3. Press **Run**.

### What to change first

In *FFA Model Patcher*:

- Too little style: lower *query_preservation*, or raise *style_weight*.
- The face is lost: raise *query_preservation*, or raise *content_weight*.
- Washed out: raise *temperature* a little.

In *Invert both pictures*: the working size, in multiples of 8, and the steps.

### Calls and memory

With *method* midpoint in both inversions and *Midpoint Sampler* in place of the sampler: 12 steps are **fast**
(42 model calls), 20 **balanced** (63), 50 **faithful** (153). *every* 5 in both takes a fifth of the memory.

The button in the corner of *Invert both pictures* and *Paint* opens them: inside are the separate nodes.
"""

PORTRAIT, STYLE = Out("content", "IMAGE"), Out("style", "IMAGE")
WORKFLOW = page(
    "portrait_stylization",
    NOTE,
    (load_checkpoint(),),
    portrait_and_style(),
    work(invert_block(), patch(), paint_block(after=compared(PORTRAIT, STYLE))),
    result(IMAGE, "magicstyle/portrait", comparison()),
)

"""One portrait, one style picture, one checkpoint."""

from __future__ import annotations

from .describe import Out
from .parts import IMAGE, compared, comparison, invert_block, page, paint_block, patch, portrait_and_style, result, work
from .stock import load_checkpoint

NOTE = """## Portrait in a style

## The portrait takes on the colours and the brush of the style picture. Both are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint** in *Load Checkpoint*.
2. Choose your **Portrait** and a **Style picture**.
3. Press **Run**. You need no prompt.

### What to change first

In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- Too soft: raise *temperature*. Higher is sharper here.

In *Invert both pictures*: the steps, and the working size in multiples of 8.

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

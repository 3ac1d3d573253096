"""The whole method with what ships in the pack: no checkpoint, no graphics card, and any two pictures."""

from __future__ import annotations

from typing import Any

from .describe import Block, Item, Knob, Node, Out, Workflow
from .parts import (
    IMAGE,
    bank,
    block,
    compared,
    comparison,
    decoded,
    initial,
    inversion,
    page,
    patch,
    portrait_and_style,
    result,
    sampler,
    steps_knob,
    work,
)
from .parts import noise as end_of
from .stock import encoded, largest
from .titles import called

NOTE = f"""# Your photograph, painted like another picture

## It takes on the colours and the brush of the style picture. Both are first scaled to 512 pixels on the longer side.

1. Press **Run**. It takes about a minute, also without a graphics card, and nothing is downloaded.
2. Choose a photograph of yours in *Portrait*, a painting in *Style picture*, and press **Run** again.

# What to change first

- Too little of the brush: choose a detail of the painting as *Style picture*. Thin strokes are lost.
- Not like the person: raise *query_preservation* in *FFA Model Patcher*. Not like the painting: lower it.
- Finer detail: a larger *size* in *Invert both pictures*; it takes longer.

Best are head and shoulders: small faces dissolve. With a checkpoint of yours: {called("portrait_stylization")}.
"""
MODEL, VAE, PROMPT = (Out("demo", name) for name in ("model", "vae", "conditioning"))
FITTED = {"content": Out("content_sized", "IMAGE"), "style": Out("style_sized", "IMAGE")}
SIDE, STEPS = 512, 12
MIDPOINT = Node("midpoint", "MagicStyleMidpointSampler")


def invert_block(side: int, **chosen: Any) -> Block:
    """From pictures, scaled once for all that follows, to a bank and an initial latent; `chosen` is for both."""
    settings = {"model": MODEL, "conditioning": PROMPT, "method": "midpoint", **chosen}
    scaled = tuple(largest(out.key, Out(kind, "IMAGE"), side) for kind, out in FITTED.items())
    size = Knob("size", tuple((node.key, "largest_size") for node in scaled))
    return block(
        "invert",
        "Invert both pictures",
        (*scaled, *(encoded(f"{kind}_latent", image, VAE) for kind, image in FITTED.items())),
        (inversion("content", **settings), inversion("style", **settings)),
        (bank(), initial()),
        knobs=(size, steps_knob("invert_content", "invert_style")),
        model=MODEL,
        vae=VAE,
        conditioning=PROMPT,
        noise=end_of("content"),
    )


def painted(image: str, **inputs: Out) -> tuple[Node, ...]:
    """From a latent to a picture; `image` is the end of the nodes' keys."""
    sample = f"sample{image}"
    usual = {"positive": PROMPT, "negative": PROMPT, "sampler": Out(MIDPOINT.key, "sampler"), **inputs}
    return sampler(sample, **usual), decoded(f"decode{image}", sample, VAE)


def paint_block() -> Block:
    """The portrait painted in the style, and sampled back without it."""
    plain = {"model": MODEL, "latent_image": end_of("content")}
    names = {"model": Out("patch", "model"), "latent": Out("initial", "latent"), "conditioning": PROMPT, "vae": VAE}
    names |= {"plain_model": MODEL, "noise": end_of("content")}
    row = compared(FITTED["content"], Out("decode_plain", "IMAGE"), FITTED["style"], IMAGE)
    return block("paint", "Paint", (MIDPOINT, *painted("")), (*painted("_plain", **plain), *row), **names)


def demo_page(name: str, note: str, demo: Node, *worked: Item, save_as: str) -> Workflow:
    """A page for the user's two pictures, which shows what came of them beside them."""
    return page(
        name,
        note,
        (demo,),
        portrait_and_style(),
        work(*worked),
        result(IMAGE, save_as, comparison("Portrait, reconstruction, style, result", (560, 330))),
        width=560,
    )


WORKFLOW = demo_page(
    "demo_no_download",
    NOTE,
    Node("demo", "MagicStyleDemoModel"),
    invert_block(SIDE, steps=STEPS),
    patch(MODEL),
    paint_block(),
    save_as="magicstyle/demo",
)

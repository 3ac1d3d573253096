"""The whole method with what ships in the pack: no checkpoint, no picture, no graphics card."""

from __future__ import annotations

from typing import Any

from .describe import Block, Group, Item, Node, Out, Workflow
from .parts import (
    bank,
    block,
    compared,
    comparison,
    decoded,
    initial,
    inversion,
    page,
    patch,
    result,
    sampler,
    steps_knob,
    work,
)
from .parts import noise as end_of
from .stock import encoded, largest
from .titles import called

NOTE = f"""## Try it without any download

Press **Run**: the model and the two pictures come with the pack. It takes well under a minute, also
without a graphics card.

*Load Demo Model* knows **drawn portraits of 256x256 pixels** in a dozen techniques and nothing else; for photographs
open {called("portrait_stylization")} with an SD1.5 checkpoint.

### What to change first

In *FFA Model Patcher*:

- The face is lost: raise *query_preservation*.
- Too little style: lower *query_preservation*.
- *method*: compare *ffa* with *styleid* and *zstar*. *masactrl* reads the portrait alone.

### Calls and memory

With *method* midpoint in both inversions and *Midpoint Sampler* in place of *KSamplerSelect*: 12 steps are **fast**
(42 model calls), 20 **balanced** (63), 50 **faithful** (153). *every* 5 in both takes a fifth of the memory.

**Reconstruction** is the portrait sampled back from its noise, without any style.
"""
MODEL, VAE, PROMPT = (Out("demo", name) for name in ("model", "vae", "conditioning"))
CONTENT, STYLE = Out("demo", "content"), Out("demo", "style")
RESULT = Out("large", "IMAGE")
DDIM = Node("ddim", "KSamplerSelect", {"sampler_name": "ddim"})
SHOWN = 512  # pixels: the demo model's pictures are small


def enlarged(key: str, image: Out) -> Node:
    """A picture at a size to look at."""
    return largest(key, image, SHOWN)


def look_block() -> Block:
    """Both pictures, enlarged."""
    both = (enlarged("content_large", CONTENT), enlarged("style_large", STYLE))
    names = {"portrait": CONTENT, "style_picture": STYLE}
    large = {"large_portrait": Out("content_large", "IMAGE"), "large_style_picture": Out("style_large", "IMAGE")}
    return block("look", "Enlarge both pictures", both, **names, **large)


def shown(key: str, image: Out, title: str) -> Node:
    """A picture on the page."""
    return Node(key, "PreviewImage", {"images": image}, title=title)


def invert_block(**chosen: Any) -> Block:
    """From the demo's pictures to a bank and an initial latent; `chosen` are settings of both inversions."""
    settings = {"model": MODEL, "conditioning": PROMPT, **chosen}
    return block(
        "invert",
        "Invert both pictures",
        (encoded("content_latent", CONTENT, VAE), encoded("style_latent", STYLE, VAE)),
        (inversion("content", **settings), inversion("style", **settings)),
        (bank(), initial()),
        knobs=(steps_knob("invert_content", "invert_style"),),
        model=MODEL,
        vae=VAE,
        conditioning=PROMPT,
        portrait=CONTENT,
        style_picture=STYLE,
        noise=end_of("content"),
    )


def painted(image: str, **inputs: Out) -> tuple[Node, ...]:
    """From a latent to a picture; `image` is the end of the nodes' keys."""
    sample = f"sample{image}"
    usual = {"positive": PROMPT, "negative": PROMPT, **inputs}
    return sampler(sample, **usual), decoded(f"decode{image}", sample, VAE)


def paint_block(chosen: Node = DDIM, slot: str = "SAMPLER") -> Block:
    """The portrait painted in the style, and sampled back without it, by the sampler of a node's output."""
    takes = {"sampler": Out(chosen.key, slot)}
    plain = {"model": MODEL, "latent_image": end_of("content"), **takes}
    names = {"model": Out("patch", "model"), "latent": Out("initial", "latent"), "conditioning": PROMPT, "vae": VAE}
    names |= {"portrait": CONTENT, "style_picture": STYLE, "plain_model": MODEL, "noise": end_of("content")}
    names |= {"image": RESULT}
    result_nodes = (*painted("", **takes), enlarged("large", Out("decode", "IMAGE")))
    row = compared(CONTENT, Out("decode_plain", "IMAGE"), STYLE, RESULT)
    return block("paint", "Paint", (chosen, *result_nodes), (*painted("_plain", **plain), *row), **names)


def demo_page(name: str, note: str, demo: Node, *worked: Item, save_as: str) -> Workflow:
    """A page of the demo's two pictures, which shows what came of them beside them."""
    return page(
        name,
        note,
        (demo, look_block()),
        Group(
            "The two pictures",
            (
                (
                    shown("content_shown", Out("content_large", "IMAGE"), "Portrait"),
                    shown("style_shown", Out("style_large", "IMAGE"), "Style picture"),
                ),
            ),
        ),
        work(*worked),
        result(RESULT, save_as, comparison("Portrait, reconstruction, style, result", (600, 260))),
    )


WORKFLOW = demo_page(
    "demo_no_download",
    NOTE,
    Node("demo", "MagicStyleDemoModel"),
    invert_block(),
    patch(MODEL),
    paint_block(),
    save_as="magicstyle/demo",
)

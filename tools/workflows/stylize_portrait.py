"""One block that does it all, *Stylize Portrait*: published as a blueprint, and the heart of the App workflows."""

from __future__ import annotations

from dataclasses import dataclass

from .describe import App, Block, Group, Knob, Node, Out
from .parts import (
    IMAGE,
    bank,
    block,
    decoded,
    initial,
    inversion,
    page,
    patch,
    pictures,
    result,
    sampler,
    work,
)
from .stock import CLIP, MODEL, VAE, encoded, largest, load_checkpoint, load_picture, prompt
from .titles import called

BLOCK = "Stylize Portrait (MagicStyle)"
ABOUT = (
    "Paints a portrait in the style of one picture: inverts both, fuses their attention features while sampling, "
    "returns the picture. No training, no extra weights. Made of the pack's separate nodes, which its button shows."
)
# under which the node search finds it: portrait, style transfer in Chinese; portrait, style, portrait in Japanese
WORDS = (
    *("style transfer", "portrait", "stylize", "style", "photo", "face", "painting", "reference style", "MagicStyle"),
    *(
        "\u4eba\u50cf",
        "\u98ce\u683c\u8fc1\u79fb",
        "\u30dd\u30fc\u30c8\u30ec\u30fc\u30c8",
        "\u30b9\u30bf\u30a4\u30eb",
        "\u8096\u50cf",
    ),
)
PICTURES = (("content", "Portrait"), ("style", "Style picture"))
FACE = Out("content", "MASK")  # painted on the portrait; an empty one changes nothing
STEPS = Out("preset", "steps")
LIKENESS = 0.65  # of an untouched block: the default of the query preservation that it drives
KNOBS = (
    # the narrower range first: a block shows the first widget that a knob drives
    Knob("style strength", (("initial", "strength"), ("patch", "end_percent"))),
    Knob("likeness", (("patch", "query_preservation"), ("patch", "keep_strength"))),
    Knob("quality/speed", (("preset", "preset"),)),
    Knob("method", (("patch", "method"),)),
)
NOTE = """# Portrait in a style, by one block

## The portrait takes on the colours and the brush of the style picture. Both are first scaled to *size*.

1. Choose an **SD1.5 checkpoint** in *Load Checkpoint*; also one of **SDXL**, with *size* 1024.
2. Choose your **Portrait** and a **Style picture**.
3. Press **Run**. You need no prompt.

# What to change first

In *Stylize Portrait*:

- The face is lost: raise *likeness*, or right-click *Portrait*, choose *Open in MaskEditor* and paint the face.
- Too little style: lower *likeness*.
- Too much style: lower *style strength*: fewer steps take the style, and fewer of its colours.
- *quality/speed*: **fast** to try things out, **balanced** for most pictures. *size* is the longer side.

Inside are the separate nodes: open it by the button in its corner, in Nodes 2.0 by *Enter subgraph*.
"""
DEMO_NOTE = f"""# Your photograph, painted like another picture

## It takes on the colours and the brush of the style picture. Both are first scaled to *size* on the longer side.

1. Press **Run**.
2. Choose a photograph of yours in *Portrait*, a painting in *Style picture*, and press **Run** again.

# What to change first

- Too little of the brush: choose a detail of the painting as *Style picture*. Thin strokes are lost.
- The face is lost: raise *likeness*.
- Too little style: lower *likeness*.
- Too much style: lower *style strength*: fewer steps take the style, and fewer of its colours.

Best are head and shoulders: small faces dissolve. With a checkpoint of yours: {called("stylize_portrait_app")}.
"""


@dataclass(frozen=True)
class Sources:
    """Where a block's model, prompt and pictures come from."""

    model: Out = MODEL
    clip: Out = CLIP
    vae: Out = VAE

    @property
    def names(self) -> dict[str, Out]:
        """What the block's sockets are called."""
        pictures = {"portrait": Out("content", "IMAGE"), "style": Out("style", "IMAGE"), "face_mask": FACE}
        return {"model": self.model, "clip": self.clip, "vae": self.vae, **pictures}


def inverted(sources: Sources) -> tuple[Node, Node]:
    """Both pictures inverted as the preset says."""
    way = {"method": "midpoint", "steps": STEPS, "model": sources.model}
    return inversion("content", **way), inversion("style", **way)


def painted(sources: Sources) -> tuple[Node, ...]:
    """The picture sampled from the portrait's noise."""
    sample = sampler(sampler=Out("midpoint", "sampler"))
    return Node("midpoint", "MagicStyleMidpointSampler"), sample, decoded(vae=sources.vae)


def stylize_block(sources: Sources, side: int) -> Block:
    """From a model and pictures of any size, whose aspects are kept, to a picture; with its empty prompt inside."""
    sized = [largest(f"{key}_sized", Out(key, "IMAGE"), side) for key, _ in PICTURES]
    latents = [encoded(f"{key}_latent", Out(f"{key}_sized", "IMAGE"), sources.vae) for key, _ in PICTURES]
    size = Knob("size", tuple((picture.key, "largest_size") for picture in sized))
    first = (Node("preset", "MagicStylePreset"), prompt().with_inputs(clip=sources.clip), *sized, *latents)
    fused = (bank(), initial(), patch(sources.model, keep_strength=LIKENESS, keep=FACE))
    stacks = first, inverted(sources), fused, painted(sources)
    return block("stylize", BLOCK, *stacks, knobs=(*KNOBS, size), **sources.names)


def your_pictures() -> Group:
    """Both pictures, their buttons called as they are: an app shows the buttons alone."""
    return pictures(*(load_picture(key, title).labelled(image=title) for key, title in PICTURES))


DEMO, DEMO_SIDE = Sources(*(Out("demo", name) for name in ("model", "clip", "vae"))), 512
PORTRAIT = page(
    "stylize_portrait",
    NOTE,
    (load_checkpoint().labelled(ckpt_name="Checkpoint"),),
    your_pictures(),
    work(stylize_block(Sources(), 576)),
    result(IMAGE, "magicstyle/portrait"),
)
CHOSEN = tuple((key, "image") for key, _ in PICTURES)
TURNED = tuple(("stylize", name) for name in ("style strength", "likeness", "quality/speed", "size"))
PORTRAIT_APP = PORTRAIT.as_app(
    "stylize_portrait_app",
    App((*CHOSEN, ("checkpoint", "ckpt_name"), *TURNED), ("save",)),
)
DEMO_APP = page(
    "demo_app",
    DEMO_NOTE,
    (Node("demo", "MagicStyleDemoModel"),),
    your_pictures(),
    work(stylize_block(DEMO, DEMO_SIDE)),
    result(IMAGE, "magicstyle/demo"),
).as_app("demo_app", App((*CHOSEN, *TURNED), ("save",)))

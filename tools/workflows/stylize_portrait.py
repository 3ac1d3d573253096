"""One block that does it all, *Stylize Portrait*: published as a blueprint, and the heart of the App workflows."""

from __future__ import annotations

from dataclasses import dataclass

from .demo_no_download import enlarged
from .describe import App, Block, Knob, Node, Out
from .parts import (
    EMPTY,
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
from .stock import MODEL, VAE, encoded, largest, load_checkpoint, load_picture, prompt
from .titles import called

BLOCK = "Stylize Portrait (MagicStyle)"
ABOUT = (
    "Paints a portrait in the style of one picture: inverts both, fuses their attention features while sampling, "
    "returns the picture. No training, no extra weights. Made of the pack's separate nodes, which its button shows."
)
WORDS = ("style transfer", "portrait", "stylize", "face", "painting", "reference style", "MagicStyle")
PICTURES = (("content", "Portrait"), ("style", "Style picture"))
FACE = Out("content", "MASK")  # painted on the portrait; an empty one changes nothing
STEPS = Out("preset", "steps")
LIKENESS = 0.65  # of an untouched block: the default of the query preservation that it drives
KNOBS = (
    # the narrower range first: a block shows the first widget that a knob drives
    Knob("style strength", (("initial", "strength"), ("patch", "end_percent"))),
    Knob("likeness", (("patch", "query_preservation"), ("patch", "keep_strength"))),
    Knob("preset", (("preset", "preset"),)),
    Knob("method", (("patch", "method"),)),
)
NOTE = """## One block

1. Choose an **SD1.5 checkpoint** in *Load Checkpoint*.
2. Choose your **Portrait** and a **Style picture**. Both begin with the same example, which shows no style.
3. Press **Run**. You need no prompt.

### What to change first

In *Stylize Portrait*:

- The face is lost: raise *likeness*, or right-click *Portrait*, choose *Open in MaskEditor* and paint the face.
- Too little style: lower *likeness*.
- Too much style: lower *style strength*: fewer steps take the style, and fewer of its colours.
- *preset*: **fast** to try things out, **balanced** for most pictures.
- *size*: the length of the longer side, 1024 for an SDXL checkpoint. The pictures keep their shapes.

Inside are the separate nodes: open it by the button in its corner, in Nodes 2.0 by *Enter subgraph*. The node search
has the block as *Stylize Portrait*.
"""
DEMO_NOTE = f"""## The demo as an app

Press **Run**: the model and the two pictures come with the pack.

### What to change first

- The face is lost: raise *likeness*.
- Too little style: lower *likeness*.
- Too much style: lower *style strength*: fewer steps take the style, and fewer of its colours.

The model knows drawn portraits alone; for photographs open {called("stylize_portrait")} with an SD1.5 checkpoint.
"""


@dataclass(frozen=True)
class Sources:
    """Where a block's model, prompt and pictures come from."""

    model: Out = MODEL
    vae: Out = VAE
    conditioning: Out = EMPTY
    portrait: Out = Out("content", "IMAGE")
    style: Out = Out("style", "IMAGE")

    @property
    def names(self) -> dict[str, Out]:
        """What the block's sockets are called."""
        return {"model": self.model, "vae": self.vae, "portrait": self.portrait, "style": self.style, "face_mask": FACE}


def inverted(sources: Sources) -> tuple[Node, Node]:
    """Both pictures inverted as the preset says."""
    way = {"method": "midpoint", "steps": STEPS, "model": sources.model, "conditioning": sources.conditioning}
    return inversion("content", **way), inversion("style", **way)


def painted(sources: Sources) -> tuple[Node, ...]:
    """The picture sampled from the portrait's noise."""
    prompts = dict.fromkeys(("positive", "negative"), sources.conditioning)
    sample = sampler(sampler=Out("midpoint", "sampler"), **prompts)
    return Node("midpoint", "MagicStyleMidpointSampler"), sample, decoded(vae=sources.vae)


def stylize_block(
    sources: Sources, latents: tuple[Node, ...], *after: Node, knobs: tuple[Knob, ...] = (), **fusion: float | Out
) -> Block:
    """From a model and two pictures to a picture; `latents` come from the pictures, `fusion` are the patcher's."""
    first = (Node("preset", "MagicStylePreset"), *latents)
    last = (*painted(sources), *after)
    fused = (bank(), initial(), patch(sources.model, keep_strength=LIKENESS, **fusion))
    return block("stylize", BLOCK, first, inverted(sources), fused, last, knobs=(*KNOBS, *knobs), **sources.names)


def checkpoint_block(side: int = 576) -> Block:
    """The block for a checkpoint and pictures of any size, whose aspects are kept; with its empty prompt inside."""
    sized = [largest(f"{key}_sized", Out(key, "IMAGE"), side) for key, _ in PICTURES]
    latents = [encoded(f"{key}_latent", Out(f"{key}_sized", "IMAGE")) for key, _ in PICTURES]
    size = Knob("size", tuple((picture.key, "largest_size") for picture in sized))
    return stylize_block(Sources(), (prompt(), *sized, *latents), knobs=(size,), keep=FACE)


def demo_block() -> Block:
    """The block for the demo model, its prompt and its pictures; the result enlarged."""
    sources = Sources(*(Out("demo", name) for name in ("model", "vae", "conditioning", "content", "style")))
    latents = tuple(
        encoded(f"{kind}_latent", image, sources.vae)
        for kind, image in (("content", sources.portrait), ("style", sources.style))
    )
    return stylize_block(sources, latents, enlarged("large", IMAGE))


PORTRAIT = page(
    "stylize_portrait",
    NOTE,
    (load_checkpoint().labelled(ckpt_name="Checkpoint"),),
    pictures(*(load_picture(key, title).labelled(image=title) for key, title in PICTURES)),
    work(checkpoint_block()),
    result(IMAGE, "magicstyle/portrait"),
)
TURNED = tuple(("stylize", knob.name) for knob in KNOBS)
PORTRAIT_APP = PORTRAIT.as_app(
    "stylize_portrait_app",
    App((("content", "image"), ("style", "image"), ("checkpoint", "ckpt_name"), *TURNED), ("save",)),
)
DEMO_APP = page(
    "demo_app",
    DEMO_NOTE,
    (Node("demo", "MagicStyleDemoModel"),),
    work(demo_block()),
    result(Out("large", "IMAGE"), "magicstyle/demo"),
).as_app("demo_app", App(TURNED, ("save",)))

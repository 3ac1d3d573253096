"""One portrait, one style picture, one checkpoint."""

from __future__ import annotations

from .describe import Group, Node, Note, Out, Workflow
from .stock import load_checkpoint, picture, prompt, result

NOTE = """## Portrait stylization

1. Choose an **SD1.5 checkpoint** in *Load Checkpoint*.
2. Choose your **portrait** and a **style picture** in the two *Load Image* nodes.
3. Press **Run**. Both pictures are inverted to noise, then painted again together.

**What to change first** (in *FFA Model Patcher*)

- Too little style: lower `query_preservation`, or raise `style_weight`.
- The face is lost: raise `query_preservation`, or raise `content_weight`.
- Washed out: raise `temperature` a little.

Working size: change `width` and `height` in **both** *Upscale Image* nodes, to multiples of 8.
The two *DDIM Inversion* nodes need the same steps and scheduler.
"""


def inversion(kind: str, title: str) -> Node:
    """The inversion of one of the two pictures."""
    inputs = {
        "model": Out("checkpoint", "MODEL"),
        "latent": Out(f"{kind}_latent", "LATENT"),
        "conditioning": Out("prompt", "CONDITIONING"),
    }
    return Node(f"invert_{kind}", f"MagicStyleInvert{title}", inputs)


def inversion_below(pictures: Group, node: Node, title: str) -> tuple[Group, Group]:
    """A picture's lane, from its file down to its inversion; the inversions of all lanes stand in a row."""
    return pictures, Group(title, ((node,),), color="#b58b2a", row="inversion")


def content_lane() -> tuple[Group, Group]:
    """The portrait and its inversion."""
    pictures = picture("content", "Content: the portrait", "portrait.png")
    return inversion_below(pictures, inversion("content", "Content"), "Phase 1: content inversion")


def style_lane() -> tuple[Group, Group]:
    """The style picture and its inversion."""
    pictures = picture("style", "Style: the picture to paint like", "style.png")
    return inversion_below(pictures, inversion("style", "Style"), "Phase 1: style inversion")


def fusion() -> Group:
    """Bank, patched model and initial latent."""
    bank = {"content": Out("invert_content", "features"), "style": Out("invert_style", "features")}
    patch = {"model": Out("checkpoint", "MODEL"), "bank": Out("bank", "bank")}
    noises = {"content": Out("invert_content", "noise"), "style": Out("invert_style", "noise")}
    stack = (
        Node("bank", "MagicStyleFeatureBank", bank),
        Node("patch", "MagicStylePatchFFA", patch),
        Node("initial", "MagicStyleInitialLatent", noises),
    )
    return Group("Phase 2: feature fusion", (stack,), color="#a1309b")


def sampling() -> Group:
    """The patched model from the initial latent."""
    return ddim(Out("patch", "model"), Out("invert_content", "sigmas"), Out("initial", "latent"), "Sampling")


def ddim(model: Out, sigmas: Out, latent: Out, title: str) -> Group:
    """Plain DDIM from the inverted noise: nothing added, no guidance, the inversion's own noise levels."""
    inputs = {
        "model": model,
        "add_noise": False,
        "noise_seed": 0,
        "cfg": 1.0,
        "positive": Out("prompt", "CONDITIONING"),
        "negative": Out("prompt", "CONDITIONING"),
        "sampler": Out("ddim", "SAMPLER"),
        "sigmas": sigmas,
        "latent_image": latent,
    }
    sampler = Node("ddim", "KSamplerSelect", {"sampler_name": "ddim"})
    return Group(title, ((sampler, Node("sample", "SamplerCustom", inputs)),))


WORKFLOW = Workflow(
    "portrait_stylization",
    (
        (
            Group("Start here", ((Note("note", NOTE),),), color="#b08d45"),
            Group("Model", ((load_checkpoint(), prompt()),)),
        ),
        content_lane(),
        style_lane(),
        (fusion(),),
        (sampling(), result(Out("sample", "output"), "magicstyle/portrait")),
    ),
)

"""A style inverted and saved once, then loaded for any number of portraits."""

from __future__ import annotations

from .describe import Group, Node, Note, Out, Workflow
from .portrait_stylization import content_lane, ddim, inversion, inversion_below, sampling
from .stock import load_checkpoint, picture, prompt, result

SAVE_NOTE = """## Save a style

1. Choose an **SD1.5 checkpoint** and a **style picture**.
2. Press **Run**. The style is inverted and saved to `output/magicstyle`; as `latents` it takes under 2 MB.
3. Look at the picture on the right: it is the style sampled back from its noise. If it is not your style
   picture, raise `steps`.

**What to change first**: `filename_prefix` in *Save Feature Bank*, one name per style.

Then open *style_library_apply*.
"""
APPLY_NOTE = """## Paint with a saved style

1. Choose the **checkpoint that the style was saved with** and your **portrait**.
2. Choose the saved style in *Load Feature Bank*. Not listed? Press *R* to refresh, or run *style_library_save*.
3. Press **Run**.

**What to change first**: the style in *Load Feature Bank*, then `query_preservation` in *FFA Model Patcher*.

The portrait needs the same steps and scheduler as the saved style; the summary says when they differ.
"""


def save_group() -> Group:
    """The style alone as a bank, and its file."""
    features = Out("invert_style", "features")
    bank = Node("bank", "MagicStyleFeatureBank", {"content": features, "style": features}, title="Bank of the style")
    save = Node("save_bank", "MagicStyleSaveFeatureBank", {"bank": Out("bank", "bank")})
    return Group("Save the style", ((bank, save),), color="#a1309b")


def reconstruction() -> Group:
    """The style sampled back from its noise, by the plain model."""
    sigmas, noise = Out("invert_style", "sigmas"), Out("invert_style", "noise")
    return ddim(Out("checkpoint", "MODEL"), sigmas, noise, "Does it reconstruct?")


def small_inversion(kind: str, title: str) -> Node:
    """An inversion that keeps the trajectory alone."""
    node = inversion(kind, title)
    return Node(node.key, node.type, {**node.inputs, "storage": "latents"})


def apply_group() -> Group:
    """The saved style with a new portrait, and the patched model."""
    load = {"bank_name": "style_00001_.safetensors", "content": Out("invert_content", "features")}
    patch = {"model": Out("checkpoint", "MODEL"), "bank": Out("bank", "bank")}
    noise = {"content": Out("invert_content", "noise"), "style": Out("bank", "noise")}
    stack = (
        Node("bank", "MagicStyleLoadFeatureBank", load),
        Node("patch", "MagicStylePatchFFA", patch),
        Node("initial", "MagicStyleInitialLatent", noise),
    )
    return Group("Feature fusion with the saved style", (stack,), color="#a1309b")


def _start(note: str) -> tuple[Group, Group]:
    return (
        Group("Start here", ((Note("note", note),),), color="#b08d45"),
        Group("Model", ((load_checkpoint(), prompt()),)),
    )


SAVE = Workflow(
    "style_library_save",
    (
        _start(SAVE_NOTE),
        inversion_below(
            picture("style", "Style: the picture to paint like", "style.png"),
            small_inversion("style", "Style"),
            "Inversion of the style",
        ),
        (save_group(),),
        (reconstruction(), result(Out("sample", "output"), "magicstyle/reconstruction")),
    ),
)

APPLY = Workflow(
    "style_library_apply",
    (
        _start(APPLY_NOTE),
        content_lane(),
        (apply_group(),),
        (sampling(), result(Out("sample", "output"), "magicstyle/portrait")),
    ),
)

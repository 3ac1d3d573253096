"""A style inverted and saved once, then loaded for any number of portraits."""

from __future__ import annotations

from .describe import Block, Group, Knob, Node, Out
from .parts import (
    IMAGE,
    PURPLE,
    block,
    features,
    initial,
    inversion,
    latent_of,
    noise,
    page,
    paint_block,
    patch,
    pictures,
    result,
    size_knobs,
    steps_knob,
    work,
)
from .stock import MODEL, load_checkpoint, load_picture, prompt
from .titles import called

SAVE_NOTE = f"""## Save a style for later

## A style picture is inverted once and saved; it then paints any portrait. It is first cropped to 512x512.

1. Choose an **SD1.5 checkpoint** and a **Style picture**.
2. Press **Run**. The style is inverted and saved to *output/magicstyle*; as latents it takes under 2 MB.
3. Look at **Result**: it is the style sampled back from its noise. If it is not your style picture, raise *steps*.

### What to change first

Give each style a name of its own: *filename_prefix* in *Save Feature Bank*.

Then open {called("style_library_apply")}.
"""
APPLY_NOTE = f"""## Paint with a saved style

## The portrait takes on the colours and the brush of a style that you saved. It is first cropped to 512x512.

1. Choose the **checkpoint that the style was saved with** and your **Portrait**.
2. Choose the saved style in *Load Feature Bank*. Not listed? Press *R*, or run {called("style_library_save")}.
3. Press **Run**.

### What to change first

Choose another style in *Load Feature Bank*. If the face is lost, raise *query_preservation* in *FFA Model Patcher*.

The portrait needs the same steps and scheduler as the saved style; the summary says when they differ.
"""


def style_block() -> Block:
    """The style alone as a bank, its trajectory kept."""
    alone = Node("bank", "MagicStyleFeatureBank", {"content": features("style"), "style": features("style")})
    return block(
        "invert",
        "Invert the style",
        (prompt(), *latent_of("style", 512)),
        (inversion("style", storage="latents"), alone),
        knobs=(steps_knob("invert_style"), *size_knobs("style_sized")),
        latent=noise("style"),
        sigmas=Out("invert_style", "sigmas"),
    )


def back_block() -> Block:
    """The style sampled back from its noise, by the plain model."""
    sigmas, latent = Out("invert_style", "sigmas"), noise("style")
    plain = paint_block(title="Sample the style back", model=MODEL, sigmas=sigmas, latent_image=latent)
    return Block(plain.key, plain.title, plain.stacks, plain.knobs, {**plain.names, sigmas: "sigmas", latent: "latent"})


def portrait_block() -> Block:
    """The portrait inverted for a saved style."""
    return block(
        "invert",
        "Invert the portrait",
        (prompt(), *latent_of("content", 512)),
        (inversion("content"),),
        knobs=(steps_knob("invert_content"), *size_knobs("content_sized")),
        features=features("content"),
        noise=noise("content"),
    )


def paint_with_saved_style() -> Block:
    """From the portrait's noise with the saved style's colours to a picture."""
    plain = paint_block()
    start = initial(style=Out("bank", "noise"))
    names = {**plain.names, noise("content"): "noise", Out("bank", "noise"): "style noise"}
    knobs = (Knob("strength of colours", (("initial", "strength"),)),)
    return Block(plain.key, plain.title, ((start,), *plain.stacks), knobs, names)


SAVE = page(
    "style_library_save",
    SAVE_NOTE,
    (load_checkpoint(),),
    pictures(load_picture("style", "Style picture")),
    Group(
        "Invert and save the style",
        ((style_block(), Node("save_bank", "MagicStyleSaveFeatureBank", {"bank": Out("bank", "bank")}), back_block()),),
        PURPLE,
    ),
    result(IMAGE, "magicstyle/reconstruction"),
)

SAVED_STYLE = {"bank_name": "style_00001_.safetensors", "content": features("content")}
APPLY = page(
    "style_library_apply",
    APPLY_NOTE,
    (load_checkpoint(),),
    Group(
        "Your portrait, a saved style",
        (
            (
                load_picture("content", "Portrait"),
                portrait_block(),
                Node("bank", "MagicStyleLoadFeatureBank", SAVED_STYLE),
            ),
        ),
    ),
    work(patch(), paint_with_saved_style()),
    result(IMAGE, "magicstyle/portrait"),
)

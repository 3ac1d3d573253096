"""Styles by region: regions painted by hand, or found by words."""

from __future__ import annotations

from .describe import Block, Group, Knob, Node, Out
from .parts import (
    IMAGE,
    bank,
    block,
    features,
    initial,
    inversion,
    latent_of,
    noise,
    page,
    paint_block,
    patch,
    portrait_and_style,
    result,
    size_knobs,
    steps_knob,
    two_styles,
    work,
)
from .stock import CLIP, MODEL, load_checkpoint, load_picture, prompt, sized

TWO_NOTE = """## Two styles by mask

## One style picture paints where you say, another everywhere else. All pictures are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, your **Portrait** and **two style pictures**.
2. Right-click *Portrait*, choose *Open in MaskEditor*, and paint where **style 1** belongs: the hair, say. Save.
3. Press **Run**.

### What to change first

- *weight of style 2* in *Invert all pictures*: where both act, the heavier one shows more.
- *query_preservation* in *FFA Model Patcher*: higher keeps more of the face.
"""
KEEP_NOTE = """## Portrait, background kept

## What you paint takes the style, the rest stays nearly as it is. Both pictures are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, your **Portrait** and a **Style picture**.
2. Right-click *Portrait*, choose *Open in MaskEditor*, and paint the **person**. Save.
3. Press **Run**.

### What to change first

- *query_preservation* in *FFA Model Patcher*: higher keeps more of the portrait inside the mask too.
- To paint the background and keep the person, paint the background.
- *strength of colours* in *Invert both pictures*: lower keeps the person's own colours.

The background is sampled anew, too, so that its tone shifts a little.
"""
WORDS_NOTE = """## Each style where a word says

## Two style pictures paint what two words name; the rest stays. All pictures are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, your **Portrait** and **two style pictures**.
2. In *Regions from Words*, name two things, separated by a comma.
3. Press **Run**. Style 1 paints the first, style 2 the second.

### What to change first

- Region too large: raise *background*; ragged: raise *noise_level*.
- The model misses the word: describe the picture in *prompt*.
"""
SIDE = 512
MASK, REST = Out("mask", "MASK"), Out("rest", "MASK")


def painted_mask(side: int = SIDE) -> tuple[Node, Node, Node]:
    """The mask painted on the portrait, brought to the working size just as the portrait is."""
    return (
        Node("mask_image", "MaskToImage", {"mask": Out("content", "MASK")}),
        sized("mask_sized", Out("mask_image", "IMAGE"), side, "bilinear"),
        Node("mask", "ImageToMask", {"image": Out("mask_sized", "IMAGE"), "channel": "red"}),
    )


def second_style(region: Out) -> tuple[Node, Node]:
    """The second style in the bank, and its colours in the initial latent."""
    added = {"bank": Out("bank", "bank"), "style": features("style_2"), "region": region}
    return (
        Node("bank_2", "MagicStyleAddStyle", added),
        initial("initial", Out("initial_1", "latent"), noise("style_2"), region=region),
    )


def two_styles_block() -> Block:
    """From three pictures and a mask to a bank and an initial latent."""
    kinds = ("content", "style", "style_2")
    latents = tuple(node for kind in kinds for node in latent_of(kind, SIDE))
    add, start = second_style(REST)
    return block(
        "invert",
        "Invert all pictures",
        (prompt(), *latents),
        tuple(inversion(kind) for kind in kinds),
        (*painted_mask(), Node("rest", "InvertMask", {"mask": MASK})),
        (bank(region=MASK), add, initial("initial_1", region=MASK), start),
        knobs=(
            Knob("weight of style 2", (("bank_2", "weight"),)),
            steps_knob(*(f"invert_{kind}" for kind in kinds)),
            *size_knobs(*(f"{kind}_sized" for kind in kinds), "mask_sized"),
        ),
        bank=Out("bank_2", "bank"),
    )


def keep_block() -> Block:
    """From two pictures and a mask to a bank and an initial latent."""
    return block(
        "invert",
        "Invert both pictures",
        (prompt(), *latent_of("content", SIDE), *latent_of("style", SIDE)),
        (inversion("content"), inversion("style")),
        painted_mask(),
        (bank(region=MASK), initial(region=MASK)),
        knobs=(
            Knob("strength of colours", (("initial", "strength"),)),
            steps_knob("invert_content", "invert_style"),
            *size_knobs("content_sized", "style_sized", "mask_sized"),
        ),
    )


def encode_block() -> Block:
    """Three pictures at the working size, and their latents."""
    kinds = ("content", "style", "style_2")
    stack = tuple(node for kind in kinds for node in latent_of(kind, SIDE))
    names = {f"latent_{i}": Out(f"{kind}_latent", "LATENT") for i, kind in enumerate(kinds)}
    titles = {
        "portrait_latent": names["latent_0"],
        "style_latent": names["latent_1"],
        "style_2_latent": names["latent_2"],
    }
    return block(
        "encode", "Encode the pictures", stack, knobs=size_knobs(*(f"{kind}_sized" for kind in kinds)), **titles
    )


def phrase(number: int) -> tuple[Node, Node]:
    """One mask of the batch, by the host's own nodes."""
    one = {"image": Out("masks_image", "IMAGE"), "batch_index": number, "length": 1}
    image = Node(f"mask_image_{number}", "ImageFromBatch", one)
    mask = Node(f"mask_{number}", "ImageToMask", {"image": Out(image.key, "IMAGE"), "channel": "red"})
    return image, mask


def words_block() -> Block:
    """From latents and the words' masks to a bank and an initial latent, each style in its region."""
    kinds = ("content", "style", "style_2")
    add, start = second_style(Out("mask_1", "MASK"))
    first = {"region": Out("mask_0", "MASK")}
    return block(
        "invert",
        "Invert, each style in its region",
        (prompt(), Node("masks_image", "MaskToImage", {"mask": Out("regions", "masks")}), *phrase(0), *phrase(1)),
        tuple(inversion(kind) for kind in kinds),
        (bank(**first), add, initial("initial_1", **first), start),
        knobs=(steps_knob(*(f"invert_{kind}" for kind in kinds)),),
        bank=Out("bank_2", "bank"),
        portrait_latent=Out("content_latent", "LATENT"),
        style_latent=Out("style_latent", "LATENT"),
        style_2_latent=Out("style_2_latent", "LATENT"),
    )


def found_by_words() -> Group:
    """The encoded pictures, and where the words are seen."""
    inputs = {"model": MODEL, "clip": CLIP, "latent": Out("content_latent", "LATENT"), "words": "person, background"}
    find = Node("regions", "MagicStyleRegionsFromWords", inputs)
    look = Node(
        "masks_preview", "MaskPreview", {"mask": Out("regions", "masks")}, title="What was found", size=(300, 260)
    )
    return Group("Regions from words", ((encode_block(), find, look),))


TWO_STYLES = page(
    "two_styles_by_mask",
    TWO_NOTE,
    (load_checkpoint(), load_picture("content", "Portrait")),
    two_styles(),
    work(two_styles_block(), patch(bank=Out("bank_2", "bank")), paint_block()),
    result(IMAGE, "magicstyle/two_styles"),
    title="Model and portrait",
    width=520,
)

KEEP_BACKGROUND = page(
    "portrait_keep_background",
    KEEP_NOTE,
    (load_checkpoint(),),
    portrait_and_style(),
    work(keep_block(), patch(), paint_block()),
    result(IMAGE, "magicstyle/portrait"),
)

WORDS = page(
    "regions_from_words",
    WORDS_NOTE,
    (load_checkpoint(), load_picture("content", "Portrait")),
    two_styles(),
    found_by_words(),
    work(words_block(), patch(bank=Out("bank_2", "bank")), paint_block()),
    result(IMAGE, "magicstyle/words"),
    title="Model and portrait",
    width=445,  # a column more than the others have
)

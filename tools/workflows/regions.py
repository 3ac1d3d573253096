"""Styles by region: regions painted by hand, or found by words."""

from __future__ import annotations

from .describe import Group, Node, Note, Out, Workflow
from .portrait_stylization import content_lane, inversion, inversion_below, sampling
from .stock import load_checkpoint, picture, prompt, result

PURPLE, GOLD = "#a1309b", "#b08d45"
SIZE = {"width": 512, "height": 512}

TWO_NOTE = """## Two styles by mask

1. Choose an **SD1.5 checkpoint**, your **portrait** and **two style pictures**.
2. Right-click the portrait's *Load Image*, *Open in MaskEditor*, and paint where the **first style** belongs: the hair,
   say. Save.
3. Press **Run**. The first style acts where you painted, the second everywhere else.

**What to change first**

- `weight` in *Feature Bank: Add Style*: where both act, the heavier one shows more.
- Leave the *region* of either style unconnected to let it act everywhere.
- Hard edges: put *Feather Mask* behind *Convert Image to Mask*.
"""
KEEP_NOTE = """## Portrait, background kept

1. Choose an **SD1.5 checkpoint**, your **portrait** and a **style picture**.
2. Right-click the portrait's *Load Image*, *Open in MaskEditor*, and paint the **person**. Save.
3. Press **Run**. Only what you painted is stylized; elsewhere the portrait's own features answer.

**What to change first**

- `content_weight` in *FFA Model Patcher*: higher keeps more of the portrait inside the mask too.
- To keep the person and paint the background, put *Invert Mask* before the Feature Bank.
- `strength` in *Initial Latent*: lower keeps the person's own colours; the background's stay in any case.
"""
WORDS_NOTE = """## Regions from words

1. Choose an **SD1.5 checkpoint**, your **portrait** and **two style pictures**.
2. In *Regions from Words*, name two things in the picture, separated by a comma.
3. Press **Run**. The first style paints what the first word names, the second style the second; places that show
   neither keep the portrait's own look.

**What to change first** (in *Regions from Words*)

- The region is too large: raise `background`, or name more of what surrounds it.
- It is ragged: raise `noise_level`.
- The model misses the word: describe the picture in `prompt`, with the words in it.
"""


def start(note: str) -> tuple[Group, Group]:
    """What a user reads and chooses first."""
    return (
        Group("Start here", ((Note("note", note),),), color=GOLD),
        Group("Model", ((load_checkpoint(), prompt()),)),
    )


def styles(*names: str) -> tuple[Group, ...]:
    """The style pictures, called style, style_2, .."""
    titles = ["Style: the picture to paint like"] if len(names) == 1 else [f"Style {i + 1}" for i in range(len(names))]
    return tuple(picture(name, title, f"{name}.png") for name, title in zip(names, titles, strict=True))


def lanes(*names: str) -> tuple[tuple[Group, Group], ...]:
    """The portrait's and the styles' lanes: each picture with its inversion."""
    titles = ["Phase 1: style inversion", *(f"Phase 1: style {i} inversion" for i in range(2, len(names) + 1))]
    pictures = zip(styles(*names), names, titles, strict=True)
    return content_lane(), *(inversion_below(group, inversion(key, "Style"), title) for group, key, title in pictures)


def painted_mask() -> Group:
    """The mask painted on the portrait, brought to the working size just as the portrait is."""
    sized = {"image": Out("mask_image", "IMAGE"), "upscale_method": "bilinear", **SIZE, "crop": "center"}
    stack = (
        Node("mask_image", "MaskToImage", {"mask": Out("content", "MASK")}),
        Node("mask_sized", "ImageScale", sized),
        Node("mask", "ImageToMask", {"image": Out("mask_sized", "IMAGE"), "channel": "red"}),
    )
    return Group("Region: painted on the portrait", (stack,))


def fusion(bank: dict[str, Out], added: dict[str, Out] | None = None) -> Group:
    """A bank of one style or two, the patched model, and an initial latent with each style's colours in its region."""
    features = {"content": Out("invert_content", "features"), "style": Out("invert_style", "features")}
    nodes = [Node("bank", "MagicStyleFeatureBank", {**features, **bank})]
    noises = {"content": Out("invert_content", "noise"), "style": Out("invert_style", "noise"), **bank}
    starts = [Node("initial", "MagicStyleInitialLatent", noises)]
    if added is not None:
        second = {"bank": Out("bank", "bank"), "style": Out("invert_style_2", "features"), **added}
        nodes.append(Node("bank_2", "MagicStyleAddStyle", second))
        noises_2 = {"content": Out("initial_first", "latent"), "style": Out("invert_style_2", "noise"), **added}
        starts = [
            Node("initial_first", "MagicStyleInitialLatent", noises),
            Node("initial", "MagicStyleInitialLatent", noises_2),
        ]
    patch = {"model": Out("checkpoint", "MODEL"), "bank": Out(nodes[-1].key, "bank")}
    return Group("Phase 2: feature fusion", ((*nodes, Node("patch", "MagicStylePatchFFA", patch), *starts),), PURPLE)


def phrase(number: int) -> tuple[Node, Node]:
    """One mask of the batch, by the host's own nodes."""
    one = {"image": Out("masks_image", "IMAGE"), "batch_index": number, "length": 1}
    image = Node(f"mask_image_{number}", "ImageFromBatch", one)
    mask = Node(f"mask_{number}", "ImageToMask", {"image": Out(image.key, "IMAGE"), "channel": "red"})
    return image, mask


def word_masks() -> Group:
    """The words' masks, and each alone."""
    inputs = {
        "model": Out("checkpoint", "MODEL"),
        "clip": Out("checkpoint", "CLIP"),
        "latent": Out("content_latent", "LATENT"),
        "words": "person, background",
    }
    find = Node("regions", "MagicStyleRegionsFromWords", inputs)
    batch = Node("masks_image", "MaskToImage", {"mask": Out("regions", "masks")})
    look = Node("masks_preview", "PreviewImage", {"images": Out("masks_image", "IMAGE")}, size=(360, 300))
    return Group("Regions: found by words", ((find, batch, look), (*phrase(0), *phrase(1))))


def finish(prefix: str) -> tuple[Group, Group]:
    """Sampling and result."""
    return sampling(), result(Out("sample", "output"), prefix)


PORTRAIT = picture("content", "Content: the portrait", "portrait.png")

TWO_STYLES = Workflow(
    "two_styles_by_mask",
    (
        start(TWO_NOTE),
        *lanes("style", "style_2"),
        (
            painted_mask(),
            Group("Everywhere else", ((Node("rest", "InvertMask", {"mask": Out("mask", "MASK")}),),)),
        ),
        (fusion({"region": Out("mask", "MASK")}, {"region": Out("rest", "MASK")}),),
        finish("magicstyle/two_styles"),
    ),
)

KEEP_BACKGROUND = Workflow(
    "portrait_keep_background",
    (
        start(KEEP_NOTE),
        *lanes("style"),
        (painted_mask(),),
        (fusion({"region": Out("mask", "MASK")}),),
        finish("magicstyle/portrait"),
    ),
)

WORDS = Workflow(
    "regions_from_words",
    (
        start(WORDS_NOTE),
        *lanes("style", "style_2"),
        (word_masks(),),
        (fusion({"region": Out("mask_0", "MASK")}, {"region": Out("mask_1", "MASK")}),),
        finish("magicstyle/words"),
    ),
)

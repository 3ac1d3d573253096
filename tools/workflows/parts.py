"""The parts that our workflows are made of: a page of columns, and the blocks in which the inner work is folded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .describe import Block, Group, Item, Knob, Node, Note, Out, Workflow
from .stock import CLIP, MODEL, VAE, encoded, load_picture, prompt, save, sized

GOLD, PURPLE, GREEN = "#b08d45", "#a1309b", "#8a8"
PATCHED, BANK, START = Out("patch", "model"), Out("bank", "bank"), Out("initial", "latent")
SIGMAS, EMPTY = Out("invert_content", "sigmas"), Out("prompt", "CONDITIONING")
IMAGE, COMPARED = Out("decode", "IMAGE"), Out("compared", "IMAGE")
# what the sockets of blocks are called
NAMES = {
    MODEL: "model",
    CLIP: "clip",
    VAE: "vae",
    Out("content", "IMAGE"): "portrait",
    Out("style", "IMAGE"): "style picture",
    Out("style_2", "IMAGE"): "style picture 2",
    Out("content", "MASK"): "painted mask",
    Out("content_sized", "IMAGE"): "portrait",
    Out("style_sized", "IMAGE"): "style picture",
    PATCHED: "model",
    BANK: "bank",
    START: "latent",
    SIGMAS: "sigmas",
    EMPTY: "conditioning",
    IMAGE: "image",
    COMPARED: "comparison",
}


RUN = "Tested in ComfyUI {}, never on real weights."
ON_BOTH, ON_NEWER = RUN.format("0.3.64 and 0.33"), RUN.format("0.33")
OPENED = "Tested to open in ComfyUI 0.33, never run to its end."


def page(
    name: str,
    note: str,
    model: tuple[Item, ...],
    *columns: Group,
    title: str = "Model",
    width: int = 480,
    tested: str = ON_BOTH,
) -> Workflow:
    """What to read on the left, then a group a column; a single loader stands below the first, so that no wire of its
    passes behind the pictures, several below the note. Where files of other people's are loaded, the note says how
    far the workflow was tested, and that no such file ever was."""
    below = len(model) == 1
    loads = any(isinstance(item, Node) and item.models for item in model)
    text = unwrapped(f"{note}\n{tested}\n" if loads else note)
    text = large(text if below else together(text))
    note_group, loaders = Group("Start here", ((Note("note", text, width),),), GOLD), Group(title, (model,))
    pictures, *others = ((group,) for group in columns)
    first = (note_group,) if below else (note_group, loaders)
    second = (*pictures, loaders) if below else pictures
    return Workflow(name, (first, second, *others))


def unwrapped(text: str) -> str:
    """Paragraphs and items of a list on one line each: the classic canvas drops a line break beside bold words."""
    return re.sub(r"(?<=\S)\n(?!\n|#|- |\d+\. |\Z) *", " ", text)


def together(text: str) -> str:
    """The items of each list in one paragraph: what stands below the note leaves little room."""
    return re.sub(r"(?:(?<=:)\n\n- |(?<=\S)\n(?:- |(?=\d\. )))", " ", text)


def large(text: str) -> str:
    """Everything as headings, the only letters of a note that can be read when the page opens."""
    title, *lines = (re.sub(r"^###", "#", line) for line in text.split("\n"))
    lines = [re.sub(r"^- (.*)", r"\1\n", line) for line in lines]
    lines = [re.sub(r"^(\d\. .*)", lambda step: f"{step[1].replace('**', '*')}\n", line) for line in lines]
    lines = [re.sub(r"^(?=[^#\s])", "## ", line) for line in lines]
    return "\n".join((re.sub(r"^#+", "#", title), *lines)).replace("\n\n\n", "\n\n")


def pictures(*loaders: Node) -> Group:
    """The user's pictures."""
    return Group("Your pictures", (loaders,))


def portrait_and_style() -> Group:
    """A portrait and a style picture, called content and style."""
    return pictures(load_picture("content", "Portrait"), load_picture("style", "Style picture"))


def two_styles() -> Group:
    """Two style pictures, called style and style_2; the portrait stands with the model then."""
    loaders = (load_picture("style", "Style picture 1"), load_picture("style_2", "Style picture 2"))
    return Group("Style pictures", (loaders,))


def work(*items: Item, what: str = "portrait") -> Group:
    """The column in which the picture is painted."""
    return Group(f"Paint the {what} like the style", (items,), PURPLE)


def result(image: Out, prefix: str, *others: Node) -> Group:
    """The column with the result, and what stands below it."""
    return Group("Result", ((save(image, prefix), *others),), GREEN)


def block(key: str, title: str, *stacks: tuple[Node, ...], knobs: tuple[Knob, ...] = (), **names: Out) -> Block:
    """A block whose sockets have the usual names, or those given as name=output."""
    own = {out: name.replace("_", " ") for name, out in names.items()}
    return Block(key, title, stacks, knobs, {**own, **NAMES, **own})  # in the order given, before all others


def size_knobs(*keys: str) -> tuple[Knob, ...]:
    """Width and height of several scaling nodes, together."""
    return tuple(Knob(name, tuple((key, name) for key in keys)) for name in ("width", "height"))


def steps_knob(*keys: str) -> Knob:
    """The steps of several inversions, together: they belong together."""
    return Knob("steps", tuple((key, "steps") for key in keys))


def latent_of(kind: str, side: int) -> tuple[Node, Node]:
    """A picture at the working size, and its latent."""
    picture = sized(f"{kind}_sized", Out(kind, "IMAGE"), side)
    return picture, encoded(f"{kind}_latent", Out(picture.key, "IMAGE"))


def inversion(kind: str, model: Out = MODEL, conditioning: Out = EMPTY, **settings: Any) -> Node:
    """The inversion of a picture: of the portrait (content), or of a style."""
    inputs = {"model": model, "latent": Out(f"{kind}_latent", "LATENT"), "conditioning": conditioning, **settings}
    return Node(f"invert_{kind}", f"MagicStyleInvert{'Content' if kind == 'content' else 'Style'}", inputs)


def features(kind: str) -> Out:
    """What an inversion keeps."""
    return Out(f"invert_{kind}", "features")


def noise(kind: str) -> Out:
    """Where an inversion ends."""
    return Out(f"invert_{kind}", "noise")


def bank(content: str = "content", style: str = "style", **masks: Out) -> Node:
    """The features of the portrait and of one style."""
    return Node("bank", "MagicStyleFeatureBank", {"content": features(content), "style": features(style), **masks})


def initial(key: str = "initial", content: Out | None = None, style: Out | None = None, **masks: Out) -> Node:
    """The portrait's noise with the style's colours."""
    noises = {"content": content or noise("content"), "style": style or noise("style")}
    return Node(key, "MagicStyleInitialLatent", {**noises, **masks})


def invert_block(
    side: int = 512, *, content: Mapping[str, Any] | None = None, style: Mapping[str, Any] | None = None
) -> Block:
    """From pictures to a bank and an initial latent; `content` and `style` are settings of the two inversions."""
    return block(
        "invert",
        "Invert both pictures",
        (prompt(), *latent_of("content", side), *latent_of("style", side)),
        (inversion("content", **(content or {})), inversion("style", **(style or {}))),
        (bank(), initial()),
        knobs=(steps_knob("invert_content", "invert_style"), *size_knobs("content_sized", "style_sized")),
    )


def patch(model: Out = MODEL, **settings: Any) -> Node:
    """The model that looks at the bank while it samples."""
    return Node("patch", "MagicStylePatchFFA", {"model": model, "bank": BANK, **settings})


def sampler(key: str = "sample", **inputs: Any) -> Node:
    """Plain DDIM from the inverted noise: nothing added, no guidance, the inversion's own noise levels."""
    usual = {
        "model": PATCHED,
        "add_noise": False,
        "noise_seed": 0,
        "cfg": 1.0,
        "positive": EMPTY,
        "negative": EMPTY,
        "sampler": Out("ddim", "SAMPLER"),
        "sigmas": SIGMAS,
        "latent_image": START,
    }
    return Node(key, "SamplerCustom", {**usual, **inputs})


def decoded(key: str = "decode", samples: str = "sample", vae: Out = VAE) -> Node:
    """The picture of a sampled latent."""
    return Node(key, "VAEDecode", {"samples": Out(samples, "output"), "vae": vae})


def compared(*pictures: Out) -> tuple[Node, ...]:
    """Pictures side by side, from left to right, as high as the last one: the result."""
    *others, row = pictures
    nodes: list[Node] = []
    for left in range(len(others) - 1, -1, -1):
        inputs = {"image1": row, "image2": others[left], "direction": "left", "spacing_width": 8}
        nodes.append(Node(f"compared_{left}" if left else COMPARED.key, "ImageStitch", inputs))
        row = Out(nodes[-1].key, "IMAGE")
    return tuple(nodes)


def comparison(title: str = "Portrait, style, result", size: tuple[int, int] = (420, 290)) -> Node:
    """The compared pictures on the page."""
    return Node("comparison", "PreviewImage", {"images": COMPARED}, title=title, size=size)


def paint_block(
    knobs: tuple[Knob, ...] = (),
    sampler_name: str = "ddim",
    title: str = "Paint",
    after: tuple[Node, ...] = (),
    **inputs: Any,
) -> Block:
    """From an initial latent to a picture, and what is made of it; `inputs` are the sampler's where they differ."""
    ddim = Node("ddim", "KSamplerSelect", {"sampler_name": sampler_name})
    return block("paint", title, (ddim, sampler(**inputs), decoded(), *after), knobs=knobs)

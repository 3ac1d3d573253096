"""DiffStyler whole: a LoRA trained on each of two pictures, the portrait injected, each LoRA painting its region."""

from __future__ import annotations

from typing import Any

from .describe import Block, Group, Item, Knob, Node, Note, Out, Workflow
from .parts import (
    GOLD,
    IMAGE,
    ON_NEWER,
    SIGMAS,
    block,
    compared,
    comparison,
    decoded,
    features,
    inversion,
    large,
    latent_of,
    noise,
    patch,
    result,
    sampler,
    size_knobs,
    steps_knob,
    together,
    two_styles,
    unwrapped,
    work,
)
from .regions import phrase
from .stock import CLIP, MODEL, VAE, encoded, largest, load_checkpoint, load_picture, prompt

DEMO_NOTE = """## LoRAs trained on two pictures, no download

## Each style picture becomes a LoRA and paints its region. The portrait is first scaled to 384 pixels, the style
pictures to 192.

1. Press **Run** (ComfyUI 0.33 or newer; some minutes without a graphics card): *Style picture 1* paints everything.
2. Right-click *Portrait*, choose *Open in MaskEditor*, paint where **style picture 2** belongs. Save, press **Run**.

### What to change first

- *training steps* in *Train two LoRAs*: more for more of the style.
- *strength* of a LoRA: the same, without training again.
- *end_percent* in *FFA Model Patcher* (in Nodes 2.0: *Show advanced inputs*): higher holds on to the portrait longer.
"""
NOTE = f"""## Two pictures, two LoRAs, each in its region

## Each style picture becomes a LoRA and paints where a word says. All pictures are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, your **Portrait** and **two style pictures**.
2. In *Regions from Words*, name three things: what style 1 paints, style 2, neither.
3. Press **Run** (ComfyUI 0.33 or newer, with a graphics card).

### What to change first

- *training steps*: more for more of the style. 200 as DiffStyler was published, with 50 steps and cfg 10.5.
- *end_percent* in *FFA Model Patcher* (in Nodes 2.0: *Show advanced inputs*): higher holds on to the portrait longer.
- Other masks: paint them in the portrait's mask editor, or let *SAM3 Detect* find them.

{ON_NEWER}
"""
DEMO_MODEL, DEMO_VAE, DEMO_PROMPT = (Out("demo", name) for name in ("model", "vae", "conditioning"))
PAINTED = Out("content", "MASK")
STYLE_WORDS, REST_WORDS, AGAINST = (Out(f"{key}_prompt", "CONDITIONING") for key in ("style", "rest", "negative"))
POSITIVE = Out("all_regions", "positive")
STYLES = ("style", "style_2")


def lora_of(kind: str, model: Out, conditioning: Out, **settings: Any) -> tuple[Node, Node]:
    """A LoRA trained on a picture's latent, and the hook by which it acts in a prompt alone."""
    chosen = {"training_dtype": "fp32", "lora_dtype": "fp32", "seed": 0, **settings}
    inputs = {"model": model, "latents": Out(f"{kind}_latent", "LATENT"), "positive": conditioning, **chosen}
    hook = Node(f"{kind}_hook", "MagicStyleTrainedLoraHook", {"lora": Out(f"{kind}_lora", "lora")})
    return Node(f"{kind}_lora", "TrainLoraNode", inputs), hook


def hook_of(kind: str) -> Out:
    """What makes a style's LoRA act."""
    return Out(f"{kind}_hook", "hooks")


def training_knobs() -> tuple[Knob, ...]:
    """Of both trainings together, and each LoRA's strength."""
    both = (("training steps", "steps"), ("learning rate", "learning_rate"))
    shared = (Knob(name, tuple((f"{kind}_lora", entry) for kind in STYLES)) for name, entry in both)
    strengths = (Knob(f"strength of LoRA {i}", ((f"{k}_hook", "strength_model"),)) for i, k in enumerate(STYLES, 1))
    return (*shared, *strengths)


def train_block(stacks: tuple[tuple[Node, ...], ...], knobs: tuple[Knob, ...], **names: Out) -> Block:
    """From two pictures to the hooks of two LoRAs."""
    hooks = {f"hooks_{number}": hook_of(kind) for number, kind in enumerate(STYLES, start=1)}
    return block("train", "Train two LoRAs", *stacks, knobs=(*training_knobs(), *knobs), **names, **hooks)


def demo_train_block(side: int, steps: int, rate: float) -> Block:
    """On the demo model, which knows one prompt."""
    settings = {"steps": steps, "learning_rate": rate, "gradient_checkpointing": False}
    stacks = tuple(
        (
            largest(f"{kind}_sized", Out(kind, "IMAGE"), side),
            encoded(f"{kind}_latent", Out(f"{kind}_sized", "IMAGE"), DEMO_VAE),
            *lora_of(kind, DEMO_MODEL, DEMO_PROMPT, **settings),
        )
        for kind in STYLES
    )
    size = Knob("size", tuple((f"{kind}_sized", "largest_size") for kind in STYLES))
    return train_block(stacks, (size,), model=DEMO_MODEL, vae=DEMO_VAE, conditioning=DEMO_PROMPT)


def demo_invert_block(side: int, steps: int) -> Block:
    """The portrait's features as a bank of their own."""
    settings = {"model": DEMO_MODEL, "conditioning": DEMO_PROMPT, "method": "midpoint", "roles": "all and ResNet"}
    scaled = largest("content_sized", Out("content", "IMAGE"), side)
    return block(
        "invert",
        "Invert the portrait",
        (scaled, encoded("content_latent", Out(scaled.key, "IMAGE"), DEMO_VAE)),
        (
            inversion("content", **settings, steps=steps),
            Node("bank", "MagicStyleFeatureBank", {"content": features("content")}),
        ),
        knobs=(Knob("size", ((scaled.key, "largest_size"),)), steps_knob("invert_content")),
        model=DEMO_MODEL,
        vae=DEMO_VAE,
        conditioning=DEMO_PROMPT,
        latent=noise("content"),
    )


def by_region(*regions: tuple[str, Out, Out]) -> tuple[Node, ...]:
    """Prompts that a LoRA paints in its region alone: (style, prompt, mask) each."""
    nodes: list[Node] = []
    for number, (kind, words, mask) in enumerate(regions):
        inputs: dict[str, Any] = {"cond_NEW": words, "mask": mask, "hooks": hook_of(kind)}
        if number:
            inputs["cond"] = Out(nodes[-1].key, "CONDITIONING")
        called = "ConditioningSetPropertiesAndCombine" if number else "ConditioningSetProperties"
        nodes.append(Node(f"{kind}_region", called, inputs))
    return tuple(nodes)


def demo_paint_block() -> Block:
    """Both LoRAs at every step: where the mask is painted the second, everywhere else the first."""
    first = Node("unpainted", "InvertMask", {"mask": PAINTED})
    regions = by_region(("style", DEMO_PROMPT, Out(first.key, "MASK")), ("style_2", DEMO_PROMPT, PAINTED))
    midpoint = Node("midpoint", "MagicStyleMidpointSampler")
    painted = sampler(
        positive=Out(regions[-1].key, "CONDITIONING"),
        negative=DEMO_PROMPT,
        sampler=Out(midpoint.key, "sampler"),
        latent_image=noise("content"),
    )
    row = compared(*(Out(f"{kind}_sized", "IMAGE") for kind in ("content", *STYLES)), IMAGE)
    return block(
        "paint",
        "Paint, each LoRA in its region",
        (first, *regions),
        (midpoint, painted, decoded(vae=DEMO_VAE), *row),
        model=Out("patch", "model"),
        latent=noise("content"),
        conditioning=DEMO_PROMPT,
        vae=DEMO_VAE,
        hooks_1=hook_of("style"),
        hooks_2=hook_of("style_2"),
        portrait=Out("content_sized", "IMAGE"),
        style_picture_1=Out("style_sized", "IMAGE"),
        style_picture_2=Out("style_2_sized", "IMAGE"),
    )


def page_of(name: str, note: str, model: Node, prepare: tuple[Item, ...], paint: Group, shown: Group) -> Workflow:
    """The portrait below the note, the model below the style pictures: three pictures make a column too high."""
    start = Group("Start here", ((Note("note", large(together(unwrapped(note))), 445),),), GOLD)
    portrait = Group("Your portrait", ((load_picture("content", "Portrait"),),))
    prepared = Group("Two LoRAs, and the portrait", (prepare,))
    return Workflow(
        name, ((start, portrait), (two_styles(), Group("Model", ((model,),))), (prepared,), (paint,), (shown,))
    )


DEMO = page_of(
    "demo_trained_loras",
    DEMO_NOTE,
    Node("demo", "MagicStyleDemoModel"),
    (demo_train_block(192, 40, 0.005), demo_invert_block(384, 10)),
    work(
        patch(DEMO_MODEL, method="diffstyler", layers="output.4-11", end_percent=0.5),
        demo_paint_block(),
    ),
    result(IMAGE, "magicstyle/trained_loras", comparison("Portrait, styles, result", (420, 240))),
)


def word_train_block(side: int) -> Block:
    """On a checkpoint, as DiffStyler trains: each picture under the same words, which its LoRA makes its own."""
    settings = {"steps": 200, "learning_rate": 0.0005, "rank": 16, "training_dtype": "bf16"}
    stacks = tuple((*latent_of(kind, side), *lora_of(kind, MODEL, STYLE_WORDS, **settings)) for kind in STYLES)
    words = prompt(STYLE_WORDS.key, "painting of sks, portrait", "Style prompt")
    return train_block(((words,), *stacks), (Knob("style prompt", ((words.key, "text"),)),), style_words=STYLE_WORDS)


def word_invert_block(side: int) -> Block:
    """The portrait's features as a bank of their own, and its latent for the words."""
    return block(
        "invert",
        "Invert the portrait",
        (prompt(), *latent_of("content", side)),
        (
            inversion("content", roles="all and ResNet"),
            Node("bank", "MagicStyleFeatureBank", {"content": features("content")}),
        ),
        knobs=(steps_knob("invert_content"), *size_knobs("content_sized")),
        portrait_latent=Out("content_latent", "LATENT"),
        latent=noise("content"),
    )


def word_paint_block() -> Block:
    """Three prompts, each in its region and with its LoRA, both halves of the guidance alike."""
    words = (
        prompt(REST_WORDS.key, "photo, portrait", "Prompt of the rest"),
        prompt(AGAINST.key, "ugly, blurry, low quality", "Negative prompt"),
    )
    nodes: list[Node] = [Node("masks_image", "MaskToImage", {"mask": Out("regions", "masks")})]
    last: Node | None = None
    for number, kind in enumerate(STYLES):
        nodes += phrase(number)
        inputs: dict[str, Any] = {"positive_NEW": STYLE_WORDS, "negative_NEW": AGAINST, "hooks": hook_of(kind)}
        inputs["mask"] = Out(f"mask_{number}", "MASK")
        if last is not None:
            inputs |= {sign: Out(last.key, sign) for sign in ("positive", "negative")}
        called = "PairConditioningSetProperties" + ("" if last is None else "AndCombine")
        last = Node(f"{kind}_region", called, inputs)
        nodes.append(last)
    rest = {f"{sign}_DEFAULT": words for sign, words in (("positive", REST_WORDS), ("negative", AGAINST))}
    rest |= {sign: Out(f"{STYLES[-1]}_region", sign) for sign in ("positive", "negative")}
    nodes.append(Node(POSITIVE.key, "PairConditioningSetDefaultCombine", rest))
    ddim = Node("ddim", "KSamplerSelect", {"sampler_name": "ddim"})
    guided = sampler(
        positive=POSITIVE,
        negative=Out(POSITIVE.key, "negative"),
        cfg=10.5,
        sampler=Out(ddim.key, "SAMPLER"),
        sigmas=SIGMAS,
        latent_image=noise("content"),
    )
    return block(
        "paint",
        "Paint, each LoRA in its region",
        words,
        tuple(nodes),
        (ddim, guided, decoded()),
        knobs=(
            Knob("cfg", (("sample", "cfg"),)),
            Knob("prompt of the rest", ((REST_WORDS.key, "text"),)),
            Knob("negative prompt", ((AGAINST.key, "text"),)),
        ),
        model=Out("patch", "model"),
        clip=CLIP,
        vae=VAE,
        sigmas=SIGMAS,
        latent=noise("content"),
        style_words=STYLE_WORDS,
        masks=Out("regions", "masks"),
        hooks_1=hook_of("style"),
        hooks_2=hook_of("style_2"),
    )


def found_by_words() -> Node:
    """Where in the portrait the LoRAs paint."""
    inputs = {
        "model": MODEL,
        "clip": CLIP,
        "latent": Out("content_latent", "LATENT"),
        "words": "face, hair, background",
    }
    return Node("regions", "MagicStyleRegionsFromWords", inputs)


WORDS = page_of(
    "trained_loras_by_region",
    NOTE,
    load_checkpoint(),
    (word_train_block(512), word_invert_block(512), found_by_words()),
    work(patch(method="diffstyler", layers="output.4-11", end_percent=0.5), word_paint_block()),
    result(
        IMAGE,
        "magicstyle/trained_loras",
        Node(
            "masks_preview", "MaskPreview", {"mask": Out("regions", "masks")}, title="What was found", size=(420, 260)
        ),
    ),
)

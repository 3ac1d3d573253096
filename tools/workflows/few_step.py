"""Few-step models: LCM, Lightning and their like, with noised pictures in place of inverted ones."""

from __future__ import annotations

from .describe import Block, Knob, Node, Out
from .parts import (
    IMAGE,
    bank,
    block,
    initial,
    inversion,
    latent_of,
    page,
    paint_block,
    patch,
    portrait_and_style,
    result,
    size_knobs,
    work,
)
from .stock import HUB, load_checkpoint, load_lora, prompt

NOTE = """## Portrait in a style, in a few steps

## The portrait takes on the colours and the brush of the style picture. Both are first cropped to 512x512.

1. Choose an **SD1.5 checkpoint**, and in *Load LoRA* the **LCM LoRA** for it: ComfyUI offers
   *latent-consistency/lcm-lora-sdv1-5* (file: *pytorch_lora_weights*).
2. Choose your **Portrait** and a **Style picture**.
3. Press **Run**. You need no prompt.

### What to change first

- *denoise* in *Few-step model*: lower starts nearer to the portrait, higher paints more freely. *steps*: 4 to 8.
- *query_preservation* and *content_weight* in *FFA Model Patcher*: higher keeps more of the portrait.
- *noise_seed* in *Paint*: another picture.

Nothing is inverted: method **noising** adds one fixed noise at each level. A checkpoint with LCM
built in: no *Load LoRA*. **Lightning, Hyper or Turbo**: bypass
*ModelSamplingDiscrete* inside *Few-step model*, and choose *euler* inside *Paint*.
"""
LCM_LORA = f"{HUB}/latent-consistency/lcm-lora-sdv1-5/resolve/main/pytorch_lora_weights.safetensors"
LCM, LEVELS = Out("lcm_model", "MODEL"), Out("schedule", "SIGMAS")


def few_step_model() -> Block:
    """The checkpoint with the LCM LoRA, sampled as LCM models are, and its noise levels."""
    schedule = {"model": LCM, "scheduler": "sgm_uniform", "steps": 8, "denoise": 0.8}
    stack = (
        Node("lcm_model", "ModelSamplingDiscrete", {"model": Out("lora", "MODEL"), "sampling": "lcm"}),
        Node("schedule", "BasicScheduler", schedule),
    )
    knobs = tuple(Knob(name, (("schedule", name),)) for name in ("steps", "denoise"))
    return block("few", "Few-step model", stack, knobs=knobs, model=LCM, sigmas=LEVELS)


def noising_block() -> Block:
    """Both pictures noised to the levels of the few steps."""
    few = {"model": LCM, "sigmas": LEVELS, "method": "noising"}
    return block(
        "invert",
        "Noise both pictures",
        (prompt(), *latent_of("content", 512), *latent_of("style", 512)),
        (inversion("content", **few), inversion("style", **few)),
        (bank(), initial()),
        knobs=size_knobs("content_sized", "style_sized"),
        model=LCM,
        noise_levels=LEVELS,
    )


WORKFLOW = page(
    "few_step_noising",
    NOTE,
    (
        load_checkpoint(),
        load_lora(LCM_LORA, strength_model=1.0),
        few_step_model(),
    ),
    portrait_and_style(),
    work(noising_block(), patch(LCM), paint_block((Knob("noise_seed", (("sample", "noise_seed"),)),), "lcm")),
    result(IMAGE, "magicstyle/few_steps"),
    width=815,
)

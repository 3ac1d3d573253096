"""Few-step models: LCM, Lightning and their like, with noised pictures in place of inverted ones."""

from __future__ import annotations

from .describe import Group, Node, Out, Workflow
from .portrait_stylization import fusion, inversion, inversion_below
from .regions import PORTRAIT, start, styles
from .stock import result

NOTE = """## Few steps, no inversion

For models that paint in 4 to 8 steps. Their trajectories cannot be inverted, and need not be: method **noising** adds
one fixed noise to both pictures at each of the few levels and keeps the features seen there.

1. Choose an **SD1.5 checkpoint**, and in *Load LoRA* the **LCM LoRA** for it (`latent-consistency/lcm-lora-sdv1-5` on
   Hugging Face, saved into `models/loras` under the name in the node).
2. Choose your **portrait** and a **style picture**.
3. Press **Run**.

**What to change first**

- `denoise` in *BasicScheduler*: lower starts nearer to the portrait, higher paints more freely.
- `steps` there: 4 to 8.
- `query_preservation` and `content_weight` in *FFA Model Patcher*: higher keeps more of the portrait.
- `noise_seed` in *SamplerCustom*: `lcm` draws new noise at every step, so another seed is another picture.

A checkpoint with LCM built in: leave *Load LoRA* out. **Lightning, Hyper or Turbo**: also leave *ModelSamplingDiscrete*
out and choose `euler` in *KSamplerSelect*.
"""
LORA = "lcm-lora-sdv1-5.safetensors"


def few_step_model() -> Group:
    """The checkpoint with the LCM LoRA, sampled as LCM models are."""
    lora = {"model": Out("checkpoint", "MODEL"), "lora_name": LORA, "strength_model": 1.0}
    stack = (
        Node("lora", "LoraLoaderModelOnly", lora),
        Node("lcm_model", "ModelSamplingDiscrete", {"model": Out("lora", "MODEL"), "sampling": "lcm"}),
        Node(
            "schedule",
            "BasicScheduler",
            {"model": Out("lcm_model", "MODEL"), "scheduler": "sgm_uniform", "steps": 8, "denoise": 0.8},
        ),
    )
    return Group("Few-step model and its noise levels", (stack,))


def noised(kind: str, title: str) -> Node:
    """One of the two pictures noised to the levels of the few steps."""
    node = inversion(kind, title)
    few = {"model": Out("lcm_model", "MODEL"), "sigmas": Out("schedule", "SIGMAS"), "method": "noising"}
    return Node(node.key, node.type, {**node.inputs, **few})


def few_step_fusion() -> Group:
    """Bank, initial latent, and the few-step model patched."""
    group = fusion()
    nodes = (
        Node(node.key, node.type, {**node.inputs, "model": Out("lcm_model", "MODEL")}) if node.key == "patch" else node
        for node in group.stacks[0]
    )
    return Group(group.title, (tuple(nodes),), group.color)


def sampling() -> Group:
    """The LCM sampler from the noised portrait; what noise it needs in between it adds itself."""
    inputs = {
        "model": Out("patch", "model"),
        "add_noise": False,
        "noise_seed": 0,
        "cfg": 1.0,
        "positive": Out("prompt", "CONDITIONING"),
        "negative": Out("prompt", "CONDITIONING"),
        "sampler": Out("lcm", "SAMPLER"),
        "sigmas": Out("invert_content", "sigmas"),
        "latent_image": Out("initial", "latent"),
    }
    sampler = Node("lcm", "KSamplerSelect", {"sampler_name": "lcm"})
    return Group("Sampling", ((sampler, Node("sample", "SamplerCustom", inputs)),))


WORKFLOW = Workflow(
    "few_step_noising",
    (
        (*start(NOTE), few_step_model()),
        inversion_below(PORTRAIT, noised("content", "Content"), "Phase 1: the portrait, noised"),
        inversion_below(*styles("style"), noised("style", "Style"), "Phase 1: the style, noised"),
        (few_step_fusion(),),
        (sampling(), result(Out("sample", "output"), "magicstyle/few_steps")),
    ),
)

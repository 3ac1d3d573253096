"""One pair of the published comparison: a description with the pair's names and a method's settings put in.

Not one of the files in workflows/: `benchmarks.published.host` makes it anew for every pair and posts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .describe import Group, Node, Out, Workflow

LAYERS = "output.6-11"


class Loaded(NamedTuple):
    """The nodes that bring the model, and their outputs."""

    nodes: tuple[Node, ...]
    model: Out
    vae: Out
    conditioning: Out


def loaded(checkpoint: str | None) -> Loaded:
    """A checkpoint by its name on the server with an empty prompt, or the demo model."""
    if checkpoint is None:
        demo = Node("demo", "MagicStyleDemoModel")
        return Loaded((demo,), Out("demo", "model"), Out("demo", "vae"), Out("demo", "conditioning"))
    file = Node("checkpoint", "CheckpointLoaderSimple", {"ckpt_name": checkpoint})
    prompt = Node("prompt", "CLIPTextEncode", {"text": "", "clip": Out("checkpoint", "CLIP")})
    vae, model = Out("checkpoint", "VAE"), Out("checkpoint", "MODEL")
    return Loaded((file, prompt), model, vae, Out("prompt", "CONDITIONING"))


def inverted(kind: str, source: Loaded, picture: str, steps: int) -> tuple[Node, ...]:
    """A picture from the server's input folder to its noise and features, at the size that it has."""
    inputs = {
        "model": source.model,
        "latent": Out(f"encode_{kind}", "LATENT"),
        "conditioning": source.conditioning,
        "steps": steps,
        "layers": LAYERS,
        "storage": "features",
    }
    return (
        Node(f"load_{kind}", "LoadImage", {"image": picture}),
        Node(f"encode_{kind}", "VAEEncode", {"pixels": Out(f"load_{kind}", "IMAGE"), "vae": source.vae}),
        Node(f"invert_{kind}", f"MagicStyleInvert{kind.capitalize()}", inputs),
    )


def fusion(source: Loaded, settings: Mapping[str, Any]) -> tuple[Node, ...]:
    """The bank, the patched model and the initial latent."""
    bank = {"content": Out("invert_content", "features"), "style": Out("invert_style", "features")}
    noises = {"content": Out("invert_content", "noise"), "style": Out("invert_style", "noise")}
    patch = {"model": source.model, "bank": Out("bank", "bank"), "layers": LAYERS, **settings}
    return (
        Node("bank", "MagicStyleFeatureBank", bank),
        Node("patch", "MagicStylePatchFFA", patch),
        Node("initial", "MagicStyleInitialLatent", noises),
    )


def sampled(source: Loaded, name: str) -> tuple[Node, ...]:
    """DDIM from the initial latent to a saved picture."""
    inputs = {
        "model": Out("patch", "model"),
        "add_noise": False,
        "noise_seed": 0,
        "cfg": 1.0,
        "positive": source.conditioning,
        "negative": source.conditioning,
        "sampler": Out("ddim", "SAMPLER"),
        "sigmas": Out("invert_content", "sigmas"),
        "latent_image": Out("initial", "latent"),
    }
    return (
        Node("ddim", "KSamplerSelect", {"sampler_name": "ddim"}),
        Node("sample", "SamplerCustom", inputs),
        Node("decode", "VAEDecode", {"samples": Out("sample", "output"), "vae": source.vae}),
        Node("save", "SaveImage", {"images": Out("decode", "IMAGE"), "filename_prefix": name}),
    )


def pair(
    checkpoint: str | None, content: str, style: str, settings: Mapping[str, Any], *, steps: int, name: str
) -> Workflow:
    """The graph of one pair; pictures by their names in the server's input folder."""
    source = loaded(checkpoint)
    groups = (
        Group("Model", (source.nodes,)),
        Group("Content", (inverted("content", source, content, steps),)),
        Group("Style", (inverted("style", source, style, steps),)),
        Group("Fusion", (fusion(source, settings),)),
        Group("Sampling", (sampled(source, name),)),
    )
    return Workflow("published_pair", tuple((group,) for group in groups))

"""The whole method with what ships in the pack: no checkpoint, no picture, no graphics card."""

from __future__ import annotations

from .describe import Group, Node, Note, Out, Workflow
from .portrait_stylization import inversion_below

NOTE = """## Try it without any download

Press **Run**: the demo model and its two pictures come with the pack. It takes well under a minute on a CPU.

*Load Demo Model* knows **drawn portraits of 256x256 pixels** and nothing else; for photographs open
*portrait_stylization* with an SD1.5 checkpoint.

**What to change first** (in *FFA Model Patcher*)

- The face is lost: raise `query_preservation`, or raise `content_weight` (0.1 is its default).
- Too little style: lower `query_preservation`.
- `method`: compare *ffa* with *styleid* and *masactrl*.

*Reconstruction* shows what inversion and sampling alone keep of the portrait, without any style.
"""


def encoded(kind: str) -> Node:
    """One of the two shipped pictures as a latent."""
    return Node(f"{kind}_latent", "VAEEncode", {"pixels": Out("demo", kind), "vae": Out("demo", "vae")})


def shown(kind: str, title: str) -> Node:
    """One of the two shipped pictures."""
    return Node(f"{kind}_shown", "PreviewImage", {"images": Out("demo", kind)}, title=title, size=(320, 340))


def inversion(kind: str, title: str) -> Node:
    """The inversion of one of the two pictures."""
    inputs = {
        "model": Out("demo", "model"),
        "latent": Out(f"{kind}_latent", "LATENT"),
        "conditioning": Out("demo", "conditioning"),
    }
    return Node(f"invert_{kind}", f"MagicStyleInvert{title}", inputs)


def lane(kind: str, name: str, title: str) -> tuple[Group, Group]:
    """One of the two pictures and its inversion."""
    pictures = Group(title, ((shown(kind, name), encoded(kind)),))
    return inversion_below(pictures, inversion(kind, name), f"Phase 1: {kind} inversion")


def fusion() -> Group:
    """Bank, patched model and initial latent."""
    bank = {"content": Out("invert_content", "features"), "style": Out("invert_style", "features")}
    # strong: the style's technique, not only its colours
    patch = {"model": Out("demo", "model"), "bank": Out("bank", "bank"), "content_weight": 0.0}
    noises = {"content": Out("invert_content", "noise"), "style": Out("invert_style", "noise")}
    stack = (
        Node("bank", "MagicStyleFeatureBank", bank),
        Node("patch", "MagicStylePatchFFA", patch),
        Node("initial", "MagicStyleInitialLatent", noises),
    )
    return Group("Phase 2: feature fusion", (stack,), color="#a1309b")


def sampler(key: str, model: Out, latent: Out, title: str) -> Node:
    """Plain DDIM from inverted noise: nothing added, no guidance, the inversion's own noise levels."""
    inputs = {
        "model": model,
        "add_noise": False,
        "noise_seed": 0,
        "cfg": 1.0,
        "positive": Out("demo", "conditioning"),
        "negative": Out("demo", "conditioning"),
        "sampler": Out("ddim", "SAMPLER"),
        "sigmas": Out("invert_content", "sigmas"),
        "latent_image": latent,
    }
    return Node(key, "SamplerCustom", inputs, title=title)


def decoded(key: str, samples: str) -> Node:
    """The picture of a sampled latent."""
    return Node(key, "VAEDecode", {"samples": Out(samples, "output"), "vae": Out("demo", "vae")})


WORKFLOW = Workflow(
    "demo_no_download",
    (
        (
            Group("Start here", ((Note("note", NOTE),),), color="#b08d45"),
            Group("Model and pictures", ((Node("demo", "MagicStyleDemoModel"),),)),
        ),
        lane("content", "Content", "Content: the portrait"),
        lane("style", "Style", "Style: the picture to paint like"),
        (fusion(),),
        (
            Group(
                "Sampling",
                (
                    (
                        Node("ddim", "KSamplerSelect", {"sampler_name": "ddim"}),
                        sampler("sample", Out("patch", "model"), Out("initial", "latent"), "Sample with fusion"),
                        sampler("plain", Out("demo", "model"), Out("invert_content", "noise"), "Sample without fusion"),
                    ),
                ),
            ),
        ),
        (
            Group(
                "Result",
                (
                    (
                        decoded("decode", "sample"),
                        Node(
                            "save",
                            "SaveImage",
                            {"images": Out("decode", "IMAGE"), "filename_prefix": "magicstyle/demo"},
                        ),
                    ),
                ),
                color="#8a8",
            ),
            Group(
                "Reconstruction",
                (
                    (
                        decoded("decode_plain", "plain"),
                        Node(
                            "preview",
                            "PreviewImage",
                            {"images": Out("decode_plain", "IMAGE")},
                            title="Reconstruction",
                            size=(320, 340),
                        ),
                    ),
                ),
            ),
        ),
    ),
)

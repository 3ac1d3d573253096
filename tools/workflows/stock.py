"""Descriptions of stock nodes that many workflows share."""

from __future__ import annotations

from .describe import Group, Node, Out

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
ARCHIVE = "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main"


def load_checkpoint(key: str = "checkpoint") -> Node:
    """The SD1.5 checkpoint, with the address from which the frontend offers to fetch it."""
    model = {"name": CHECKPOINT, "url": f"{ARCHIVE}/{CHECKPOINT}", "directory": "checkpoints"}
    return Node(key, "CheckpointLoaderSimple", {"ckpt_name": CHECKPOINT}, models=(model,))


def prompt(key: str = "prompt", text: str = "", title: str = "Empty prompt") -> Node:
    """A text for the checkpoint's own encoder."""
    return Node(key, "CLIPTextEncode", {"text": text, "clip": Out("checkpoint", "CLIP")}, title=title)


def picture(key: str, title: str, image: str, width: int = 512, height: int = 512) -> Group:
    """Load a picture, bring it to the working size, encode it; its nodes are `key`, `key`_sized, `key`_latent."""
    load = Node(key, "LoadImage", {"image": image})
    sized = Node(
        f"{key}_sized",
        "ImageScale",
        {
            "image": Out(key, "IMAGE"),
            "upscale_method": "lanczos",
            "width": width,
            "height": height,
            "crop": "center",
        },
    )
    pixels = {"pixels": Out(sized.key, "IMAGE"), "vae": Out("checkpoint", "VAE")}
    return Group(title, ((load, sized, Node(f"{key}_latent", "VAEEncode", pixels)),))


def result(samples: Out, prefix: str) -> Group:
    """Decode and save."""
    decode = Node("decode", "VAEDecode", {"samples": samples, "vae": Out("checkpoint", "VAE")})
    save = Node("save", "SaveImage", {"images": Out("decode", "IMAGE"), "filename_prefix": prefix})
    return Group("Result", ((decode, save),), color="#8a8")

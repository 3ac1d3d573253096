"""Descriptions of stock nodes that many workflows share."""

from __future__ import annotations

from .describe import Group, Node, Out

HUB = "https://huggingface.co"
SD15 = f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors"
SD15_INPAINTING = f"{HUB}/webui/stable-diffusion-inpainting/resolve/main/sd-v1-5-inpainting.safetensors"
SDXL = f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors"


def file_name(url: str) -> str:
    """The name under which a downloaded model lies in its folder."""
    return url.rpartition("/")[2]


def download(url: str, directory: str) -> tuple[dict[str, str]]:
    """The address from which the frontend offers to fetch a loader's model, and the folder it goes to."""
    return ({"name": file_name(url), "url": url, "directory": directory},)


def load_checkpoint(key: str = "checkpoint", url: str = SD15) -> Node:
    """A public checkpoint."""
    inputs = {"ckpt_name": file_name(url)}
    return Node(key, "CheckpointLoaderSimple", inputs, models=download(url, "checkpoints"))


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

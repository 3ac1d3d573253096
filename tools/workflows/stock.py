"""Descriptions of stock nodes that many workflows share."""

from __future__ import annotations

from .describe import Node, Out

HUB = "https://huggingface.co"
SD15 = f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors"
SD15_INPAINTING = f"{HUB}/webui/stable-diffusion-inpainting/resolve/main/sd-v1-5-inpainting.safetensors"
SDXL = f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors"
LORA = (  # pixel art; its trigger is PixArFK
    f"{HUB}/artificialguybr/pixelartredmond-1-5v-pixel-art-loras-for-sd-1-5/resolve/main/"
    "PixelArtRedmond15V-PixelArt-PIXARFK.safetensors"
)
# the pack lays them into ComfyUI's input folder: a workflow opens without a missing file, and Run shows what it does
PICTURES = {
    "content": "magicstyle_portrait.jpg",
    "style": "magicstyle_style.jpg",
    "style_2": "magicstyle_style_2.jpg",
}
MODEL, CLIP, VAE = (Out("checkpoint", output) for output in ("MODEL", "CLIP", "VAE"))


def file_name(url: str) -> str:
    """The name under which a downloaded model lies in its folder."""
    return url.rpartition("/")[2]


def download(url: str, directory: str) -> tuple[dict[str, str]]:
    """The address from which the frontend offers to fetch a loader's model, and the folder it goes to."""
    return ({"name": file_name(url), "url": url, "directory": directory},)


def load_checkpoint(url: str = SD15) -> Node:
    """A public checkpoint."""
    inputs = {"ckpt_name": file_name(url)}
    return Node("checkpoint", "CheckpointLoaderSimple", inputs, models=download(url, "checkpoints"))


def load_lora(url: str, **settings: float) -> Node:
    """A public LoRA on the checkpoint's model."""
    inputs = {"model": MODEL, "lora_name": file_name(url), **settings}
    return Node("lora", "LoraLoaderModelOnly", inputs, models=download(url, "loras"))


def prompt(key: str = "prompt", text: str = "", title: str = "Empty prompt") -> Node:
    """A text for the checkpoint's own encoder."""
    return Node(key, "CLIPTextEncode", {"text": text, "clip": CLIP}, title=title, size=(300, 130))


def load_picture(key: str, title: str) -> Node:
    """A picture of the user's."""
    return Node(key, "LoadImage", {"image": PICTURES[key]}, title=title)


def sized(key: str, image: Out, side: int, method: str = "lanczos") -> Node:
    """An image at the working size."""
    inputs = {"image": image, "upscale_method": method, "width": side, "height": side, "crop": "center"}
    return Node(key, "ImageScale", inputs)


def largest(key: str, image: Out, side: int) -> Node:
    """An image whose longer side has a size, its aspect kept."""
    inputs = {"image": image, "upscale_method": "lanczos", "largest_size": side}
    return Node(key, "ImageScaleToMaxDimension", inputs)


def encoded(key: str, image: Out, vae: Out = VAE) -> Node:
    """An image as a latent."""
    return Node(key, "VAEEncode", {"pixels": image, "vae": vae})


def save(image: Out, prefix: str) -> Node:
    """The result, in the output folder."""
    return Node("save", "SaveImage", {"images": image, "filename_prefix": prefix}, title="Result")

"""The files that a workflow names, as a user would have put them there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from magicstyle.tests import photographs
from magicstyle.tests.host.server import Server
from magicstyle.tests.tiny_transformer import FILES
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.graphs import Graph
from magicstyle.tools.workflows.stock import PICTURES
from PIL import Image

STYLE_LIBRARY = "style_library_save"
# the kind of checkpoint that lies under a public name; SD1.5 under all others
VARIANTS = {"sd_xl_base_1.0.safetensors": "sdxl_complete", "sd-v1-5-inpainting.safetensors": "inpainting"}


# workflows that name a file which has no small size: a text encoder, or the model itself
TOO_LARGE = {
    *("flux_portrait", "qwen_image_portrait", "z_image_portrait"),
    *("krea2_portrait", "krea2_turbo_noising", "anima_portrait", "krea2_style_and_prompt", "wan_film"),
}
# workflows that an older ComfyUI opens and does not run
SINCE = {"demo_transformer": (0, 5, 0), "demo_transformer_variation": (0, 5, 0)}
# the first ComfyUI known to read the width of Flux.1 off its file
WIDTHS_READ = (0, 33, 0)
# the folders of a transformer's parts, by loader and input
PARTS = {
    ("UNETLoader", "unet_name"): "diffusion_models",
    ("CLIPLoader", "clip_name"): "text_encoders",
    ("DualCLIPLoader", "clip_name1"): "text_encoders",
    ("DualCLIPLoader", "clip_name2"): "text_encoders",
    ("VAELoader", "vae_name"): "vae",
}


def painted(image: np.ndarray) -> np.ndarray:
    """The picture as the mask editor saves it, its left half painted."""
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:, : image.shape[1] // 2] = 0
    return np.concatenate([image, alpha], axis=2)


def save_a_style(server: Server) -> None:
    """What a user does before loading a style: run the workflow that saves one."""
    graph = graphs.substituted(graphs.with_pictures(STYLE_LIBRARY), width=128, height=128, steps=4)
    provide(server, graph, (128, 128))
    server.run(graph)


def fill(folder: Path, size: tuple[int, int]) -> None:
    """A folder of two portraits."""
    folder.mkdir(exist_ok=True)
    for name, paint in zip(graphs.FOLDER_OF_PORTRAITS, (photographs.portrait, photographs.style), strict=True):
        Image.fromarray(paint(size)).save(folder / name)


def provide(server: Server, graph: Graph, size: tuple[int, int], *, saved_style: bool = True) -> None:
    """Checkpoints, pictures, LoRAs, ControlNets and saved banks under the names that the graph has for them."""
    for checkpoint in graphs.literals(graph, "CheckpointLoaderSimple", "ckpt_name"):
        if checkpoint in FILES:
            server.add_stand_in("checkpoints", checkpoint)
        else:
            server.add_checkpoint(checkpoint, VARIANTS.get(checkpoint, "full"))
    for (loader, name), folder in PARTS.items():
        for part in graphs.literals(graph, loader, name):
            server.add_stand_in(folder, part)
    for picture in graphs.literals(graph, "LoadImage", "image") - {*PICTURES.values()}:  # which the pack brings
        image = (photographs.style if "style" in picture else photographs.portrait)(size)
        server.upload(picture, painted(image) if picture.startswith(graphs.PAINTED) else image)
    for folder in graphs.literals(graph, "MagicStyleLoadPortraits", "folder"):
        fill(server.folder / "input" / folder, size)
    for lora in graphs.literals(graph, "LoraLoaderModelOnly", "lora_name"):
        server.add_lora(lora)
    for control_net in graphs.literals(graph, "ControlNetLoader", "control_net_name"):
        server.add_control_net(control_net)
    if saved_style and graphs.literals(graph, "MagicStyleLoadFeatureBank", "bank_name"):
        save_a_style(server)


def runs(server: Server, name: str) -> bool:
    """Whether this ComfyUI is new enough for a workflow's model."""
    return server.version >= SINCE.get(name, ())


def unknown_encoders(server: Server, graph: Graph) -> set[str]:
    """The kinds of text encoders that a workflow names and an older ComfyUI does not offer."""
    kinds, *options = server.object_info()["CLIPLoader"]["input"]["required"]["type"]
    known = kinds if isinstance(kinds, list) else options[0]["options"]
    return {*graphs.literals(graph, "CLIPLoader", "type")} - {*known}


def loads(server: Server, name: str) -> bool:
    """Whether this ComfyUI can load stand-ins of a workflow's files; of Flux's two text encoders one."""
    return name not in TOO_LARGE or (name == "flux_portrait" and server.version >= WIDTHS_READ)

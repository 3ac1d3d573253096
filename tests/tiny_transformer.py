"""Small files that ComfyUI's loaders take for flow-matching transformers: random networks, hand-made autoencoders.

SD3.5 and Wan load at this size on every supported ComfyUI, Flux.1 on those that read its width off the file. For others
the host takes the widths of the full model for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from magicstyle.tests.tiny_checkpoint import (
    HALF,
    Autoencoder,
    Entry,
    Pool,
    fill,
    linear,
    norm,
    prefixed,
    save_safetensors,
    text_encoder,
    zeros,
)
from torch import Tensor

Weights = dict[str, Tensor]
HEAD = 64  # of SD3
WIDTH = 128  # channels: two heads of SD3, one of Flux
CLIP, TEXT, POOLED = 768, 4096, 2048  # channels: of CLIP-L, and of what SD3's three encoders give together
CHANNELS, PATCH = 16, 2  # of a latent
GRID = 24  # tokens across: SD3 has a table of positions
TIME = 256
SD3_SCALE, FLUX_SCALE = 1.5305, 0.3611  # of latents


def two_layers(name: str, wide: int, narrow: int, places: tuple[str, str]) -> Iterator[Entry]:
    """Two linear layers, the first from `narrow`."""
    yield from linear(f"{name}.{places[0]}", wide, narrow)
    yield from linear(f"{name}.{places[1]}", wide, wide)


def perceptron(name: str, places: tuple[str, str]) -> Iterator[Entry]:
    """Up to four times the width and back."""
    yield from linear(f"{name}.{places[0]}", 4 * WIDTH, WIDTH)
    yield from linear(f"{name}.{places[1]}", WIDTH, 4 * WIDTH)


def sd3_attention(name: str, *, last: bool = False) -> Iterator[Entry]:
    """Queries, keys and values, normalised a head; the text's last attention answers nobody."""
    yield from linear(f"{name}.qkv", 3 * WIDTH, WIDTH)
    for role in "qk":
        yield f"{name}.ln_{role}.weight", (HEAD,)
    if not last:
        yield from linear(f"{name}.proj", WIDTH, WIDTH)


def sd3_stream(name: str, *, last: bool = False, twice: bool = False) -> Iterator[Entry]:
    """The text's or the picture's half of a block; SD3.5's first blocks attend twice."""
    yield from sd3_attention(f"{name}.attn", last=last)
    if twice:
        yield from sd3_attention(f"{name}.attn2")
    if not last:
        yield from perceptron(f"{name}.mlp", ("fc1", "fc2"))
    yield from linear(f"{name}.adaLN_modulation.1", (2 if last else 9 if twice else 6) * WIDTH, WIDTH)


def sd35(depth: int = WIDTH // HEAD) -> Iterator[Entry]:
    """All weights of the network, which has as many blocks as heads."""
    yield "x_embedder.proj.weight", (WIDTH, CHANNELS, PATCH, PATCH)
    yield "x_embedder.proj.bias", (WIDTH,)
    yield "pos_embed", (1, GRID * GRID, WIDTH)
    yield from linear("context_embedder", WIDTH, TEXT)
    for name, width in (("t_embedder", TIME), ("y_embedder", POOLED)):
        yield from two_layers(f"{name}.mlp", WIDTH, width, ("0", "2"))
    for i in range(depth):
        yield from sd3_stream(f"joint_blocks.{i}.context_block", last=i == depth - 1)
        yield from sd3_stream(f"joint_blocks.{i}.x_block", twice=i == 0)
    yield from linear("final_layer.linear", CHANNELS * PATCH * PATCH, WIDTH)
    yield from linear("final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)


def flux_norm(name: str) -> Iterator[Entry]:
    """The norms of queries and keys."""
    for role in ("query", "key"):
        yield f"{name}.{role}_norm.scale", (WIDTH,)


def flux_double(name: str) -> Iterator[Entry]:
    """A block with picture and text in streams of their own."""
    for stream in ("img", "txt"):
        yield from linear(f"{name}.{stream}_mod.lin", 6 * WIDTH, WIDTH)
        yield from linear(f"{name}.{stream}_attn.qkv", 3 * WIDTH, WIDTH)
        yield from flux_norm(f"{name}.{stream}_attn.norm")
        yield from linear(f"{name}.{stream}_attn.proj", WIDTH, WIDTH)
        yield from perceptron(f"{name}.{stream}_mlp", ("0", "2"))


def flux_single(name: str) -> Iterator[Entry]:
    """A block with both in one stream."""
    yield from linear(f"{name}.linear1", 7 * WIDTH, WIDTH)
    yield from linear(f"{name}.linear2", WIDTH, 5 * WIDTH)
    yield from flux_norm(f"{name}.norm")
    yield from linear(f"{name}.modulation.lin", 3 * WIDTH, WIDTH)


def flux(double: int = 2, single: int = 3) -> Iterator[Entry]:
    """All weights of the network, distilled: it takes its guidance as an input. Its text is CLIP-L's."""
    yield from linear("img_in", WIDTH, CHANNELS * PATCH * PATCH)
    yield from linear("txt_in", WIDTH, CLIP)
    for name, width in (("time_in", TIME), ("guidance_in", TIME), ("vector_in", CLIP)):
        yield from two_layers(name, WIDTH, width, ("in_layer", "out_layer"))
    for i in range(double):
        yield from flux_double(f"double_blocks.{i}")
    for i in range(single):
        yield from flux_single(f"single_blocks.{i}")
    yield from linear("final_layer.linear", CHANNELS * PATCH * PATCH, WIDTH)
    yield from linear("final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)


def wan_attention(name: str) -> Iterator[Entry]:
    """Queries, keys, values and what comes out, a width each."""
    for part in "qkvo":
        yield from linear(f"{name}.{part}", WIDTH, WIDTH)
    for role in "qk":
        yield f"{name}.norm_{role}.weight", (WIDTH,)


def wan(depth: int = 2) -> Iterator[Entry]:
    """All weights of the network for films from text."""
    yield "patch_embedding.weight", (WIDTH, CHANNELS, 1, PATCH, PATCH)
    yield "patch_embedding.bias", (WIDTH,)
    for name, width in (("text_embedding", TEXT), ("time_embedding", TIME)):
        yield from two_layers(name, WIDTH, width, ("0", "2"))
    yield from linear("time_projection.1", 6 * WIDTH, WIDTH)
    for i in range(depth):
        yield f"blocks.{i}.modulation", (1, 6, WIDTH)
        yield from wan_attention(f"blocks.{i}.self_attn")
        yield from wan_attention(f"blocks.{i}.cross_attn")
        yield from norm(f"blocks.{i}.norm3", WIDTH)
        yield from perceptron(f"blocks.{i}.ffn", ("0", "2"))
    yield from linear("head.head", CHANNELS * PATCH * PATCH, WIDTH)
    yield "head.modulation", (1, 2, WIDTH)


def random(entries: Iterator[Entry]) -> Weights:
    """A network whose prediction is small, so that trajectories are smooth."""
    return fill(entries, Pool(0), eps_gain=0.25)


def sd35_checkpoint() -> Weights:
    """Network, the smallest of its text encoders, autoencoder."""
    return {
        **prefixed("model.diffusion_model.", random(sd35())),
        **prefixed("text_encoders.clip_l.transformer.", zeros(text_encoder())),
        **prefixed("first_stage_model.", Autoencoder(SD3_SCALE, CHANNELS).build()),
    }


def nothing() -> Weights:
    """Of a file that stands for one which no test can load."""
    return {"nothing": torch.zeros(1, dtype=HALF)}


# by the public name of the file that each stands for
FILES: dict[str, Callable[[], Weights]] = {
    "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors": sd35_checkpoint,
    "flux1-dev.safetensors": lambda: random(flux()),
    "wan2.1_t2v_1.3B_fp16.safetensors": lambda: random(wan()),
    "clip_l.safetensors": lambda: zeros(text_encoder()),
    "ae.safetensors": lambda: Autoencoder(FLUX_SCALE, CHANNELS).build(),
}


def save_stand_in(path: Path) -> None:
    """What stands for the public file of this name, or a file that is only there."""
    save_safetensors(path, FILES.get(path.name, nothing)())

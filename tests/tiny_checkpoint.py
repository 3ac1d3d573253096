"""Small checkpoint files that ComfyUI's loaders take for Stable Diffusion: random networks, hand-made autoencoder.

    python tests/tiny_checkpoint.py OUT.ckpt [variant]

A .ckpt stays near 1 MB whatever the variant: torch.save keeps one copy of each storage, so every weight is an
overlapping strided view of a few small random pools. A .safetensors file has no views and holds every element, about
475 MB for full; zeros are holes in it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

WIDTH = 320  # the host knows Stable Diffusion by this width
HALF = torch.float16
Shape = tuple[int, ...]
Entry = tuple[str, Shape]


class Variant(NamedTuple):
    """What the host's model detection reads off a UNet's weights, per level from fine to coarse."""

    widths: tuple[int, ...]  # in multiples of WIDTH
    res_blocks: int
    depths: tuple[int, ...]  # transformer blocks per attention layer
    middle_depth: int  # 0: the middle is one residual block
    context: int = 768
    linear: bool = False
    vector: int | None = None  # width of SDXL's pooled conditioning
    inputs: int = 4  # channels: an inpainting model takes a mask and the masked picture beside the latent
    encoders: tuple[str, ...] = ()  # names of the text encoders, which come with an autoencoder
    scale: float = 0.18215  # of latents


L, G = "cond_stage_model.transformer.", "conditioner.embedders.1.model."
L_OF_SDXL = "conditioner.embedders.0.transformer."
FULL = Variant((1, 1, 1, 1), 2, (1, 1, 1, 0), 1, encoders=(L,))
VEGA = Variant((1, 1, 1), 2, (0, 1, 2), 0, 2048, True, 2816)
VARIANTS = {
    "min": Variant((1,), 1, (1,), 1, encoders=(L,)),
    "full": FULL,  # the block numbers of SD1.5, narrow throughout
    "real": FULL._replace(widths=(1, 2, 4, 4)),  # the shapes of SD1.5
    "inpainting": FULL._replace(inputs=9),
    "sd2": Variant((1, 1, 1, 1), 2, (1, 1, 1, 0), 1, 1024, True),
    "vega": VEGA,
    "sdxl": VEGA._replace(depths=(0, 2, 10), middle_depth=10),
    "real_sdxl": VEGA._replace(widths=(1, 2, 4), depths=(0, 2, 10), middle_depth=10),  # the shapes of SDXL
    # SDXL's host class, two text encoders and autoencoder, around the smallest UNet of the family
    "sdxl_complete": VEGA._replace(encoders=(L_OF_SDXL, G), scale=0.13025),
}


def linear(name: str, wide: int, narrow: int, *, bias: bool = True) -> Iterator[Entry]:
    """A linear layer from narrow to wide features."""
    yield f"{name}.weight", (wide, narrow)
    if bias:
        yield f"{name}.bias", (wide,)


def conv(name: str, wide: int, narrow: int, kernel: int = 3) -> Iterator[Entry]:
    """A convolution from narrow to wide channels."""
    yield f"{name}.weight", (wide, narrow, kernel, kernel)
    yield f"{name}.bias", (wide,)


def norm(name: str, channels: int) -> Iterator[Entry]:
    """A normalisation's scale and shift."""
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)


def res_block(name: str, before: int, after: int) -> Iterator[Entry]:
    """A residual block with its time embedding."""
    yield from norm(f"{name}.in_layers.0", before)
    yield from conv(f"{name}.in_layers.2", after, before)
    yield from linear(f"{name}.emb_layers.1", after, 4 * WIDTH)
    yield from norm(f"{name}.out_layers.0", after)
    yield from conv(f"{name}.out_layers.3", after, after)
    if before != after:
        yield from conv(f"{name}.skip_connection", after, before, 1)


def transformer_block(name: str, channels: int, context: int) -> Iterator[Entry]:
    """Self-attention, cross-attention and feed-forward."""
    for attention, keys in (("attn1", channels), ("attn2", context)):
        yield from linear(f"{name}.{attention}.to_q", channels, channels, bias=False)
        yield from linear(f"{name}.{attention}.to_k", channels, keys, bias=False)
        yield from linear(f"{name}.{attention}.to_v", channels, keys, bias=False)
        yield from linear(f"{name}.{attention}.to_out.0", channels, channels)
    yield from linear(f"{name}.ff.net.0.proj", 8 * channels, channels)
    yield from linear(f"{name}.ff.net.2", channels, 4 * channels)
    for i in (1, 2, 3):
        yield from norm(f"{name}.norm{i}", channels)


def transformer(name: str, channels: int, depth: int, variant: Variant) -> Iterator[Entry]:
    """An attention layer: projections around `depth` transformer blocks."""
    yield from norm(f"{name}.norm", channels)
    for projection in ("proj_in", "proj_out"):
        if variant.linear:
            yield from linear(f"{name}.{projection}", channels, channels)
        else:
            yield from conv(f"{name}.{projection}", channels, channels, 1)
    for i in range(depth):
        yield from transformer_block(f"{name}.transformer_blocks.{i}", channels, variant.context)


def embeddings(variant: Variant) -> Iterator[Entry]:
    """The time embedding and, for SDXL, the pooled conditioning's."""
    yield from linear("time_embed.0", 4 * WIDTH, WIDTH)
    yield from linear("time_embed.2", 4 * WIDTH, 4 * WIDTH)
    if variant.vector is not None:
        yield from linear("label_emb.0.0", 4 * WIDTH, variant.vector)
        yield from linear("label_emb.0.2", 4 * WIDTH, 4 * WIDTH)


def encoder(variant: Variant, skips: list[int]) -> Iterator[Entry]:
    """The way down; appends the channels of each skip connection to `skips`."""
    yield from conv("input_blocks.0.0", WIDTH, variant.inputs)
    skips.append(WIDTH)
    for level, (multiple, depth) in enumerate(zip(variant.widths, variant.depths, strict=True)):
        if level > 0:
            yield from conv(f"input_blocks.{len(skips)}.0.op", skips[-1], skips[-1])
            skips.append(skips[-1])
        for _ in range(variant.res_blocks):
            number, channels = len(skips), multiple * WIDTH
            yield from res_block(f"input_blocks.{number}.0", skips[-1], channels)
            if depth:
                yield from transformer(f"input_blocks.{number}.1", channels, depth, variant)
            skips.append(channels)


def middle(variant: Variant, channels: int) -> Iterator[Entry]:
    """The block at the coarsest grid."""
    yield from res_block("middle_block.0", channels, channels)
    if variant.middle_depth:
        yield from transformer("middle_block.1", channels, variant.middle_depth, variant)
        yield from res_block("middle_block.2", channels, channels)


def decoder(variant: Variant, skips: list[int]) -> Iterator[Entry]:
    """The way up; consumes `skips` from the end."""
    channels, number = skips[-1], 0
    for level in reversed(range(len(variant.widths))):
        for i in range(variant.res_blocks + 1):
            name, width = f"output_blocks.{number}", variant.widths[level] * WIDTH
            yield from res_block(f"{name}.0", channels + skips.pop(), width)
            channels, depth = width, variant.depths[level]
            if depth:
                yield from transformer(f"{name}.1", channels, depth, variant)
            if level > 0 and i == variant.res_blocks:
                yield from conv(f"{name}.{2 if depth else 1}.conv", channels, channels)
            number += 1
    yield from norm("out.0", channels)
    yield from conv("out.2", 4, channels)


def unet(variant: Variant) -> Iterator[Entry]:
    """All weights of the denoising network."""
    skips: list[int] = []
    yield from embeddings(variant)
    yield from encoder(variant, skips)
    yield from middle(variant, skips[-1])
    yield from decoder(variant, skips)


def text_encoder(width: int = 768, layers: int = 12, vocabulary: int = 49408, positions: int = 77) -> Iterator[Entry]:
    """All weights of CLIP-L, whose size the host never reads off the file."""
    yield "text_model.embeddings.token_embedding.weight", (vocabulary, width)
    yield "text_model.embeddings.position_embedding.weight", (positions, width)
    for i in range(layers):
        name = f"text_model.encoder.layers.{i}"
        yield from norm(f"{name}.layer_norm1", width)
        yield from norm(f"{name}.layer_norm2", width)
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{name}.self_attn.{projection}", width, width)
        yield from linear(f"{name}.mlp.fc1", 4 * width, width)
        yield from linear(f"{name}.mlp.fc2", width, 4 * width)
    yield from norm("text_model.final_layer_norm", width)


def large_text_encoder(width: int = 1280, layers: int = 32) -> Iterator[Entry]:
    """All weights of CLIP-G under the names of SDXL's files."""
    yield "token_embedding.weight", (49408, width)
    yield "positional_embedding", (77, width)
    for i in range(layers):
        name = f"transformer.resblocks.{i}"
        yield from norm(f"{name}.ln_1", width)
        yield from norm(f"{name}.ln_2", width)
        yield f"{name}.attn.in_proj_weight", (3 * width, width)
        yield f"{name}.attn.in_proj_bias", (3 * width,)
        yield from linear(f"{name}.attn.out_proj", width, width)
        yield from linear(f"{name}.mlp.c_fc", 4 * width, width)
        yield from linear(f"{name}.mlp.c_proj", width, 4 * width)
    yield from norm("ln_final", width)
    yield "text_projection", (width, width)


def control_net(variant: Variant, hint: int = 3) -> Iterator[Entry]:
    """All weights of a ControlNet: the way down and the middle, the picture's way in, and each block's way out."""
    skips: list[int] = []
    yield from embeddings(variant)
    yield from encoder(variant, skips)
    yield from middle(variant, skips[-1])
    before = hint
    for i, width in enumerate((16, 16, 32, 32, 96, 96, 256, WIDTH)):
        yield from conv(f"input_hint_block.{2 * i}", width, before)
        before = width
    for i, channels in enumerate(skips):
        yield from conv(f"zero_convs.{i}.0", channels, channels, 1)
    yield from conv("middle_block_out.0", skips[-1], skips[-1], 1)


class Pool:
    """Random numbers that many weights share: a weight is a window, each of its rows a few numbers further on."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.storages: dict[tuple[float, int], Tensor] = {}

    def view(self, shape: Shape, scale: float) -> Tensor:
        """A weight of this shape and standard deviation, overlapping with others."""
        inner = math.prod(shape[1:])
        step = 7 if shape[0] <= 4096 else 1
        size = 1 << max(10, ((shape[0] - 1) * step + inner - 1).bit_length())
        key = (round(scale, 5), size)
        if key not in self.storages:
            self.storages[key] = (torch.randn(size, generator=self.generator) * scale).to(HALF)
        strides = [math.prod(shape[i + 1 :]) for i in range(1, len(shape))]
        return self.storages[key].as_strided(shape, [step, *strides])


LAST = ("out.2.weight", "final_layer.linear.weight", "head.head.weight")  # by which networks predict


def gain(name: str, *, eps_gain: float, qk_gain: float) -> float:
    """How far a weight is scaled from variance preserving."""
    if name in LAST:
        return eps_gain
    return qk_gain if "attn1.to_q" in name or "attn1.to_k" in name else 1.0


def fill(entries: Iterator[Entry], pool: Pool, *, eps_gain: float = 1.0, qk_gain: float = 1.0) -> dict[str, Tensor]:
    """Weights for a network: random matrices, normalisations that do nothing, no biases."""
    one, zero, weights = torch.ones(1, dtype=HALF), torch.zeros(1, dtype=HALF), {}
    for name, shape in entries:
        if len(shape) == 1:
            weights[name] = (one if name.endswith(("weight", "scale")) else zero).expand(shape)
        elif "embedding." in name:
            weights[name] = pool.view(shape, 0.02)
        else:
            scale = gain(name, eps_gain=eps_gain, qk_gain=qk_gain) * math.prod(shape[1:]) ** -0.5
            weights[name] = pool.view(shape, scale)
    return weights


class Autoencoder:
    """TAESD's shape, weights set by hand: a latent is the 8x8 block mean of red, green, blue and luma in [-1, 1].

    Further channels are nothing.
    """

    CENTRE = ((1, 1),)
    SQUARE = ((1, 1), (1, 2), (2, 1), (2, 2))
    CHANNELS = 64
    LUMA = (0.299, 0.587, 0.114)

    def __init__(self, scale: float, channels: int = 4) -> None:
        self.channels = channels
        self.weights: dict[str, Tensor] = {"vae_scale": torch.tensor(scale), "vae_shift": torch.tensor(0.0)}
        self.zero = torch.zeros(1, dtype=HALF)

    def conv(self, name: str, wide: int, narrow: int, *, bias: float | None = 0.0, biased: int | None = None) -> Tensor:
        """A convolution of zeros with the first `biased` biases set; returns its weight, to be written into."""
        weight = torch.zeros(wide, narrow, 3, 3, dtype=HALF)
        self.weights[f"{name}.weight"] = weight
        if bias is not None:
            values = torch.zeros(wide, dtype=HALF)
            values[: wide if biased is None else biased] = bias
            self.weights[f"{name}.bias"] = values
        return weight

    def residual(self, name: str) -> None:
        """A block that adds nothing."""
        for i in (0, 2, 4):
            self.weights[f"{name}.conv.{i}.weight"] = self.zero.expand(self.CHANNELS, self.CHANNELS, 3, 3)
            self.weights[f"{name}.conv.{i}.bias"] = self.zero.expand(self.CHANNELS)

    def colours(self, weight: Tensor, value: float, taps: tuple[tuple[int, int], ...] = CENTRE) -> None:
        """Carry the three colours straight through, times `value`."""
        for colour in range(3):
            for y, x in taps:
                weight[colour, colour, y, x] = value

    def encoder(self) -> None:
        """Three halvings by averaging; then from [0, 1] to [-1, 1] and luma beside the colours."""
        name = "taesd_encoder"
        self.colours(self.conv(f"{name}.0", self.CHANNELS, 3), 1.0)
        for i in range(1, 14):
            if i in (2, 6, 10):
                self.colours(self.conv(f"{name}.{i}", self.CHANNELS, self.CHANNELS, bias=None), 0.25, self.SQUARE)
            else:
                self.residual(f"{name}.{i}")
        last = self.conv(f"{name}.14", self.channels, self.CHANNELS, bias=-1.0, biased=4)
        self.colours(last, 2.0)
        for colour, share in enumerate(self.LUMA):
            last[3, colour, 1, 1] = 2 * share

    def decoder(self) -> None:
        """From [-1, 1] to [0, 1], then three doublings by repetition."""
        name = "taesd_decoder"
        self.colours(self.conv(f"{name}.1", self.CHANNELS, self.channels, bias=0.5, biased=3), 0.5)
        for i in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18):
            self.residual(f"{name}.{i}")
        for i in (7, 12, 17):
            self.colours(self.conv(f"{name}.{i}", self.CHANNELS, self.CHANNELS, bias=None), 1.0)
        self.colours(self.conv(f"{name}.19", 3, self.CHANNELS), 1.0)

    def build(self) -> dict[str, Tensor]:
        """All weights."""
        self.encoder()
        self.decoder()
        return self.weights


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under longer names."""
    return {prefix + name: weight for name, weight in weights.items()}


def tiny_checkpoint(
    variant: str = "full", *, seed: int = 0, eps_gain: float = 0.25, qk_gain: float = 2.0
) -> dict[str, Tensor]:
    """A checkpoint's weights under the names that the stock loaders expect.

    A small eps_gain makes sampling trajectories smooth; a larger qk_gain makes self-attention less uniform.
    """
    shape, pool = VARIANTS[variant], Pool(seed)
    weights = prefixed("model.diffusion_model.", fill(unet(shape), pool, eps_gain=eps_gain, qk_gain=qk_gain))
    for name in shape.encoders:
        weights |= prefixed(name, zeros(large_text_encoder()) if name == G else fill(text_encoder(), pool))
    if shape.encoders:
        weights |= prefixed("first_stage_model.", Autoencoder(shape.scale).build())
    return weights


def zeros(entries: Iterator[Entry]) -> dict[str, Tensor]:
    """Weights that take no room."""
    return {name: torch.zeros(1, dtype=HALF).expand(shape) for name, shape in entries}


def save_tiny_checkpoint(path: Path, variant: str = "full", *, seed: int = 0) -> Path:
    """Write a checkpoint file in the format of its name."""
    weights = tiny_checkpoint(variant, seed=seed)
    if path.suffix == ".safetensors":
        save_safetensors(path, weights)
    else:
        torch.save({"state_dict": weights}, path)
    return path


def save_tiny_control_net(path: Path, variant: str = "full", *, seed: int = 1) -> Path:
    """Write a ControlNet as .safetensors."""
    save_safetensors(path, fill(control_net(VARIANTS[variant]), Pool(seed)))
    return path


def save_safetensors(path: Path, weights: dict[str, Tensor]) -> None:
    """Write every element, except that what is all one zero is left out: a hole in the file, which reads as zeros."""
    names, header, end = {torch.float16: "F16", torch.float32: "F32"}, {}, 0
    for name, weight in weights.items():
        start, end = end, end + weight.numel() * weight.element_size()
        header[name] = {"dtype": names[weight.dtype], "shape": list(weight.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, weight in weights.items():
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            if weight.untyped_storage().nbytes() > weight.element_size() or bool(weight.flatten()[0]):
                file.write(weight.contiguous().numpy().tobytes())
        file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    out = save_tiny_checkpoint(Path(sys.argv[1]), *sys.argv[2:3])
    print(f"{out}: {out.stat().st_size / 1e6:.3f} MB")

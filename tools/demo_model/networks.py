"""The two networks of a latent diffusion model, with the parameter names of the original Stable Diffusion checkpoints.

`UNet` is the noise predictor (Ronneberger et al. 2015; Dhariwal and Nichol 2021; Rombach et al. 2022) with one
transformer block per attention site; `Autoencoder` is the KL autoencoder. The names, the block numbering and every
epsilon are those that ComfyUI and diffusers expect, so both load the exported file as it is.

Letters: b batch, c channels, h w grid, n tokens, k heads, d head width.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the noise predictor; the depths count transformer blocks per level on the way down and up."""

    in_channels: int = 32
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 1, 1, 1)
    num_res_blocks: int = 2
    input_depth: tuple[int, ...] = (0, 1, 1, 0)
    output_depth: tuple[int, ...] = (1, 1, 1, 0)
    middle_depth: int = 1
    num_heads: int = 2
    context_dim: int = 32

    def ldm(self) -> dict[str, Any]:
        """The same sizes under the names that ComfyUI's UNetModel takes."""
        spread = [depth for depth in self.input_depth for _ in range(self.num_res_blocks)]
        spread_output = [depth for depth in self.output_depth for _ in range(self.num_res_blocks + 1)]
        return {
            "image_size": 16,
            "in_channels": self.in_channels,
            "out_channels": self.in_channels,
            "model_channels": self.model_channels,
            "channel_mult": list(self.channel_mult),
            "num_res_blocks": [self.num_res_blocks] * len(self.channel_mult),
            "transformer_depth": spread,
            "transformer_depth_output": spread_output,
            "transformer_depth_middle": self.middle_depth,
            "num_heads": self.num_heads,
            "num_head_channels": -1,
            "context_dim": self.context_dim,
            "use_spatial_transformer": True,
            "use_linear_in_transformer": False,
            "adm_in_channels": None,
            "legacy": False,
        }


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder under the names of the original configuration files.

    Not below 64 channels: with 32 channels in 32 groups every norm removes the mean of every channel, that is the
    colour of the picture. To afford that, the encoder has no residual blocks outside its middle.
    """

    double_z: bool = True
    z_channels: int = 32
    resolution: int = 256
    in_channels: int = 3
    out_ch: int = 3
    ch: int = 64
    ch_mult: tuple[int, ...] = (1, 1, 1, 1)
    num_res_blocks: int = 0
    attn_resolutions: tuple[int, ...] = ()
    dropout: float = 0.0

    def ldm(self) -> dict[str, Any]:
        """The ddconfig of the original configuration files."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def _conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2)


def _zero(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of timesteps b, cosines first -> b width."""
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of queries b k n d over keys and values b k m d.

    Written out, and in the precision of the queries: at these sizes the fused kernel's backward pass is slower on a
    CPU, and so is the single precision that autocast chooses for a softmax.
    """
    with torch.autocast(q.device.type, enabled=False):
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(dim=-1)
        return weights @ v


class Attention(nn.Module):
    """Multi-head attention of tokens b n c over a context b m c'."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            rearrange(p, "b n (k d) -> b k n d", k=self.heads)
            for p in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out[0](rearrange(attend(q, k, v), "b k n d -> b n (k d)"))


class _GatedLinear(nn.Module):
    """Linear layer with a GELU gate (Shazeer 2020)."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * width_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(_GatedLinear(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _TransformerBlock(nn.Module):
    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(width, width, heads)
        self.attn2 = Attention(width, context_width, heads)
        self.ff = _FeedForward(width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        tokens = self.norm1(x)
        x = x + self.attn1(tokens, tokens)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the grid b c h w."""

    def __init__(self, width: int, context_width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in = _conv(width, width, 1)
        self.transformer_blocks = nn.ModuleList([_TransformerBlock(width, context_width, heads) for _ in range(depth)])
        self.proj_out = _zero(_conv(width, width, 1))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = x.shape[2]
        tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=h))


class TimedResBlock(nn.Module):
    """Residual block with the timestep embedding added in its middle."""

    def __init__(self, c_in: int, c_out: int, time_width: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, c_in), nn.SiLU(), _conv(c_in, c_out))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, c_out))
        last = _zero(_conv(c_out, c_out))
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, c_out), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Identity() if c_in == c_out else _conv(c_in, c_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(y)


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = _conv(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[2], 2 * x.shape[3])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class UNet(nn.Module):
    """Noise predictor: latents b c h w, timesteps b, context b m c' -> noise b c h w."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        base, width_time = config.model_channels, 4 * config.model_channels
        self.time_embed = nn.Sequential(nn.Linear(base, width_time), nn.SiLU(), nn.Linear(width_time, width_time))
        widths = [base * m for m in config.channel_mult]
        self.input_blocks = nn.ModuleList([nn.ModuleList([_conv(config.in_channels, base)])])
        skips, c = [base], base
        for level, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.input_blocks.append(self._block(c, width, config.input_depth[level]))
                c = width
                skips.append(c)
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([_Downsample(c)]))
                skips.append(c)
        self.middle_block = self._block(c, c, config.middle_depth)
        self.middle_block.append(TimedResBlock(c, c, width_time))
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for i in range(config.num_res_blocks + 1):
                block = self._block(c + skips.pop(), widths[level], config.output_depth[level])
                c = widths[level]
                if level and i == config.num_res_blocks:
                    block.append(_Upsample(c))
                self.output_blocks.append(block)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, c), nn.SiLU(), _zero(_conv(c, config.in_channels)))

    def _block(self, c_in: int, c_out: int, depth: int) -> nn.ModuleList:
        """A residual block, with a transformer if depth > 0."""
        config = self.config
        layers: list[nn.Module] = [TimedResBlock(c_in, c_out, 4 * config.model_channels)]
        if depth:
            layers.append(SpatialTransformer(c_out, config.context_dim, config.num_heads, depth))
        return nn.ModuleList(layers)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        time = self.time_embed(timestep_embedding(t, self.config.model_channels))
        skips: list[Tensor] = []
        for block in self.input_blocks:
            x = _run(block, x, time, context)
            skips.append(x)
        x = _run(self.middle_block, x, time, context)
        for block in self.output_blocks:
            x = torch.cat([x, skips.pop()], dim=1)
            x = _run(block, x, time, context, size=skips[-1].shape[2:] if skips else None)
        return self.out(x)


def _run(layers: nn.ModuleList, x: Tensor, time: Tensor, context: Tensor, size: torch.Size | None = None) -> Tensor:
    """Run one numbered block, handing every layer what it takes."""
    for layer in layers:
        if isinstance(layer, TimedResBlock):
            x = layer(x, time)
        elif isinstance(layer, SpatialTransformer):
            x = layer(x, context)
        elif isinstance(layer, _Upsample):
            x = layer(x, size)
        else:
            x = layer(x)
    return x


class _ResBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, c_in, eps=1e-6), _conv(c_in, c_out)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, c_out, eps=1e-6), _conv(c_out, c_out)
        if c_in != c_out:
            self.nin_shortcut = _conv(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class _PixelAttention(nn.Module):
    """Single-head self-attention over the grid b c h w."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.q, self.k, self.v = (_conv(channels, channels, 1) for _ in range(3))
        self.proj_out = _zero(_conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (rearrange(p(y), "b c h w -> b 1 (h w) c") for p in (self.q, self.k, self.v))
        tokens = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(rearrange(tokens, "b 1 (h w) c -> b c h w", h=x.shape[2]))


def _middle(channels: int) -> nn.Module:
    return nn.ModuleDict(
        {
            "block_1": _ResBlock(channels, channels),
            "attn_1": _PixelAttention(channels),
            "block_2": _ResBlock(channels, channels),
        }
    )


def _run_middle(mid: nn.ModuleDict, x: Tensor) -> Tensor:
    return mid["block_2"](mid["attn_1"](mid["block_1"](x)))


def _level(c_in: int, c_out: int, count: int) -> nn.ModuleDict:
    blocks = [_ResBlock(c_in if i == 0 else c_out, c_out) for i in range(count)]
    return nn.ModuleDict({"block": nn.ModuleList(blocks)})


class _PaddedDownsample(nn.Module):
    """Halves the grid; pads right and below only, as the original autoencoder does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Encoder(nn.Module):
    """Images b 3 h w -> moments b 2z h/f w/f."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = [config.ch * m for m in config.ch_mult]
        self.conv_in = _conv(config.in_channels, config.ch)
        self.down = nn.ModuleList()
        for i, (c_in, c_out) in enumerate(zip([config.ch, *widths], widths, strict=False)):
            level = _level(c_in, c_out, config.num_res_blocks)
            if i < len(widths) - 1:
                level["downsample"] = _PaddedDownsample(c_out)
            self.down.append(level)
        self.mid = _middle(widths[-1])
        self.norm_out = nn.GroupNorm(GROUPS, widths[-1], eps=1e-6)
        self.conv_out = _conv(widths[-1], 2 * config.z_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            for block in level["block"]:
                x = block(x)
            if "downsample" in level:
                x = level["downsample"](x)
        return self.conv_out(F.silu(self.norm_out(_run_middle(self.mid, x))))


class Decoder(nn.Module):
    """Latents b z h w -> images b 3 fh fw."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        widths = [config.ch * m for m in config.ch_mult]
        self.conv_in = _conv(config.z_channels, widths[-1])
        self.mid = _middle(widths[-1])
        self.up = nn.ModuleList()
        for i, (c_in, c_out) in enumerate(zip([*widths[1:], widths[-1]], widths, strict=True)):
            level = _level(c_in, c_out, config.num_res_blocks + 1)
            if i:
                level["upsample"] = _Upsample(c_out)
            self.up.append(level)
        self.norm_out = nn.GroupNorm(GROUPS, widths[0], eps=1e-6)
        self.conv_out = _conv(widths[0], config.out_ch)

    def forward(self, z: Tensor) -> Tensor:
        x = _run_middle(self.mid, self.conv_in(z))
        for level in reversed(self.up):
            for block in level["block"]:
                x = block(x)
            if "upsample" in level:
                x = level["upsample"](x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Autoencoder(nn.Module):
    """KL autoencoder: images b 3 h w in -1..1 <-> latents b z h/f w/f."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = _conv(2 * config.z_channels, 2 * config.z_channels, 1)
        self.post_quant_conv = _conv(config.z_channels, config.z_channels, 1)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images -> mean and log variance of their latents."""
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def encode(self, x: Tensor) -> Tensor:
        """Images -> the mean of their latents."""
        return self.moments(x)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Latents -> images."""
        return self.decoder(self.post_quant_conv(z))

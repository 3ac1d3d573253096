"""A small NextDiT (Lumina-Image 2.0, Qin et al. 2025) with the parameter names of the original checkpoints.

A rectified flow: x_t = (1 - t) x0 + t noise, and the network answers noise - x0. ComfyUI's class of that name
loads the exported file as it is. Prompt and picture are one sequence; positions rotate queries and keys
(Su et al. 2021) along three axes: the prompt's order, rows, columns.

Letters: b batch, c channels, h w grid of tokens, p pixels of a patch, n tokens, k heads, d head width.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .networks import attend, timestep_embedding

ROTATION_BASE = 10000.0
TIME_FREQUENCIES = 256


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes under the names that ComfyUI's NextDiT takes."""

    patch_size: int = 2
    in_channels: int = 32
    dim: int = 192
    n_layers: int = 8
    n_refiner_layers: int = 1
    n_heads: int = 3
    multiple_of: int = 64
    norm_eps: float = 1e-5
    qk_norm: bool = True
    cap_feat_dim: int = 32
    axes_dims: tuple[int, ...] = (16, 24, 24)
    axes_lens: tuple[int, ...] = (64, 256, 256)

    def host(self) -> dict[str, Any]:
        """The keywords of the host's class."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def rotations(positions: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Positions n 3 -> the angles of n (d/2) pairs of channels."""
    angles = []
    for axis, width in enumerate(axes):
        frequency = ROTATION_BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles.append(positions[:, axis, None].double() * frequency)
    return torch.cat(angles, dim=1).float()


def token_positions(prompt: int, height: int, width: int) -> Tensor:
    """Prompt tokens count along the first axis, the picture's tokens along the others -> n 3."""
    text = torch.zeros(prompt, 3)
    text[:, 0] = torch.arange(prompt)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.stack([torch.full_like(rows, prompt), rows, columns], dim=-1).view(-1, 3)
    return torch.cat([text, picture.float()])


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn neighbouring channel pairs of b k n d by angles n (d/2)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class _Norm(nn.RMSNorm):
    """Always in single precision: autocast has no fused kernel for half precision tokens and full precision weights."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, width = config.n_heads, config.dim
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.q_norm, self.k_norm = (_Norm(width // self.heads, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (s k d) -> s b k n d", s=3, k=self.heads)
        q, k = rotate(self.q_norm(q).to(v), angles), rotate(self.k_norm(k).to(v), angles)
        return self.out(rearrange(attend(q, k, v), "b k n d -> b n (k d)"))


class _FeedForward(nn.Module):
    """Linear layer with a SiLU gate (Shazeer 2020)."""

    def __init__(self, width: int, multiple: int) -> None:
        super().__init__()
        hidden = -(-4 * width // multiple) * multiple
        self.w1, self.w3 = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.w2 = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class _Block(nn.Module):
    """Attention and a feed-forward layer between norms, scaled and gated by the time where it is given."""

    def __init__(self, config: TransformerConfig, *, timed: bool) -> None:
        super().__init__()
        width, eps = config.dim, config.norm_eps
        self.attention, self.feed_forward = _Attention(config), _FeedForward(width, config.multiple_of)
        self.attention_norm1, self.attention_norm2, self.ffn_norm1, self.ffn_norm2 = (
            _Norm(width, eps=eps) for _ in range(4)
        )
        if timed:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * width))

    def forward(self, x: Tensor, angles: Tensor, time: Tensor | None = None) -> Tensor:
        if time is None:
            x = x + self.attention_norm2(self.attention(self.attention_norm1(x), angles))
            return x + self.ffn_norm2(self.feed_forward(self.ffn_norm1(x)))
        scale, gate, scale_mlp, gate_mlp = self.adaLN_modulation(time)[:, None].chunk(4, dim=-1)
        y = self.attention(self.attention_norm1(x) * (1 + scale), angles)
        x = x + gate.tanh() * self.attention_norm2(y)
        y = self.feed_forward(self.ffn_norm1(x) * (1 + scale_mlp))
        return x + gate_mlp.tanh() * self.ffn_norm2(y)


class _Time(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(timestep_embedding(t, TIME_FREQUENCIES))


class _Last(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.dim, config.patch_size**2 * config.in_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, config.dim))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.linear(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + self.adaLN_modulation(time)[:, None]))


class Transformer(nn.Module):
    """Velocity predictor: latents b c (h p) (w p), times b in 0..1, prompt b m c' -> noise - x0, as the latents.

    `without` are the numbers of blocks that are left out, for guidance away from such an answer.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config, width, refiners = config, config.dim, range(config.n_refiner_layers)
        self.x_embedder = nn.Linear(config.patch_size**2 * config.in_channels, width)
        self.noise_refiner = nn.ModuleList([_Block(config, timed=True) for _ in refiners])
        self.context_refiner = nn.ModuleList([_Block(config, timed=False) for _ in refiners])
        self.t_embedder = _Time(width)
        norm = _Norm(config.cap_feat_dim, eps=config.norm_eps)
        self.cap_embedder = nn.Sequential(norm, nn.Linear(config.cap_feat_dim, width))
        self.layers = nn.ModuleList([_Block(config, timed=True) for _ in range(config.n_layers)])
        self.final_layer = _Last(config)
        self._start()

    def _start(self) -> None:
        """The last layer starts at zero, the gates a little open."""
        nn.init.zeros_(self.final_layer.linear.weight)
        nn.init.zeros_(self.final_layer.linear.bias)
        for block in [*self.noise_refiner, *self.layers]:
            scale, gate, scale_mlp, gate_mlp = block.adaLN_modulation[1].bias.data.chunk(4)
            nn.init.zeros_(block.adaLN_modulation[1].weight)
            for part, value in ((scale, 0.0), (gate, 0.3), (scale_mlp, 0.0), (gate_mlp, 0.3)):
                part.fill_(value)

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor, without: Collection[int] = ()) -> Tensor:
        p, (height, width) = self.config.patch_size, x.shape[2:]
        grid = {"h": height // p, "w": width // p, "p": p, "q": p}
        angles = rotations(token_positions(prompt.shape[1], grid["h"], grid["w"]), self.config.axes_dims).to(x)
        text, picture = angles.split([prompt.shape[1], grid["h"] * grid["w"]])
        time, words = self.t_embedder(1 - t), self.cap_embedder(prompt)
        tokens = self.x_embedder(rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=p, q=p))
        for block in self.context_refiner:
            words = block(words, text)
        for block in self.noise_refiner:
            tokens = block(tokens, picture, time)
        sequence = torch.cat([words, tokens], dim=1)
        for number, block in enumerate(self.layers):
            if number not in without:
                sequence = block(sequence, angles, time)
        answer = self.final_layer(sequence[:, prompt.shape[1] :], time)
        return -rearrange(answer, "b (h w) (p q c) -> b c (h p) (w q)", **grid)


def flow_times(count: int, generator: torch.Generator) -> Tensor:
    """Times of training, most in the middle (Esser et al. 2024): logit-normal -> b in 0..1."""
    return torch.sigmoid(torch.randn(count, generator=generator))

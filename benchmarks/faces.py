"""What stylization did to a drawn face: its likeness, and how far it took the technique and the look of the style.

Pictures are b 3 h w in 0..1, 256 pixels wide; masks are bool h w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from magicstyle.tools.demo_model.landmarks import Face
from magicstyle.tools.demo_model.techniques import NAMES
from torch import Tensor

from .landmarks import find_landmarks, landmark_error
from .measures import gradients, smaller
from .technique import technique_net

CELL = 4  # pixels whose mean is one pixel of what is compared, as for whole pictures
EDGES = 0.25  # of the pixels around eyes, brows, nose and mouth, those with the strongest gradient, count as edges


class Likeness(NamedTuple):
    """One row of results, their faces alone."""

    landmarks: float  # pixels by which eyes, brows, nose and mouth are found away from where they were drawn
    structure: float  # gradient correlation and edge F1 inside eyes, brows, nose and mouth: 1 is the content's own
    technique: float  # the share of faces that show the style's technique


def likeness(results: Tensor, contents: Tensor, faces: Sequence[Face], techniques: Sequence[str]) -> Likeness:
    """Everything that is said about the faces of a row."""
    named = face_techniques(results, faces)
    return Likeness(
        float(landmark_error(find_landmarks(results), faces).mean()),
        float(feature_structure(results, contents, faces).mean()),
        sum(a == b for a, b in zip(named, techniques, strict=True)) / len(named),
    )


def feature_structure(pictures: Tensor, contents: Tensor, faces: Sequence[Face]) -> Tensor:
    """The mean of gradient correlation and edge F1 inside eyes, brows, nose and mouth -> b."""
    both = [gradients(smaller(x, CELL)) for x in (pictures, contents)]
    masks = [torch.from_numpy(face.features)[CELL // 2 :: CELL, CELL // 2 :: CELL] for face in faces]
    return torch.stack([_structure(a[mask], b[mask]) for a, b, mask in zip(*both, masks, strict=True)])


def _structure(found: Tensor, wanted: Tensor) -> Tensor:
    """Gradient magnitudes n of the same places, compared."""
    correlation = torch.corrcoef(torch.stack([found, wanted]))[0, 1].nan_to_num()
    a, b = (x > x.quantile(1.0 - EDGES) for x in (found, wanted))
    f1 = 2.0 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1)
    return (correlation + f1) / 2


@torch.inference_mode()
def face_techniques(pictures: Tensor, faces: Sequence[Face]) -> list[str]:
    """What the faces of pictures are rendered in: the network's last map, its mean inside each face alone."""
    net = technique_net()
    maps = net.body(2 * pictures - 1)
    found = [_inside(one, face) for one, face in zip(maps, faces, strict=True)]
    return [NAMES[i] for i in net.head(torch.stack(found)).argmax(dim=1).tolist()]


def _inside(features: Tensor, face: Face) -> Tensor:
    """Mean and deviation of a map c h w inside a face -> 2c."""
    oval = torch.from_numpy(face.oval).float()[None]
    cells = torch.nn.functional.adaptive_avg_pool2d(oval, features.shape[1:])[0]
    # at least the four cells that a face fills most
    chosen = cells >= min(0.5, float(cells.flatten().topk(4).values[-1]))
    return torch.cat([features[:, chosen].mean(dim=1), features[:, chosen].std(dim=1)])


def soft_mask(face: Face, part: str, blur: int = 4) -> Tensor:
    """A face's `oval` or its `features` as a mask with soft edges -> 1 h w."""
    mask = torch.from_numpy(getattr(face, part)).float()[None, None]
    for _ in range(2):
        mask = torch.nn.functional.avg_pool2d(mask, 2 * blur + 1, 1, blur, count_include_pad=False)
    return mask[0]

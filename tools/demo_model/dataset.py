"""Drawings for training, drawn once and kept as one uint8 array; evaluation draws seeds that training never sees."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .techniques import NAMES, drawing

EVALUATION_SEED = 1_000_000


def _image(seed: int) -> np.ndarray:
    return drawing(seed).image


def training_pictures(work: Path, count: int) -> np.ndarray:
    """Drawings of the seeds 0 .. count - 1, drawn on first use -> n h w 3, uint8."""
    path = work / f"drawings_{count}.npy"
    if not path.exists():
        with multiprocessing.get_context("spawn").Pool() as pool:
            pictures = np.stack(pool.map(_image, range(count), chunksize=50))
        np.save(path, pictures, allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def evaluation_pictures(count: int) -> tuple[np.ndarray, list[str]]:
    """Held-out drawings -> n h w 3, uint8, every technique as often, and their techniques."""
    drawings = [drawing(EVALUATION_SEED + i, NAMES[i % len(NAMES)]) for i in range(count)]
    return np.stack([drawn.image for drawn in drawings]), [drawn.technique for drawn in drawings]


def to_tensor(pictures: np.ndarray) -> Tensor:
    """Pictures n h w 3, uint8 -> n 3 h w in -1..1."""
    # contiguous: the CPU convolutions are twice as slow on the channels-last strides that permute leaves
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_pictures(images: Tensor) -> np.ndarray:
    """Images n 3 h w in -1..1 -> n h w 3, uint8."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().numpy()


def random_crops(pictures: np.ndarray, batch: int, size: int, rng: np.random.Generator) -> Tensor:
    """Random crops of random pictures, half of them mirrored -> b 3 size size in -1..1."""
    room = pictures.shape[1] - size + 1
    index, corner = rng.integers(len(pictures), size=batch), rng.integers(room, size=(batch, 2))
    step = np.where(rng.random(batch) < 0.5, -1, 1)
    picks = zip(index, corner, step, strict=True)
    crops = [pictures[i, y : y + size, x : x + size][:, ::mirror] for i, (y, x), mirror in picks]
    return to_tensor(np.stack(crops))

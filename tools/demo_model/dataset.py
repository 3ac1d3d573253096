"""Drawings for training, drawn once and kept as one uint8 array; evaluation draws seeds that training never sees."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .portraits import portrait
from .techniques import NAMES, drawing

EVALUATION_SEED = 1_000_000
COMPOSITION_SIZE, COMPOSITION_STYLE = 64, 2  # pixels, and the seed of a style whose colours lie far apart


def _image(seed: int) -> np.ndarray:
    return drawing(seed).image


def composition(seed: int) -> np.ndarray:
    """The portrait beneath a seed's drawing, small, flat and in the one palette of all -> 64 64 3, uint8."""
    size = 2 * COMPOSITION_SIZE
    drawn = portrait(seed, COMPOSITION_STYLE, size=size, plain=True).image
    return np.asarray(Image.fromarray(drawn).reduce(size // COMPOSITION_SIZE))


def _kept(path: Path, draw: Callable[[int], np.ndarray], count: int) -> np.ndarray:
    """What is drawn of the seeds 0 .. count - 1, on first use -> n h w 3, uint8."""
    if not path.exists():
        with multiprocessing.get_context("spawn").Pool() as pool:
            pictures = np.stack(pool.map(draw, range(count), chunksize=50))
        np.save(path, pictures, allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def training_pictures(work: Path, count: int) -> np.ndarray:
    """Drawings of the seeds 0 .. count - 1, drawn on first use -> n h w 3, uint8."""
    return _kept(work / f"drawings_{count}.npy", _image, count)


def training_compositions(work: Path, count: int) -> np.ndarray:
    """The compositions of the same seeds: what is where, whatever the technique -> n 64 64 3, uint8."""
    return _kept(work / f"compositions_{count}.npy", composition, count)


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

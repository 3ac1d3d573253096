"""Memory: what is free where features will lie, and the room that is made for them there."""

from __future__ import annotations

import shutil
from pathlib import Path

import comfy.model_management
import folder_paths
import torch

from ...banks.placement import Allocate, OnDisk, in_memory, page_locked, settle_place
from ..protocols import Model


def free_memory() -> int:
    """Bytes of main memory that the host reports as free."""
    return comfy.model_management.get_free_memory(torch.device("cpu"))


def free_on_device(model: Model) -> int:
    """Bytes of the model's device that are free once the model is loaded."""
    return comfy.model_management.get_free_memory(model.load_device) - model.model_size()


def free_on_disk() -> int:
    """Bytes that are free where features on disk lie."""
    folder = Path(folder_paths.get_temp_directory())
    known = next((path for path in (folder, *folder.parents) if path.exists()), None)
    return shutil.disk_usage(known).free if known else 0


def allocator(place: str, model: Model, estimate: int) -> Allocate:
    """Where features go, and how: `estimate` is their size in bytes."""
    device = model.load_device
    place = settle_place(place, device, estimate, free_on_device(model))
    if place == "disk":
        return OnDisk(Path(folder_paths.get_temp_directory()))
    if place == "gpu":
        return in_memory(device)
    # page-locked memory is rounded up to powers of two, and the system can never move it out
    copied = device.type == "cuda" and 4 * estimate <= free_memory()
    return page_locked if copied else in_memory()

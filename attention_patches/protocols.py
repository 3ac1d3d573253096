"""What the pack needs of the host's own objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Model(Protocol):
    """A MODEL: comfy.model_patcher.ModelPatcher."""

    model: Any  # the network with its schedule and latent format
    model_options: dict[str, Any]
    wrappers: dict[str, dict[str | None, list[Any]]]
    patches_uuid: Any  # another one for other LoRAs
    load_device: torch.device
    injections: dict[str, list[Any]]  # what is put into the layers while the model is loaded, by its node
    object_patches: dict[str, Any]  # parts that other nodes have replaced

    def clone(self) -> Model:
        """One with options and patches of its own, and the same weights."""
        ...

    def get_model_object(self, name: str) -> Any:
        """A part of the network, patches of it included."""
        ...

    def add_wrapper_with_key(self, wrapper_type: str, key: str, wrapper: Callable[..., Any]) -> None:
        """Put a function around one of the host's own."""
        ...

    def memory_required(self, input_shape: Sequence[int]) -> float:
        """The bytes of a call on a latent of that shape, b c h w."""
        ...

    def model_size(self) -> int:
        """The bytes of the weights."""
        ...


class Executor(Protocol):
    """What a wrapper calls to go on: comfy.patcher_extension.WrapperExecutor."""

    class_obj: Any  # whose function is wrapped, such as the guider of a sampling run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The next wrapper, or the host's function."""
        ...


class HostDenoiser(Protocol):
    """The model as the host's samplers get it."""

    inner_model: Any

    def __call__(self, x: Tensor, sigma: Tensor, **kwargs: Any) -> Tensor:
        """x b c h w at the levels b -> the denoised picture b c h w."""
        ...

"""Transformers whose host says nowhere which block runs, and lets no node replace one: told by hooks on modules."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch

from ...core.layers import LayerId
from ..model_call import ModelCall
from .base import RawCall
from .transformer import BlockMark, Transformer, mark_of


class Hooked(Transformer):
    """Every attention module makes itself known while it runs, by hooks that are gone when the model call is over.

    Modules are shared by every thread that runs the network, so that a mark follows its own thread alone. A model call
    inside another one's attention ends where it began: what is running is a stack.
    """

    @abstractmethod
    def _modules(self, block: Any) -> tuple[Any, ...]:
        """The modules of a block whose attention has the picture's tokens, in the order of execution."""

    @contextmanager
    def marks(self, call: ModelCall) -> Iterator[BlockMark]:
        """Hooks before and behind every attention module."""
        mark = self._mark(call)
        with ExitStack() as stack:
            for layer, module in self._attending.items():
                enter, leave = _hooks(mark, layer)
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave, always_call=True).remove)
            yield mark

    @cached_property
    def _attending(self) -> dict[LayerId, Any]:
        """The module of each layer."""
        return {
            LayerId(stack.name, number, index): module
            for stack in self.stacks
            for number, block in enumerate(getattr(self._network, stack.attribute))
            for index, module in enumerate(self._modules(block))
        }

    def _attentions(self, block: Any) -> int:
        return len(self._modules(block))

    def _layer(self, raw: RawCall) -> LayerId | None:
        running = mark_of(raw).running_layers
        return running[-1] if running else None


def _hooks(mark: BlockMark, layer: LayerId) -> tuple[Callable[..., None], Callable[..., None]]:
    """A module's hooks before and behind it, which are heard in the thread that makes them."""
    own = threading.get_ident()

    @torch.compiler.disable
    def enter(*_: Any) -> None:
        if threading.get_ident() == own:
            mark.running_layers.append(layer)

    @torch.compiler.disable
    def leave(*_: Any) -> None:
        if threading.get_ident() == own:
            mark.running_layers.pop()

    return enter, leave

"""The seam to the host: its raw attention call -> Call -> handler -> the host's raw answer, for one model call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from .architectures.backends import BENEATH
from .architectures.base import HostArchitecture, Mark, Merged, RawCall
from .call import Answer, Handlers
from .entry import KEY, Entry, entered, put
from .model_call import ModelCall

OVERRIDE = "optimized_attention_override"


@contextmanager
def hooked(
    call: ModelCall, architecture: HostArchitecture, handlers: Handlers, *, alone: bool = False
) -> Iterator[None]:
    """Let the handlers answer the attention calls of one model call; its options leave as they came.

    `alone` silences the pack's other handlers for this call; other nodes' overrides are called in any case.
    """

    def admits(live: Mapping[str, Any]) -> bool:
        return Entry.of(live).admits(handlers)

    with ExitStack() as stack:
        mark = stack.enter_context(architecture.marks(call))
        mark.cross = handlers.cross is not None
        if handlers.resnet is not None:
            stack.enter_context(architecture.resnet_hook(call, handlers.resnet, admits))
        if handlers.added is not None:
            stack.enter_context(architecture.added_hook(call, handlers.added, admits))
        stack.enter_context(put(call.options, OVERRIDE, _override(call.options, architecture, mark, handlers)))
        if alone:
            stack.enter_context(entered(call.options, only=handlers))
        yield


def _override(
    options: dict[str, Any], architecture: HostArchitecture, mark: Mark, handlers: Handlers
) -> Callable[..., Tensor]:
    previous = options.get(OVERRIDE)

    @torch.compiler.disable
    def override(func: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The host's attention on q, k and v, b n (h d) or b h n d each."""
        live = kwargs.get("transformer_options", options)
        raw = RawCall(func, q, k, v, args=args, kwargs=kwargs, options=live, mark=mark, previous=previous)
        answer = _answer(raw, architecture, handlers)
        mark.passed = True
        return raw.unchanged() if answer is None else answer

    vars(override)[BENEATH] = previous
    return override


def _answer(raw: RawCall, architecture: HostArchitecture, handlers: Handlers) -> Tensor | None:
    """The host's raw answer from the handlers' for the picture's tokens, b n c; None leaves it to others."""
    entry = Entry.of(raw.options)
    call = architecture.read(raw) if entry.admits(handlers) else None
    if isinstance(call, Merged):
        if handlers.missed is not None:
            handlers.missed(call.layer)
        return None
    if call is None or (handler := handlers.of(call)) is None:
        return None
    with put(raw.options, KEY, entry.silent):
        answer = handler(call)
        if isinstance(answer, Answer):
            return architecture.write(raw, answer.picture, answer.text)
        return None if answer is None else architecture.write(raw, answer)

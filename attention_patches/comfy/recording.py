"""Recording: clones of the model that show what passes by to a recorder or a reader."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..architectures.base import HostArchitecture
from ..capture import AnyRecorder
from ..model_call import ModelCall
from ..protocols import Executor, Model
from ..seam import hooked
from ..word_maps import WordReader
from .models import KEY
from .others import foreign


def install_capture(model: Model, architecture: HostArchitecture, recorder: AnyRecorder, *, together: int = 1) -> Model:
    """A clone of the model that shows the recorder what passes by, in calls of `together` steps."""
    watch = recorder.watch
    around = list(foreign({"wrappers": model.wrappers}))
    others = f" ({', '.join(around)})" if around else ""
    watch.hosted = True

    def apply_model(executor: Executor, *args: Any, **kwargs: Any) -> Tensor:
        """The host's model call as it is: b c h w."""
        call = ModelCall.read(args, kwargs, executor)
        recorder.see_inputs(call)
        handlers = recorder.handlers
        with nullcontext() if handlers is None else hooked(call, architecture, handlers):
            out = executor(*args, **kwargs)
        watch.check(others)
        return out

    def diffusion_model(executor: Executor, *args: Any, **kwargs: Any) -> Any:
        watch.answered += 1
        return executor(*args, **kwargs)

    def prepare_sampling(executor: Executor, patcher: Model, shape: Sequence[int], *args: Any, **kw: Any) -> Any:
        return executor(patcher, [shape[0] * together, *shape[1:]], *args, **kw)

    captured = model.clone()
    captured.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}.capture", apply_model)
    captured.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, f"{KEY}.capture", prepare_sampling)
    if around:  # a wrapper inside theirs, which runs where they let a call through
        captured.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, f"{KEY}.capture", diffusion_model)
    return captured


def install_word_reader(model: Model, architecture: HostArchitecture, reader: WordReader) -> Model:
    """A clone of the model that shows the reader its self- and cross-attention."""

    def apply_model(executor: Executor, *args: Any, **kwargs: Any) -> Tensor:
        """The host's model call as it is: b c h w."""
        with hooked(ModelCall.read(args, kwargs, executor), architecture, reader.handlers):
            return executor(*args, **kwargs)

    reading = model.clone()
    reading.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}.words", apply_model)
    return reading

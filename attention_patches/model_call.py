"""The one reader of what the host hands to apply_model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..banks.trajectory import Input, given, map_inputs, unkept
from ..core.errors import MagicStyleError


class ModelCall(NamedTuple):
    """One call of apply_model(x, t, c_concat, c_crossattn, control, transformer_options, ..): all six by position."""

    x: Tensor  # b c h w, b the rows of all chunks
    level: Tensor  # b
    inputs: Mapping[str, Any]  # the model's other inputs by name
    control: Any
    options: dict[str, Any]  # the host's transformer_options
    network: Any = None  # that runs, where it is known: of several devices each has its own

    @classmethod
    def read(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], executor: Any = None) -> ModelCall:
        """Name what a wrapper of apply_model was given; the executor leads to the network that runs."""
        x, level, c_concat, c_crossattn, control, options = args[:6]
        network = getattr(getattr(executor, "class_obj", None), "diffusion_model", None)
        return cls(x, level, {"c_concat": c_concat, "c_crossattn": c_crossattn, **kwargs}, control, options, network)

    def run(self, apply_model: Callable[..., Tensor]) -> Tensor:
        """Make the call: b c h w."""
        others = dict(self.inputs)
        concat, context = others.pop("c_concat", None), others.pop("c_crossattn", None)
        return apply_model(self.x, self.level, concat, context, self.control, self.options, **others)

    @property
    def sigma(self) -> float:
        """The noise level of the call. A device synchronisation: read it once per call."""
        return float(self.options.get("sigmas", self.level).flatten()[0])

    @property
    def repeatable(self) -> dict[str, Input]:
        """The other inputs that there are, such as c_crossattn b m c, their tensors copied to main memory.

        An input that a replay could not repeat is an error: the features would be others without a word.
        """
        if found := unkept(self.inputs):
            raise UnrepeatableInputError(
                f"the model takes {' and '.join(found)} with this conditioning, which a replay of latents cannot "
                "repeat: choose storage features, or invert with a plain prompt."
            )
        return map_inputs(given(self.inputs), lambda tensor: tensor.detach().to("cpu", copy=True))


class UnrepeatableInputError(MagicStyleError):
    """An input of the model that no trajectory can keep."""

"""What the pack must know of a kind of model: its layers, how its attention calls are read and answered.

Letters: b rows of a batch, h heads, n tokens, d head width, c = h d channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from ...core.attention import Kernel
from ...core.features import Depth, ModelId
from ...core.grid import Grid
from ...core.layers import LayerId
from ...core.rotation import Rotation
from ..call import Call, ResNetHandler, RowPlan
from ..entry import Entry, put
from ..model_call import ModelCall
from .backends import exact_backend

# backends that broadcast a 1 x m mask instead of spreading it to n x m
MASKING_BACKENDS = ("attention_pytorch", "attention_sub_quad")
Raw = TypeVar("Raw")


class Parametrization(Enum):
    """How a latent mixes picture and noise."""

    DIFFUSION = "eps or v"  # x = x0 + sigma n
    FLOW = "flow"  # x = (1 - sigma) x0 + sigma n


class LayerFacts(NamedTuple):
    """One self-attention layer."""

    width: int  # channels, heads x head width
    heads: int


class ResNetFacts(NamedTuple):
    """The ResNet that DiffStyler copies: the layer of the block that begins with it, and the channels that enter it."""

    layer: LayerId
    channels: int


class Merged(NamedTuple):
    """A self-attention call that does not hold one token per grid cell: another node merges, tiles or adds some."""

    layer: LayerId


class Mark:
    """Up while a block's self-attention runs; one for each model call, hence for each thread."""

    def __init__(self) -> None:
        self.in_self_attention = False
        self.cross = False  # whether a handler reads cross-attention
        self.passed = False  # whether an attention call went by, answered by whomever


class RawCall(NamedTuple):
    """One attention call as the host hands it to an override: func(q, k, v, heads, ..), mostly b n (h d) each."""

    func: Callable[..., Tensor]
    q: Tensor
    k: Tensor
    v: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: dict[str, Any]  # the live transformer_options
    mark: Mark
    previous: Callable[..., Tensor] | None  # another node's override

    @property
    def heads(self) -> int:
        """The number of heads, which some callers pass by name."""
        return self.args[0] if self.args else self.kwargs["heads"]

    @property
    def masked(self) -> bool:
        """Whether a mask comes with the call."""
        return len(self.args) > 1 or self.kwargs.get("mask") is not None

    @property
    def mask(self) -> Tensor | None:
        """The mask that comes with the call, n m with any batch axes before."""
        return self.args[1] if len(self.args) > 1 else self.kwargs.get("mask")

    @property
    def split(self) -> bool:
        """Whether q, k and v, or the answer, are b h n d."""
        return bool(self.kwargs.get("skip_reshape") or self.kwargs.get("skip_output_reshape"))

    def delegate(self, q: Tensor, k: Tensor, v: Tensor, **changed: Any) -> Tensor:
        """What the host, or the override before ours, answers: b n (h d), or b h n d where the call is split."""
        # q, k, v positionally: the backends do not agree on their names
        args = self.args[:1] if "mask" in changed else self.args
        if self.previous is None:
            return self.func(q, k, v, *args, **{**self.kwargs, **changed})
        return self.previous(self.func, q, k, v, *args, **{**self.kwargs, **changed})

    def unchanged(self) -> Tensor:
        """The answer to the call as it came, mostly b n (h d)."""
        return self.delegate(self.q, self.k, self.v)

    def exact(self) -> RawCall:
        """The same call, b n (h d) or b h n d, answered by a function that is exact for heads of any width."""
        call = (self.q, self.k, self.v)
        func, previous = exact_backend(self.func, self.previous, call, self.args, self.kwargs)
        return self._replace(func=func, previous=previous)

    def kernel(self) -> Kernel:
        """The host's attention function on b n (h d)."""

        def call(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
            """q b n (h d), k and v b m (h d), a mask b 1 m -> b n (h d)."""
            return self.delegate(q, k, v) if mask is None else self.delegate(q, k, v, mask=mask)

        def exact(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            """q b n (h d), k and v b m (h d) -> b n (h d)."""
            return self.exact().delegate(q, k, v)

        # on an accelerator a mask would trade the flash kernel for a slower one
        on_cpu = self.previous is None and self.q.device.type == "cpu"
        takes_key_mask = on_cpu and self.func.__name__ in MASKING_BACKENDS
        return Kernel(call, self.heads, takes_key_mask, exact=exact)


class Architecture(ABC, Generic[Raw]):
    """One kind of model, bound to a network of that kind; a raw attention call is whatever its host hands over."""

    parametrization: Parametrization
    large: bool = False  # the features of a single level take gigabytes

    def __init__(self, name: str, network: Any) -> None:
        self.name = name
        self._network = network

    @property
    def module(self) -> Any:
        """The network itself."""
        return self._network

    @classmethod
    @abstractmethod
    def fits(cls, network: Any) -> bool:
        """Whether a network is of this kind."""

    @cached_property
    @abstractmethod
    def layers(self) -> Mapping[LayerId, LayerFacts]:
        """Every self-attention layer, in the order of execution."""

    @abstractmethod
    def grids(self, size: tuple[int, ...]) -> dict[LayerId, Grid]:
        """The grid of picture tokens of each layer, for a latent of (h, w), or of (t, h, w)."""

    @abstractmethod
    def read(self, raw: Raw) -> Call | Merged | None:
        """What a raw call is; None for one that is not ours."""

    @abstractmethod
    def write(self, raw: Raw, picture: Tensor, text: Tensor | None = None) -> Tensor:
        """The raw call's answer, from that of the picture's tokens, b n c, and of those beside it, b m c."""

    @property
    def id(self) -> ModelId:
        """The identity that features depend on; weights, LoRAs and patches do not change it."""
        return ModelId.of(self.name, self.widths)

    @property
    def widths(self) -> dict[LayerId, int]:
        """The channels of each layer."""
        return {layer: facts.width for layer, facts in self.layers.items()}

    @property
    def kept_layers(self) -> str:
        """What an inversion keeps where the user does not say, in the language of layers."""
        return "all"

    @property
    def fused_layers(self) -> str:
        """And what a patcher fuses."""
        return self.kept_layers

    @property
    def rotation(self) -> Rotation | None:
        """How queries and keys are turned by their positions, where they are."""
        return None

    @property
    def centred(self) -> bool:
        """Whether positions count from the picture's middle, not from its first token."""
        return False

    @property
    def guided(self) -> bool:
        """Whether the model was distilled to take its guidance as an input."""
        return False

    @property
    def host_guidance(self) -> float:
        """What the host gives such a model where the prompt says nothing."""
        return 3.5

    def depth(self, text: int, references: Sequence[Grid] = ()) -> Depth:
        """Where the picture begins on the axes of the positions, beside a text of so many tokens.

        `references` are the (h, w) of the latents of reference pictures that stand before it.
        """
        return ()

    @property
    def resnet(self) -> ResNetFacts | None:
        """The ResNet that DiffStyler copies, where this kind has it."""
        return None


class HostArchitecture(Architecture[RawCall]):
    """A kind of model in the host's own words, whose `transformer_options` are dressed for one model call."""

    films: bool = False  # whether latents may have several frames
    shows_words: bool = False  # whether its cross-attention shows where a word is
    joint: bool = False  # whether text and picture are tokens of one attention
    since: tuple[int, ...] = ()  # the host's version that this kind needs

    @abstractmethod
    def marks(self, call: ModelCall) -> AbstractContextManager[Mark]:
        """Let running blocks make themselves known; the call's options leave as they came."""

    @abstractmethod
    def layers_answered_by_others(self, options: Mapping[str, Any], layers: Collection[LayerId]) -> list[LayerId]:
        """Which layers' self-attention another node answers by itself in this model call."""

    @abstractmethod
    def options_without_attention_patches(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """A model's options without what changes its tokens or answers its attention, and whether there was any."""

    def resnet_hook(
        self, call: ModelCall, handler: ResNetHandler, admits: Callable[[Mapping[str, Any]], bool]
    ) -> AbstractContextManager[None]:
        """Show the handler what enters the ResNet, in calls whose live options it admits; nothing without one."""
        return nullcontext()

    def added_hook(
        self, call: ModelCall, handler: ResNetHandler, admits: Callable[[Mapping[str, Any]], bool]
    ) -> AbstractContextManager[None]:
        """Show the handler what each ResNet adds that begins a decoder block, likewise; nothing without any."""
        return nullcontext()


def rows_of(options: Mapping[str, Any], latent: Grid | None) -> RowPlan:
    """The host's account of a batch."""
    entry, chunks = Entry.of(options), options.get("cond_or_uncond", (0,))
    if entry.plan is not None:
        return entry.plan._replace(latent=latent)
    negative = tuple(index in entry.negative for index in chunks) if entry.negative else ()
    windows = tuple(entry.areas.get(uuid) for uuid in options.get("uuids", ())) if entry.areas else ()
    return RowPlan(len(chunks), negative, windows, latent)


@contextmanager
def patched(options: dict[str, Any], **added: Any) -> Iterator[None]:
    """Patches appended to the host's lists of them, by name; the options leave as they came."""
    patches = options.get("patches") or {}
    more = {name: [*patches.get(name, ()), patch] for name, patch in added.items()}
    with put(options, "patches", {**patches, **more}):
        yield

"""Runs: what one sampling run of a patcher holds, and what it says that the run has left undone."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from ...banks.bank import FeatureBank
from ...core.detail import begins_decoder_block
from ...core.layers import LayerId, legal_range
from ..correspondences import Correspondences
from ..fusion_patch import Account, FusionPatch
from ..prefetch import Lane, lane_to
from ..replay import Held
from ..word_maps import WordWatch

logger = logging.getLogger("magicstyle")
_said: ContextVar[set[str] | None] = ContextVar("said", default=None)


@contextmanager
def each_sentence_once() -> Iterator[None]:
    """Within, several patchers of one sampling run say what holds for all of them once."""
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def say(sentence: str) -> None:
    """Warn of something, in a run of two models once."""
    said = _said.get()
    if said is None or sentence not in said:
        logger.warning("FFA Model Patcher: %s", sentence)
    if said is not None:
        said.add(sentence)


class Run:
    """Its patch on its canvas, its features and their way to a device, what became of its layers, what it warned of."""

    def __init__(
        self, patch: FusionPatch, bank: FeatureBank, *, steady: bool = True, words: WordWatch | None = None
    ) -> None:
        self.patch = patch
        self.bank = bank
        self.words = words
        self.account = Account()
        self.correspondences = Correspondences()
        self.yielded: set[LayerId] = set()  # to a node that was named
        self._steady = steady  # the weights stay the same for all model calls
        self._lanes: dict[torch.device, Lane | None] = {}
        self._held: dict[tuple[torch.device, torch.dtype], Held] = {}
        self._warned: set[str] = set()

    def __deepcopy__(self, memo: object) -> Run:
        return self

    def lane(self, device: torch.device) -> Lane | None:
        """What carries features to a device, the same for the whole run."""
        if device not in self._lanes:
            self._lanes[device] = lane_to(device)
        return self._lanes[device]

    def held(self, x: Tensor) -> Held:
        """What was replayed on the device and in the precision of a running latent b c h w."""
        return self._held.setdefault((x.device, x.dtype), Held()) if self._steady else Held()

    def called(self, replaced: Collection[LayerId], chosen: Collection[LayerId]) -> None:
        """After a model call: say once a run in which of the chosen layers another node leaves us nothing to fuse."""
        self._warn("replaces", replaced)
        self._warn("merges, tiles or adds tokens in", self.account.merged.intersection(chosen))

    def _warn(self, action: str, layers: Collection[LayerId]) -> None:
        self.yielded.update(layers)
        if not layers or action in self._warned:
            return
        self._warned.add(action)
        logger.warning(
            "FFA Model Patcher: another node %s the self-attention of %s; its result stands, nothing is fused there.",
            action,
            _named(layers),
        )


def left_undone(
    patch: FusionPatch, run: Run, runs: Mapping[str, Run], sigmas: Tensor, between: Sequence[str]
) -> Iterator[str]:
    """One sentence for what a run over levels n was to do and did not.

    `runs` are those of all patchers, `between` what other nodes have put between the sampler and the network.
    """
    if patch.neutral:
        return
    levels, account = [float(sigma) for sigma in sigmas[:-1]], run.account
    others = f" ({', '.join(dict.fromkeys(between))})" if between else ""
    visited = any(level in patch.window for level in levels)
    lost = account.lost.intersection(patch.layers)
    if lost:
        yield (
            f"another node{others} shows the model tiles, windows or another size of the latent, whose place in the "
            f"picture cannot be told: nothing is fused there in {_named(lost)}; take the node off the sampling model."
        )
    done = set().union(run.yielded, lost, *(each.account.fused for each in runs.values()))
    unseen = patch.layers.difference(done)
    if unseen and visited:
        yield (
            f"nothing was fused in {legal_range(sorted(unseen))}, whose self-attention never came by in this run: "
            f"another node{others} answers for the model or replaces its blocks; take it off the sampling model."
        )
    if patch.settings.controls.text_sees_style and account.fused and not account.texts:
        yield (
            "text_sees_style had nothing to act on: in this model the prompt has no part in the picture's "
            "self-attention; switch it off."
        )
    passed = {layer for layer in patch.layers if begins_decoder_block(layer)}.difference(account.detailed)
    if account.awaits_detail and account.fused and passed:
        yield (
            f"detail of Style Controls had nothing to act on before {_named(passed)}, whose ResNets never came by in "
            f"this run: another node{others} replaces the model's blocks or cuts the picture; take it off the sampling "
            "model."
        )
    if run.words is not None and account.fused and run.words.regions is None:
        yield (
            "Words for Styles: the model was never shown their prompt, or nothing but parts of the picture, so that "
            "each style acted everywhere: connect conditioning of Words for Styles to the sampler."
        )
    if levels and not visited and not account.fused and max(levels) >= patch.window.start >= min(levels):
        yield (
            "nothing was fused: none of the run's noise levels lies between start_percent and end_percent; "
            "set them further apart, or take more steps."
        )


def _named(layers: Iterable[LayerId]) -> str:
    return ", ".join(str(layer) for layer in sorted(layers))

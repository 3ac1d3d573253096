"""Prefetch: stored features on their way to the model's device, one layer ahead of the attention that needs them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch

from ..core.features import ROLES, AttentionFeatures, View
from ..core.layers import LayerId


class Lane(Protocol):
    """Carries features to a device while that computes."""

    device: torch.device

    def send(self, features: AttentionFeatures) -> Any:
        """Start to copy one layer's features, b n c each; what is returned is handed to `receive`."""

    def receive(self, sent: Any) -> AttentionFeatures:
        """The copies, b n c each, safe to use by what is computed next."""


class CudaLane:
    """Copies on a stream of its own, one for a run; those from page-locked memory run beside the model's kernels."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def send(self, features: AttentionFeatures) -> tuple[AttentionFeatures, torch.cuda.Event]:
        """Start to copy, b n c each, in the precision that is stored."""
        with torch.cuda.stream(self._stream):
            copies = features.map(lambda tensor: tensor.to(self.device, non_blocking=True))
            return copies, self._stream.record_event()

    def receive(self, sent: tuple[AttentionFeatures, torch.cuda.Event]) -> AttentionFeatures:
        """Let the model's stream, not the processor, wait for the copies, b n c each."""
        copies, arrived = sent
        running = torch.cuda.current_stream(self.device)
        running.wait_event(arrived)
        for tensor in copies:
            # their memory belongs to the lane's stream: it must not be reused before the model has read it
            tensor.record_stream(running)
        return copies


def lane_to(device: torch.device) -> Lane | None:
    """What carries features to a CUDA device; none is needed elsewhere."""
    return CudaLane(device) if device.type == "cuda" else None


def prefetched(view: View, layers: Sequence[LayerId], roles: str, lane: Lane) -> View:
    """A view of the same features on the lane's device; `layers` are read in this order.

    The first layer is sent at once, and each next one when the one before it is read: at most two are on the device
    at a time. A layer out of order is sent when it is read; what is kept of ResNets stays where it is.
    """
    following, kept = dict(pairwise(layers)), "".join(role for role in roles if role in ROLES)
    sent: dict[LayerId, Any] = {layer: lane.send(view.attention(layer, kept)) for layer in layers[:1]}

    def ahead(layer: LayerId, wanted: str) -> AttentionFeatures:
        """One layer's features, b n c each, while the next one's are on their way."""
        near = [layer, *([following[layer]] if layer in following else [])]
        for passed in set(sent).difference(near):
            del sent[passed]
        for soon in near:
            if soon not in sent:
                sent[soon] = lane.send(view.attention(soon, kept))
        return lane.receive(sent[layer]).select(wanted)

    return View(ahead, view.resnet, added=view.added)

"""Prefetch order, on a lane that only writes down what it is to do."""

import weakref

import pytest
import torch
from magicstyle.attention_patches import prefetch
from magicstyle.attention_patches.prefetch import CudaLane
from magicstyle.core.features import AttentionFeatures, View
from magicstyle.core.layers import LayerId

LAYERS = [LayerId("output", number, 0) for number in (6, 7, 8)]


class Notebook:
    """A lane that copies at once and keeps a record."""

    def __init__(self):
        self.events = []

    def send(self, features):
        self.events.append(("send", float(features.k[0])))
        return features.map(torch.clone)

    def receive(self, sent):
        self.events.append(("receive", float(sent.k[0])))
        return sent


def attention(layer, roles):
    return AttentionFeatures(**{role: torch.full((2,), float(layer.number)) for role in roles})


def prefetched(layers, roles, lane, resnet=None):
    """The attention of layers that are a lane away."""
    return prefetch.prefetched(View(attention, resnet), layers, roles, lane).attention


def test_a_lane_leads_to_cuda_devices_alone(monkeypatch):
    monkeypatch.setattr(prefetch, "CudaLane", lambda device: ("lane to", device))
    device = torch.device("cuda", 1)
    assert prefetch.lane_to(device) == ("lane to", device)
    assert prefetch.lane_to(torch.device("cpu")) is prefetch.lane_to(torch.device("meta")) is None


def test_each_layer_is_sent_while_the_one_before_it_is_used():
    lane = Notebook()
    ahead = prefetched(LAYERS, "kv", lane)
    assert lane.events == [("send", 6.0)]
    for layer in LAYERS:
        assert float(ahead(layer, "kv").v[0]) == layer.number
    sends = [("send", 6.0), ("send", 7.0), ("receive", 6.0), ("send", 8.0), ("receive", 7.0), ("receive", 8.0)]
    assert lane.events == sends


def test_a_layer_asked_twice_is_sent_once():
    lane = Notebook()
    ahead = prefetched(LAYERS, "qkv", lane)
    first, second = ahead(LAYERS[0], "q"), ahead(LAYERS[0], "kv")
    assert "k" not in first and "q" not in second
    assert lane.events.count(("send", 6.0)) == 1


def test_layers_out_of_order_arrive_all_the_same():
    ahead = prefetched(LAYERS, "kv", Notebook())
    assert [float(ahead(LAYERS[i], "k").k[0]) for i in (2, 0, 1)] == [8.0, 6.0, 7.0]


def test_resnet_inputs_are_not_sent():
    lane, inputs = Notebook(), torch.ones(2)
    ahead = prefetch.prefetched(View(attention, lambda: inputs), LAYERS, "kvx", lane)
    assert "".join(role for role, _ in ahead.attention(LAYERS[0], "kv").items()) == "kv"
    before = list(lane.events)
    assert ahead.resnet() is inputs and lane.events == before
    assert prefetch.prefetched(View(attention), LAYERS, "kv", lane).resnet is None


def test_what_resnets_add_is_not_sent():
    lane, stacks = Notebook(), dict.fromkeys(LAYERS, torch.ones(2))
    ahead = prefetch.prefetched(View(attention, added=stacks.get), LAYERS, "kvh", lane)
    before = list(lane.events)
    assert ahead.added(LAYERS[0]) is stacks[LAYERS[0]] and lane.events == before


class Counter:
    """A lane whose copies can be counted while they live."""

    class Copy:
        def __init__(self, features):
            self.features = features

    def __init__(self):
        self.copies = []

    def send(self, features):
        copy = self.Copy(features)
        self.copies.append(weakref.ref(copy))
        return copy

    def receive(self, sent):
        return sent.features

    @property
    def live(self):
        return sum(copy() is not None for copy in self.copies)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 0, 1, 1, 2, 3), (3, 1, 0, 2), (2, 3)])
def test_at_most_two_layers_are_on_the_device_at_a_time(order):
    layers, lane = [*LAYERS, LayerId("output", 9, 0)], Counter()
    ahead = prefetched(layers, "kv", lane)
    for place in order:
        ahead(layers[place], "k")
        assert lane.live <= 2
    assert lane.live == len({place for place in (order[-1], order[-1] + 1) if place < len(layers)})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_lane_delivers_what_was_sent():
    device = torch.device("cuda")
    kept = {layer: torch.randn(2, 4096, 320, dtype=torch.float16).pin_memory() for layer in LAYERS}
    stored = View(lambda layer, _: AttentionFeatures(k=kept[layer]))
    ahead = prefetch.prefetched(stored, LAYERS, "k", CudaLane(device)).attention
    for layer in LAYERS:
        found = ahead(layer, "k").k
        assert found.device.type == "cuda"
        torch.testing.assert_close((found * 2).cpu(), kept[layer] * 2)

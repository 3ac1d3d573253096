"""What the ResNets of a UNet's decoder add, shown in one model call."""

import threading

import pytest
import torch
from magicstyle.attention_patches.architectures.unet import Unet
from magicstyle.attention_patches.call import Handlers
from magicstyle.attention_patches.entry import with_entry
from magicstyle.attention_patches.model_call import ModelCall
from magicstyle.attention_patches.seam import hooked
from magicstyle.core.layers import LayerId
from torch import nn

BLOCKS = 2


class Obj:
    def __init__(self, **facts):
        self.__dict__.update(facts)


class Plus(nn.Module):
    def forward(self, x):
        return torch.ones_like(x)


class Network(nn.Module):
    """Output blocks that add 1, each with one transformer; called as the host's network is."""

    def __init__(self):
        super().__init__()
        self.input_blocks, self.middle_block, self.output_blocks = [], None, []
        for _ in range(BLOCKS):
            resnet = nn.Module()
            resnet.out_layers = nn.Sequential(nn.SiLU(), Plus())
            transformer = Obj(transformer_blocks=[Obj(attn1=Obj(heads=2, dim_head=4))])
            self.output_blocks.append([resnet, transformer])

    @property
    def convolutions(self):
        return [resnet.out_layers[-1] for resnet, _ in self.output_blocks]

    def run(self, options, within=lambda number: None):
        x = torch.zeros(1, 8, 2, 3)
        for number, convolution in enumerate(self.convolutions):
            options["block"] = ("output", number)
            for patch in options["patches"].get("output_block_patch", ()):
                patch(x, x, options)
            within(number)
            x = x + convolution(x)
        return x


def options():
    return {"patches": {}, "original_shape": [1, 4, 2, 3], "cond_or_uncond": [0]}


def call(own, network=None):
    return ModelCall(torch.zeros(1, 4, 2, 3), torch.ones(1), {}, None, own, network)


def doubled(seen):
    def handle(call):
        seen.append(call.layer)
        return 2.0 * call.x

    return Handlers(lambda call: None, added=handle)


def test_every_block_shows_what_it_adds_once_and_is_left_without_hooks():
    network, own, seen = Network(), options(), []
    with hooked(call(own), Unet("X", network), doubled(seen)):
        out = network.run(own)
    assert seen == [LayerId("output", number, 0) for number in range(BLOCKS)]
    assert torch.equal(out, torch.full_like(out, 2.0 * BLOCKS))
    assert not any(convolution._forward_hooks for convolution in network.convolutions)


def test_hooks_are_gone_behind_a_call_that_failed():
    network, own = Network(), options()
    with pytest.raises(ZeroDivisionError), hooked(call(own), Unet("X", network), doubled([])):
        network.run(own, within=lambda number: 1 / 0)
    assert not any(convolution._forward_hooks for convolution in network.convolutions)


def test_another_thread_in_the_same_block_is_not_heard():
    network, own, seen, x = Network(), options(), [], torch.zeros(1, 8, 2, 3)

    def elsewhere(number):
        found = []
        thread = threading.Thread(target=lambda: found.append(network.convolutions[number](x)))
        thread.start()
        thread.join()
        assert torch.equal(found[0], torch.ones_like(x))

    with hooked(call(own), Unet("X", network), doubled(seen)):
        out = network.run(own, within=elsewhere)
    assert len(seen) == BLOCKS and torch.equal(out, torch.full_like(out, 2.0 * BLOCKS))


def test_the_network_that_runs_is_heard_where_it_is_another_devices():
    base, running, own, seen = Network(), Network(), options(), []
    with hooked(call(own, running), Unet("X", base), doubled(seen)):
        out = running.run(own)
    assert len(seen) == BLOCKS and torch.equal(out, torch.full_like(out, 2.0 * BLOCKS))


def test_a_call_that_is_anothers_alone_passes_by():
    network, own, seen = Network(), options(), []
    with hooked(call(own), Unet("X", network), doubled(seen)):
        out = network.run(with_entry(own, only=object()))
    assert seen == [] and torch.equal(out, torch.full_like(out, float(BLOCKS)))


def test_an_executor_leads_to_the_network_that_runs():
    network, given = Network(), (torch.zeros(1, 4, 2, 3), torch.ones(1), None, None, None, {})
    assert ModelCall.read(given, {}, Obj(class_obj=Obj(diffusion_model=network))).network is network
    assert ModelCall.read(given, {}).network is None

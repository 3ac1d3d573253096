"""What is read off a network of each kind, on stand-ins with the attributes of the host's classes."""

from types import SimpleNamespace as Obj

import pytest
import torch
from magicstyle.attention_patches.architectures import find, kind_of
from magicstyle.attention_patches.architectures.base import LayerFacts, ResNetFacts
from magicstyle.attention_patches.architectures.flux import Chroma, Flux
from magicstyle.attention_patches.architectures.joint import AuraFlow, QwenImage, StableDiffusion3
from magicstyle.attention_patches.architectures.lumina import NextDiT
from magicstyle.attention_patches.architectures.unet import RESNET, Unet
from magicstyle.attention_patches.architectures.wan import Wan
from magicstyle.attention_patches.call import Handlers
from magicstyle.attention_patches.model_call import ModelCall
from magicstyle.attention_patches.seam import OVERRIDE, hooked
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.layers import LayerId
from magicstyle.tests.core.oracle import randn


class Downsample:
    """Known to the UNet by its class's name."""


def attending(heads=3, width=5, transformers=1):
    return Obj(transformer_blocks=[Obj(attn1=Obj(heads=heads, dim_head=width)) for _ in range(transformers)])


def unet(outputs=6, with_attention=(4, 5), middle=True):
    """Two downsamplings; the output blocks mirror the input blocks."""
    inputs = [[Obj()], [attending()], [Downsample()], [attending(heads=2)], [Downsample()], [Obj()]]
    out = [[Obj(), attending()] if number in with_attention else [Obj()] for number in range(outputs)]
    centre = [attending(heads=7, transformers=2)] if middle else None
    return Unet("SD15", Obj(input_blocks=inputs, middle_block=centre, output_blocks=out))


def test_a_unets_layers_are_named_in_the_order_of_execution_with_widths_and_heads():
    assert unet().layers == {
        LayerId("input", 1, 0): LayerFacts(15, 3),
        LayerId("input", 3, 0): LayerFacts(10, 2),
        LayerId("middle", 0, 0): LayerFacts(35, 7),
        LayerId("middle", 0, 1): LayerFacts(35, 7),
        LayerId("output", 4, 0): LayerFacts(15, 3),
        LayerId("output", 5, 0): LayerFacts(15, 3),
    }
    assert list(unet().layers) == sorted(unet().layers)  # i, m, o is the order
    assert [layer for layer in unet(middle=False).layers if layer.block == "middle"] == []


def test_a_unets_grids_are_halved_with_rounding_up_and_mirrored_on_the_way_up():
    grids = unet(with_attention=range(6)).grids((7, 13))
    assert {str(layer): grid for layer, grid in grids.items()} == {
        "input.1.0": (7, 13),
        "input.3.0": (4, 7),
        "middle.0.0": (2, 4),
        "middle.0.1": (2, 4),
        "output.0.0": (2, 4),
        "output.1.0": (2, 4),
        "output.2.0": (4, 7),
        "output.3.0": (4, 7),
        "output.4.0": (7, 13),
        "output.5.0": (7, 13),
    }


@pytest.mark.parametrize(
    "attention, kept, fused", [((0, 5), "output.0-5", "output.0-5"), ((0, 6), "output.3-11", "output.6-11")]
)
def test_a_unet_with_more_than_six_decoder_blocks_keeps_and_fuses_later_ones(attention, kept, fused):
    network = unet(outputs=7, with_attention=attention)
    assert (network.kept_layers, network.fused_layers) == (kept, fused)


def test_the_resnet_takes_two_inputs_of_its_blocks_width_where_the_block_has_attention():
    assert unet().resnet == ResNetFacts(RESNET, 30)
    assert unet(with_attention=(5,)).resnet is None


SD3 = [Obj(x_block=Obj(attn=Obj(qkv=Obj(in_features=12), num_heads=3), x_block_self_attn=own)) for own in (False, True)]


def sd3():
    return StableDiffusion3("SD3", Obj(joint_blocks=SD3, patch_size=2))


def test_sd3s_blocks_have_one_attention_or_two():
    names = ["double.0.0", "double.1.0", "double.1.1"]
    assert {str(layer): facts for layer, facts in sd3().layers.items()} == dict.fromkeys(names, LayerFacts(12, 3))


def test_sd3s_second_attention_is_that_of_the_picture_alone():
    text, tokens, seen, options = 4, 6, [], {}
    inputs = torch.zeros(1, 4, 4, 6), torch.ones(1), None, torch.zeros(1, text, 7), None, options

    def attention(q, k, v, heads, **_):
        return torch.zeros_like(q)

    def block(args):
        for count in (text + tokens, tokens):
            x = randn(count, 1, count, 12)
            options[OVERRIDE](attention, x, x, x, 3)

    def handler(call):
        seen.append((str(call.layer), call.layout.picture, call.live.q.shape[1], call.kernel.beside is None))

    with hooked(ModelCall.read(inputs, {}), sd3(), Handlers(handler)):
        patch = options["patches_replace"]["dit"]["double_block", 1]
        patch({"img": None, "txt": torch.zeros(1, text, 7)}, {"original_block": block})
    assert seen == [("double.1.0", slice(4, 10), 6, False), ("double.1.1", slice(0, 6), 6, True)]


def network_named(kind, base=object):
    """A class that calls itself what the host's class is called."""
    module, name = kind.network.rsplit(".", 1)
    return type(name, (base,), {"__module__": module, "__qualname__": name})


def test_a_transformer_is_known_by_its_class_alone():
    for kind in (Flux, Chroma, StableDiffusion3, QwenImage, AuraFlow, Wan, NextDiT):
        network = network_named(kind)
        assert kind_of(network()) is kind
        derived = type("Other", (network,), {"__module__": network.__module__})
        assert kind_of(derived()) is None


def test_a_unet_is_known_by_its_blocks_and_everything_else_is_unknown():
    assert kind_of(Obj(input_blocks=[], output_blocks=[])) is Unet
    assert kind_of(Obj(input_blocks=[])) is kind_of(Obj(output_blocks=[])) is None
    model = Obj(get_model_object=lambda name: {"diffusion_model": Obj(input_blocks=[], output_blocks=[])}[name])
    model.model = SD15()
    assert find(model).name == "SD15"
    model.get_model_object = lambda name: SD15()
    with pytest.raises(MagicStyleError, match="model is a SD15, whose attention is not known here: load a checkpoint"):
        find(model)


class SD15:
    """A model or a network that is called so."""


def mark_of(kind, network, text=9, size=(5, 8), **inputs):
    """(grid, text tokens) of a model call with a text of so many tokens."""
    given = torch.zeros(1, 4, *size), torch.ones(1), None, torch.zeros(1, text, 7) if text else None, None, {}
    with kind("X", network).marks(ModelCall.read(given, inputs)) as mark:
        return mark.grid, mark.text


def test_widths_and_heads_are_read_where_each_kind_has_them():
    qwen = QwenImage("X", Obj(transformer_blocks=[Obj(attn=Obj(inner_dim=12, heads=3))]))
    attention = Obj(attn=Obj(n_heads=3, head_dim=5))
    aura = AuraFlow("X", Obj(double_layers=[attention], single_layers=[attention]))
    lumina = NextDiT("X", Obj(layers=[Obj(attention=Obj(n_local_heads=3, head_dim=5))]))
    wan = Wan("X", Obj(blocks=[Obj(self_attn=Obj(dim=12, num_heads=3))]))
    flux = Flux("X", Obj(double_blocks=[Obj()], single_blocks=[Obj()], hidden_size=12, num_heads=3))
    assert (
        [str(layer) for layer in aura.layers] == [str(layer) for layer in flux.layers] == ["double.0.0", "single.0.0"]
    )
    for found, width in ((qwen, 12), (aura, 15), (lumina, 15), (wan, 12), (flux, 12)):
        assert set(found.layers.values()) == {LayerFacts(width, 3)}


def test_a_grid_has_a_token_for_every_patch_that_was_begun():
    aura = Obj(double_layers=[], single_layers=[], patch_size=2, register_tokens=torch.zeros(1, 8, 4))
    assert mark_of(AuraFlow, aura) == ((3, 4), 17)  # registers stand before the text
    assert mark_of(Wan, Obj(blocks=[], patch_size=(1, 3, 3))) == ((2, 3), 0)  # the text is not among the tokens
    assert mark_of(QwenImage, Obj(transformer_blocks=[], patch_size=1), text=0) == ((5, 8), 0)


@pytest.mark.parametrize("multiple, text, depth", [(None, 9, 10.0), (32, 32, 33.0)])
def test_lumina_pads_its_caption_and_places_the_picture_behind_it(multiple, text, depth):
    network = Obj(layers=[], patch_size=2, pad_tokens_multiple=multiple)
    assert mark_of(NextDiT, network) == ((3, 4), text)
    assert NextDiT("X", network).depth(9) == depth


def test_other_kinds_place_the_picture_at_the_beginning_whatever_the_text():
    assert Flux("X", Obj()).depth(77) == unet().depth(77) == 0.0
    assert unet().rotation is None and not unet().guided


@pytest.mark.parametrize("embed", [True, False])
def test_flux_is_guided_where_it_embeds_a_guidance(embed):
    assert Flux("X", Obj(params=Obj(guidance_embed=embed))).guided is embed
    assert Flux("X", Obj(params=Obj())).guided is False


def test_rotation_is_read_off_the_networks_embedder():
    embedder = Obj(axes_dim=[16, 56, 56], theta=10_000)
    for name in ("pe_embedder", "rope_embedder"):
        assert Flux("X", Obj(**{name: embedder})).rotation == ((16, 56, 56), 10_000.0)
    assert Flux("X", Obj()).rotation is None

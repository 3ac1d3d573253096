"""What is read off a network of each kind, on stand-ins with the attributes of the host's classes."""

import threading
from types import SimpleNamespace as Obj

import pytest
import torch
from einops import rearrange
from magicstyle.attention_patches.architectures import find, kind_of
from magicstyle.attention_patches.architectures.base import LayerFacts, RawCall, ResNetFacts
from magicstyle.attention_patches.architectures.cosmos import Anima, Cosmos
from magicstyle.attention_patches.architectures.flux import Chroma, Flux
from magicstyle.attention_patches.architectures.hidream import HiDream
from magicstyle.attention_patches.architectures.hunyuan import HunyuanImage
from magicstyle.attention_patches.architectures.ideogram import Ideogram4
from magicstyle.attention_patches.architectures.joint import AuraFlow, QwenImage, StableDiffusion3
from magicstyle.attention_patches.architectures.krea import Krea2
from magicstyle.attention_patches.architectures.lumina import NextDiT
from magicstyle.attention_patches.architectures.omnigen import Boogu, OmniGen2
from magicstyle.attention_patches.architectures.unet import RESNET, Unet
from magicstyle.attention_patches.architectures.wan import Wan
from magicstyle.attention_patches.call import Handlers
from magicstyle.attention_patches.model_call import ModelCall
from magicstyle.attention_patches.seam import OVERRIDE, hooked
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.grid import Grid
from magicstyle.core.layers import LayerId
from magicstyle.core.rotation import Rotation
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
        seen.append((str(call.layer), call.layout.picture, call.live.q.shape[1], call.kernel.text_source is None))

    with hooked(ModelCall.read(inputs, {}), sd3(), Handlers(handler)):
        patch = options["patches_replace"]["dit"]["double_block", 1]
        patch({"img": None, "txt": torch.zeros(1, text, 7)}, {"original_block": block})
    assert seen == [("double.1.0", slice(4, 10), 6, False), ("double.1.1", slice(0, 6), 6, True)]


def network_named(kind, base=object):
    """A class that calls itself what the host's class is called."""
    module, name = kind.network.rsplit(".", 1)
    return type(name, (base,), {"__module__": module, "__qualname__": name})


def test_a_transformer_is_known_by_its_class_alone():
    older = (Flux, Chroma, StableDiffusion3, QwenImage, AuraFlow, Wan, NextDiT)
    for kind in (*older, Krea2, Cosmos, Anima, HiDream, Ideogram4, OmniGen2, Boogu):
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


@pytest.mark.parametrize("multiple, text, depth", [(None, 9, (10.0,)), (32, 32, (33.0,))])
def test_lumina_pads_its_caption_and_places_the_picture_behind_it(multiple, text, depth):
    network = Obj(layers=[], patch_size=2, pad_tokens_multiple=multiple)
    assert mark_of(NextDiT, network) == ((3, 4), text)
    assert NextDiT("X", network).depth(9) == depth


def test_other_kinds_place_the_picture_at_the_beginning_whatever_the_text():
    assert Flux("X", Obj()).depth(77) == unet().depth(77) == ()
    assert unet().rotation is None and not unet().guided


@pytest.mark.parametrize("embed", [True, False])
def test_flux_is_guided_where_it_embeds_a_guidance(embed):
    assert Flux("X", Obj(params=Obj(guidance_embed=embed))).guided is embed
    assert Flux("X", Obj(params=Obj())).guided is False


def test_rotation_is_read_off_the_networks_embedder():
    embedder = Obj(axes_dim=[16, 56, 56], theta=10_000)
    for name in ("pe_embedder", "rope_embedder"):
        assert Flux("X", Obj(**{name: embedder})).rotation == Rotation((16, 56, 56), 10_000.0)
    assert Flux("X", Obj()).rotation is None


def test_longcat_is_a_flux_whose_picture_stands_behind_its_caption_in_rows_and_columns():
    assert Flux("LongCatImage", Obj()).depth(12) == (1.0, 12.0, 12.0)


def test_a_reference_pushes_omnigens_picture_by_its_longer_side():
    assert OmniGen2("X", Obj(patch_size=2)).depth(7) == (7.0,)
    assert OmniGen2("X", Obj(patch_size=2)).depth(7, [Grid((5, 4)), Grid((6, 10))]) == (7.0 + 3 + 5,)


def krea(blocks):
    return Krea2("Krea2", Obj(blocks=[Obj(attn=Obj(heads=3, headdim=5)) for _ in range(blocks)], patch=2))


@pytest.mark.parametrize("blocks, auto", [(28, "single.7-27"), (4, "all")])
def test_krea_2_draws_style_in_its_later_blocks_where_it_has_as_many_as_the_published_one(blocks, auto):
    assert krea(blocks).kept_layers == krea(blocks).fused_layers == auto
    assert len(krea(blocks).layers) == blocks


def hunyuan(patch_size):
    network = network_named(HunyuanImage)()
    network.patch_size, network.double_blocks, network.single_blocks = patch_size, [], []
    return network


def test_hunyuans_models_of_films_are_not_its_model_of_pictures():
    assert kind_of(hunyuan([1, 1])) is HunyuanImage
    assert kind_of(hunyuan([1, 2, 2])) is kind_of(hunyuan([1, 1, 1])) is None


def test_hunyuan_refuses_a_mask_of_padding_for_two_rows_where_the_host_fails():
    given = torch.zeros(2, 4, 4, 6), torch.ones(2), None, torch.zeros(2, 5, 7), None, {}
    call = ModelCall.read(given, {"attention_mask": torch.ones(2, 5)})
    with (
        pytest.raises(MagicStyleError, match="a mask of its padding, which ComfyUI's Hunyuan-Image takes for one row"),
        HunyuanImage("X", hunyuan([1, 1])).marks(call),
    ):
        pass
    with HunyuanImage("X", hunyuan([1, 1])).marks(ModelCall.read(given, {})) as mark:
        assert mark.grid == (4, 6)


class Attending(torch.nn.Module):
    """An attention module of two heads that the host's function answers: b n c, or nothing but a call within a call."""

    def __init__(self, options):
        super().__init__()
        self.attention_options, self.hidden_size, self.num_heads, self.inside = options, 8, 2, None

    def forward(self, x):
        if self.inside is not None:
            self.inside()
        return self.attention_options[OVERRIDE](lambda q, *_, **__: torch.zeros_like(q), x, x, x, 2)


def ideogram(count=2):
    """(architecture, options, its attention modules)."""
    options = {}
    modules = [Attending(options) for _ in range(count)]
    network = Obj(layers=[Obj(attention=module) for module in modules])
    return Ideogram4("Ideogram4", network), options, modules


def ideogram_call(options):
    return ModelCall.read((torch.zeros(1, 128, 2, 3), torch.ones(1), None, torch.zeros(1, 4, 7), None, options), {})


def seeing(seen):
    def handler(call):
        seen.append((str(call.layer), call.layout.picture))

    return Handlers(handler)


def test_hooks_name_the_layer_that_runs_and_are_gone_behind_the_call():
    architecture, options, modules = ideogram()
    seen, x = [], randn(1, 1, 10, 8)
    with hooked(ideogram_call(options), architecture, seeing(seen)):
        for module in modules:
            module(x)
        options[OVERRIDE](lambda q, *_, **__: q, x, x, x, 2)  # between the layers
    assert seen == [("single.0.0", slice(4, 10)), ("single.1.0", slice(4, 10))]
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in modules)
    assert options == {}


def test_hooks_are_gone_behind_a_call_that_failed():
    architecture, options, modules = ideogram()
    modules[0].inside = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError), hooked(ideogram_call(options), architecture, seeing([])):
        modules[0](randn(1, 1, 10, 8))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in modules)


def test_a_call_within_an_attention_does_not_take_its_layer_away():
    architecture, options, modules = ideogram()
    seen, x = [], randn(1, 1, 10, 8)
    modules[0].inside = lambda: modules[1](x)
    with hooked(ideogram_call(options), architecture, seeing(seen)):
        modules[0](x)
    assert [layer for layer, _ in seen] == ["single.1.0", "single.0.0"]


def test_a_call_in_another_thread_does_not_reach_this_ones_mark():
    architecture, options, modules = ideogram(1)
    seen, x = [], randn(1, 1, 10, 8)

    def elsewhere():
        thread = threading.Thread(target=modules[0], args=(x,))
        thread.start()
        thread.join()

    with hooked(ideogram_call(options), architecture, seeing(seen)):
        elsewhere()
        assert seen == []
        modules[0](x)
    assert [layer for layer, _ in seen] == ["single.0.0"]


def test_grouped_keys_and_values_serve_as_many_heads_as_queries():
    attention = Obj(heads=4, dim_head=2)
    architecture = OmniGen2("X", Obj(layers=[], patch_size=2))
    assert architecture._facts(Obj(attn=attention)) == LayerFacts(8, 4)
    q, k, v = randn(1, 1, 4, 10, 2), randn(2, 1, 2, 10, 2), randn(3, 1, 2, 10, 2)
    given = torch.zeros(1, 4, 4, 6), torch.ones(1), None, torch.zeros(1, 4, 7), None, {}
    seen = {}

    def host_attention(q, k, v, heads, **kwargs):
        seen.update(shapes={tuple(x.shape) for x in (k, v)}, kwargs=kwargs)
        return torch.zeros(q.shape[0], q.shape[2], 8)

    with architecture.marks(ModelCall.read(given, {})) as mark:
        mark.running_layers.append(LayerId("double", 0, 0))
        raw = RawCall(host_attention, q, k, v, (4,), {"skip_reshape": True, "enable_gqa": True}, {}, mark, None)
        call = architecture.read(raw)
        keys = rearrange(call.live.k, "b n (h d) -> b h n d", h=4)
        assert torch.equal(keys, k[:, [0, 0, 1, 1], 4:])
        assert call.layout.picture == slice(4, 10) and call.layout.depth == (4.0,)
        architecture.write(raw, torch.zeros(1, 6, 8))
    assert seen == {"shapes": {(1, 4, 10, 2)}, "kwargs": {"skip_reshape": True, "mask": None}}


def test_hidreams_editing_model_is_refused():
    given = torch.zeros(1, 4, 4, 6), torch.ones(1), None, torch.zeros(1, 4, 7), None, {}
    architecture = HiDream("HiDream", Obj(double_stream_blocks=[], single_stream_blocks=[], patch_size=2))
    call = ModelCall.read(given, {"image_cond": torch.zeros(1, 4, 4, 6)})
    with pytest.raises(MagicStyleError, match="a picture to edit, which HiDream-E1 puts"), architecture.marks(call):
        pass


@pytest.mark.parametrize("flipped, picture", [(False, slice(4, 10)), (True, slice(0, 6))])
def test_older_hosts_have_hunyuans_picture_before_the_text(flipped, picture):
    network = hunyuan([1, 1])
    network.double_blocks, network.hidden_size, network.num_heads = [Obj(flipped_img_txt=flipped)], 8, 2
    seen, x, options = [], randn(1, 1, 10, 8), {}
    call = ModelCall.read((torch.zeros(1, 64, 2, 3), torch.ones(1), None, torch.zeros(1, 4, 7), None, options), {})

    def block(args):
        return options[OVERRIDE](lambda q, *_, **__: torch.zeros_like(q), x, x, x, 2)

    with hooked(call, HunyuanImage("HunyuanImage21", network), seeing(seen)):
        patch = options["patches_replace"]["dit"]["double_block", 0]
        patch({"img": None, "txt": torch.zeros(1, 4, 7)}, {"original_block": block})
    assert seen == [("double.0.0", picture)]

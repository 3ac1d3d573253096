"""What a model file is, before anything large is loaded."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from magicstyle.core.errors import MagicStyleError
from magicstyle.headless.engine.checkpoints import SD15_DEPTHS, layers_of, model_file
from magicstyle.headless.engine.model import SD15_UNET, unet_config
from magicstyle.headless.pictures.sizes import LongerSide
from magicstyle.model_files.checkpoint import SD15_SIGNATURE
from magicstyle.model_files.demo import DEMO_MODEL
from safetensors.torch import save_file

PACK = Path(__file__).resolve().parents[2]
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
FIRST = f"{UNET}input_blocks.0.0.weight"
CROSS = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def saved(path, shapes, metadata=None):
    save_file({name: torch.zeros(shape, dtype=torch.uint8) for name, shape in shapes.items()}, path, metadata)
    return path


@pytest.fixture
def sd15():
    return dict(SD15_SIGNATURE)


KINDS = {
    "a LoRA": {"lora_unet_down_blocks_0_attentions_0.lora_down.weight": (4, 320)},
    "an SDXL checkpoint": {FIRST: (320, 4, 3, 3), "conditioner.embedders.0.weight": (1,)},
    "a flow-matching model": {f"{UNET}double_blocks.0.img_attn.proj.weight": (1,)},
    "a ControlNet": {"control_model.zero_convs.0.0.weight": (1,)},
    "an SD2 checkpoint": {FIRST: (320, 4, 3, 3), CROSS: (320, 1024)},
    "an inpainting checkpoint": {FIRST: (320, 9, 3, 3), CROSS: (320, 768)},
    "a UNet of diffusers alone": {"conv_in.weight": (1,), "down_blocks.0.resnets.0.conv1.weight": (1,)},
    "a UNet alone": {FIRST: (320, 4, 3, 3), CROSS: (320, 768)},
    "without a text encoder": {FIRST: (320, 4, 3, 3), f"{VAE}decoder.conv_in.weight": (512, 4, 3, 3)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_file_of_another_kind_is_named(tmp_path, kind):
    path = saved(tmp_path / "model.safetensors", KINDS[kind])
    with pytest.raises(MagicStyleError, match=f"model.safetensors is {kind}, not an SD1.5 checkpoint: .+") as caught:
        model_file(path)
    assert "\n" not in str(caught.value)


FLOW = {"Flux": "double_blocks.0.img_attn.qkv", "SD3": "joint_blocks.0.x_block.attn.qkv", "Chroma": "double_blocks.0.a"}
FLOW |= {"AuraFlow": "double_layers.0.attn.w1q", "Lumina": "cap_embedder.0"}


@pytest.mark.parametrize("name", FLOW)
def test_the_advice_on_a_flow_model_is_what_the_nodes_can_do(tmp_path, name):
    path = saved(tmp_path / "model.safetensors", {f"{UNET}{FLOW[name]}.weight": (1,)})
    with pytest.raises(MagicStyleError, match="the nodes in ComfyUI paint with ") as caught:
        model_file(path)
    assert name in str(caught.value) and name in (PACK / "docs" / "models.md").read_text(encoding="utf-8")


def test_what_is_of_no_known_kind_is_named_by_what_it_lacks(tmp_path, sd15):
    sd15.pop(CROSS)
    with pytest.raises(
        MagicStyleError, match="is not a Stable Diffusion 1.5 checkpoint .*attn2.to_k.weight is missing"
    ):
        model_file(saved(tmp_path / "model.safetensors", sd15))


def test_an_sd15_checkpoint_is_taken_with_its_layers_and_a_free_aspect(tmp_path, sd15):
    found = model_file(saved(tmp_path / "model.safetensors", sd15))
    assert not found.frame.fixed and found.frame.size == (512, 512) and found.title.endswith("model.safetensors")


def test_the_demo_model_has_one_longer_side_and_its_own_layers(model):
    found = model_file(None)
    assert found.frame == LongerSide(512)  # measured: nearer to person and style than the side it was trained at
    assert list(found.layers) == list(model.layers) and found.title == "the demo model"


def test_layers_are_those_of_the_loaded_network():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(SD15_UNET))
    blocks = sum(name.endswith(".attn1") for name, _ in unet.named_modules())
    assert {name: SD15_UNET[name] for name in SD15_DEPTHS} == SD15_DEPTHS
    assert len(layers_of(SD15_UNET)) == blocks == 16


@pytest.mark.parametrize(
    "name, words",
    [
        ("magicstyle-demo-model-1", "is the demo model: leave --checkpoint out"),
        ("magicstyle-demo-transformer-1", "is the demo transformer, which paints in ComfyUI alone: leave --checkpoint"),
    ],
)
def test_a_copy_of_a_demo_model_is_known_by_its_header(tmp_path, name, words):
    header = {"format": json.dumps(name)}
    with pytest.raises(MagicStyleError, match=words):
        model_file(saved(tmp_path / "x.safetensors", {"a": (1,)}, header))


@pytest.mark.parametrize("place", [0, 5_000_000, -1])
def test_two_models_of_one_name_and_size_are_told_apart(tmp_path, sd15, place):
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = saved(tmp_path / folder / "model.safetensors", sd15)
        if folder == "b":
            with path.open("r+b") as file:
                start = 8 + int.from_bytes(file.read(8), "little")
                size = path.stat().st_size - start
                file.seek(start + place % size)
                file.write(b"\1" * min(300_000, size - place % size))
        names.append(model_file(path).identity)
    assert names[0] != names[1] and all(name.startswith("model.safetensors ") for name in names)


def test_the_identity_of_a_model_does_not_depend_on_its_folder(tmp_path):
    copy = tmp_path / DEMO_MODEL.name
    copy.write_bytes(DEMO_MODEL.read_bytes())
    from magicstyle.headless.engine.checkpoints import _identity

    assert _identity(copy) == _identity(DEMO_MODEL)

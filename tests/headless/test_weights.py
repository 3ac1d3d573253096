"""Model files: what is read, and what is said about files that are something else."""

import json

import pytest
import torch
from magicstyle.core.errors import MagicStyleError
from magicstyle.model_files.checkpoint import SD15_SIGNATURE, read_sd15_checkpoint, under
from magicstyle.model_files.demo import DEMO_FORMAT, PROMPT, TRANSFORMER_FORMAT, read_demo_file, read_demo_transformer
from safetensors.torch import save_file

HEADER = {
    "format": DEMO_FORMAT,
    "unet_config": {"in_channels": 32},
    "ddconfig": {"ch": 64},
    "embed_dim": 32,
    "latent_channels": 32,
    "downscale_ratio": 8,
    "scale_factor": 0.9,
    "latent_rgb_factors": [[0.1, 0.2, 0.3]],
    "latent_rgb_factors_bias": [0.0, 0.0, 0.0],
}
FLOW_HEADER = {"format": TRANSFORMER_FORMAT, "transformer_config": {"dim": 192}, "schedule": {"shift": 1.0}}


def write(path, tensors, header=None):
    save_file(tensors, path, {key: json.dumps(value) for key, value in (header or {}).items()})
    return path


def without(name):
    return {key: value for key, value in HEADER.items() if key != name}


def test_demo_file_gives_header_and_single_precision(tmp_path):
    path = write(tmp_path / "demo.safetensors", {PROMPT: torch.ones(1, 8, 4, dtype=torch.float16)}, HEADER)
    file = read_demo_file(path)
    assert file.header.scale_factor == 0.9 and file.header.latent_channels == 32
    assert file.prompt.dtype == torch.float32 and file.prompt.shape == (1, 8, 4)


def test_the_transformers_file_gives_its_header_and_single_precision(tmp_path):
    path = write(tmp_path / "flow.safetensors", {PROMPT: torch.ones(1, 8, 4, dtype=torch.float16)}, FLOW_HEADER)
    file = read_demo_transformer(path)
    assert file.header.transformer_config == {"dim": 192} and file.header.schedule["shift"] == 1.0
    assert file.prompt.dtype == torch.float32 and file.prompt.shape == (1, 8, 4)


@pytest.mark.parametrize("read, header", [(read_demo_file, FLOW_HEADER), (read_demo_transformer, HEADER)])
def test_one_demo_model_is_not_taken_for_the_other(tmp_path, read, header):
    path = write(tmp_path / "demo.safetensors", {PROMPT: torch.ones(1, 8, 4)}, header)
    with pytest.raises(MagicStyleError, match="has the format .*: take the file that came with this version"):
        read(path)


@pytest.mark.parametrize(
    "header, words",
    [
        ({}, "not the demo model.*'format'"),
        (without("scale_factor"), "not the demo model.*'scale_factor'"),
        ({**HEADER, "format": "magicstyle-demo-model-9"}, "format .*9.*not magicstyle-demo-model-1"),
    ],
)
def test_a_file_that_is_not_the_demo_model_is_refused_in_one_sentence(tmp_path, header, words):
    path = write(tmp_path / "demo.safetensors", {PROMPT: torch.ones(1, 8, 4)}, header)
    with pytest.raises(MagicStyleError, match=words) as caught:
        read_demo_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x08" + bytes(20)])
@pytest.mark.parametrize("read", [read_demo_file, read_demo_transformer, read_sd15_checkpoint])
def test_damaged_files_are_refused(tmp_path, read, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(MagicStyleError, match="model.safetensors is not a readable .safetensors file"):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MagicStyleError, match="does not exist"):
        read_demo_file(tmp_path / "nowhere.safetensors")


def signature(**changes):
    return {name: torch.zeros(changes.get(name, shape), dtype=torch.float16) for name, shape in SD15_SIGNATURE.items()}


def test_sd15_checkpoint_is_known_by_its_shapes_and_other_tensors_are_left_out(tmp_path):
    path = write(tmp_path / "sd15.safetensors", {**signature(), "model_ema.decay": torch.zeros(1)})
    assert read_sd15_checkpoint(path).keys() == SD15_SIGNATURE.keys()


def test_text_encoder_names_may_lack_a_level(tmp_path):
    short = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in signature().items()}
    path = write(tmp_path / "sd15.safetensors", short)
    assert read_sd15_checkpoint(path).keys() == SD15_SIGNATURE.keys()


@pytest.mark.parametrize("name", SD15_SIGNATURE)
def test_other_checkpoints_are_refused(tmp_path, name):
    tensors = signature()
    del tensors[name]
    path = write(tmp_path / "other.safetensors", tensors)
    with pytest.raises(MagicStyleError, match="not a Stable Diffusion 1.5 checkpoint .*is missing"):
        read_sd15_checkpoint(path)


def test_a_wider_text_width_is_refused_with_its_shape(tmp_path):
    name = next(name for name in SD15_SIGNATURE if "attn2.to_k" in name)
    path = write(tmp_path / "sd21.safetensors", signature(**{name: (320, 1024)}))
    with pytest.raises(MagicStyleError, match=r"has the shape \(320, 1024\)"):
        read_sd15_checkpoint(path)


def test_under_takes_a_prefix_off():
    assert under("a.", {"a.b": torch.zeros(1), "c.a.d": torch.zeros(1)}).keys() == {"b"}

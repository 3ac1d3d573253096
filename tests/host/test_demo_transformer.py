"""The demo transformer in the host's own NextDiT answers as the network that was trained, and through our nodes."""

import pytest
import torch
from magicstyle.attention_patches.architectures.lumina import NextDiT
from magicstyle.attention_patches.comfy.models import host_version
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.layers import LayerId
from magicstyle.model_files.demo import DEMO_MODEL, DEMO_TRANSFORMER, read_demo_file, read_demo_transformer
from magicstyle.nodes.demo_model import MODELS, DemoModel, flow_prompt, host_transformer
from magicstyle.nodes.inversion.run import invert
from magicstyle.nodes.midpoint_sampler import MidpointSampler
from magicstyle.tests.host.tiny import run_sampler
from magicstyle.tools.demo_model.model_file import FlowModel, load_transformer, save_transformer
from magicstyle.tools.demo_model.transformer import TransformerConfig

SMALL = TransformerConfig(dim=48, n_layers=2, n_heads=2, axes_dims=(8, 8, 8))
SHIPPED = 32_000_000  # bytes that the weights of all demo models may take


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file as the export writes it, of a network whose last layer and gates are not zero."""
    torch.manual_seed(0)
    model = FlowModel(SMALL)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    path = tmp_path_factory.mktemp("demo") / "transformer.safetensors"
    save_transformer(path, model)
    return path


@pytest.mark.parametrize("grid", [(16, 16), (12, 20)])
def test_the_host_answers_as_the_trained_network(path, grid):
    torch.manual_seed(1)
    x, sigma = torch.randn(2, 32, *grid), torch.tensor([0.3, 0.8])
    file = read_demo_transformer(path)
    host = host_transformer(file, read_demo_file().header).model
    ((prompt, facts),) = flow_prompt(file)
    length = int(facts["attention_mask"].sum())
    with torch.inference_mode():
        wanted = load_transformer(path)(x, sigma)
        denoised = host.apply_model(x, sigma, c_crossattn=prompt.expand(2, -1, -1), num_tokens=length)
    found = (x - denoised) / sigma[:, None, None, None]
    assert wanted.std() > 0.1
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_a_missing_weight_is_said_in_one_sentence(path):
    file = read_demo_transformer(path)
    del file.tensors["model.diffusion_model.layers.1.attention.qkv.weight"]
    with pytest.raises(MagicStyleError, match=r"do not fit.*layers.1.attention.qkv.weight"):
        host_transformer(file, read_demo_file().header)


def test_the_unet_stays_the_default_and_other_names_are_refused():
    (choice,) = DemoModel.GET_SCHEMA().inputs  # validated: older hosts want other ids for outputs
    assert choice.id == "model" and choice.optional and MODELS[0] == "unet"
    assert type(DemoModel.execute().args[0].model.diffusion_model).__name__ == "UNetModel"
    assert DemoModel.validate_inputs() is True and DemoModel.validate_inputs(model="transformer") is True
    assert "not in unet, transformer" in DemoModel.validate_inputs(model="pixels")


def test_both_shipped_models_share_the_autoencoder_and_fit_into_the_pack():
    unet, transformer = (DemoModel.execute(name).args for name in MODELS)
    assert type(transformer[0].model.diffusion_model).__name__ == "NextDiT"
    formats = [args[0].get_model_object("latent_format") for args in (unet, transformer)]
    assert formats[0].scale_factor == formats[1].scale_factor
    assert DEMO_MODEL.stat().st_size + DEMO_TRANSFORMER.stat().st_size < SHIPPED


@pytest.fixture(scope="module")
def walk():
    """Through our nodes: 10 steps of midpoint from the shipped portrait to its noise."""
    model, vae, prompt, content, *_ = DemoModel.execute("transformer").args
    with torch.inference_mode():
        latent = vae.encode(content)

    def run():
        with torch.inference_mode():
            return invert(
                "content", model, {"samples": latent}, prompt, steps=10, scheduler="ddim_uniform", method="midpoint"
            )

    return model, prompt, latent, run


@pytest.mark.skipif(host_version() < NextDiT.since, reason="the demo transformer needs ComfyUI 0.5.0")
def test_the_shipped_transformer_goes_to_the_noise_and_back(walk):
    model, prompt, latent, run = walk
    found, midpoint = run(), MidpointSampler.execute().args[0]
    with torch.inference_mode():
        back = run_sampler(model, found.noise["samples"], found.sigmas, 1.0, prompt, prompt, midpoint)
    assert sorted(found.features.header.layers) == [LayerId("double", number, 0) for number in range(8)]
    assert (back - latent).norm() < 0.1 * latent.norm()
    assert (found.noise["samples"] - latent).norm() > 0.5 * latent.norm()


@pytest.mark.skipif(host_version() >= NextDiT.since, reason="this ComfyUI runs the demo transformer")
def test_an_older_host_refuses_it_in_one_sentence(walk):
    *_, run = walk
    with pytest.raises(MagicStyleError, match=r"ComfyUI 0.5.0 or newer is needed"):
        run()

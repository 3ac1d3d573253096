"""The ground that host tests stand on: the miniature model samples, a real server runs a stock graph."""

import comfy.sd
import numpy as np
import pytest
import torch
from magicstyle.tests import photographs
from magicstyle.tests.host.server import PromptRejected
from magicstyle.tests.tiny_checkpoint import VARIANTS, save_tiny_checkpoint


def stock_graph(image, *, denoise=1.0, steps=2):
    """Checkpoint, a photograph through the autoencoder, KSampler, decode, save."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny_full.ckpt"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "3": {"class_type": "LoadImage", "inputs": {"image": image}},
        "4": {"class_type": "VAEEncode", "inputs": {"pixels": ["3", 0], "vae": ["1", 2]}},
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["4", 0], "seed": 1,
                "steps": steps, "cfg": 2.0, "sampler_name": "ddim", "scheduler": "ddim_uniform", "denoise": denoise,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "stock"}},
    }  # fmt: skip


@pytest.mark.parametrize("height, width, batch", [(16, 16, 1), (9, 11, 3)])
def test_tiny_model_samples_a_finite_latent_that_repeats(
    tiny_model, tiny_latent, tiny_sigmas, tiny_conditioning, run_sampler, height, width, batch
):
    latent, sigmas = tiny_latent(height, width, batch=batch), tiny_sigmas(tiny_model, 3)
    conditions = tiny_conditioning(77), tiny_conditioning(154, seed=5)
    first, second = (run_sampler(tiny_model, latent, sigmas, 4.0, *conditions) for _ in range(2))
    assert first.shape == latent.shape
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)
    assert not torch.allclose(first, latent, atol=0.1)


def test_tiny_model_keeps_its_prediction_at_unit_order(tiny_model):
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        eps = tiny_model.model.diffusion_model(x, torch.tensor([500.0]), context=torch.zeros(1, 77, 32))
    assert 0.05 < eps.std() < 2.0


@pytest.mark.parametrize(
    "variant, kind",
    [("min", "SD15"), ("full", "SD15"), ("sd2", "SD20"), ("vega", "Segmind_Vega"), ("sdxl", "SDXL")],
)
def test_host_recognises_each_generated_network_and_misses_no_weight(tmp_path, caplog, variant, kind):
    path = save_tiny_checkpoint(tmp_path / f"{variant}.ckpt", variant)
    if VARIANTS[variant].encoders:
        model = comfy.sd.load_checkpoint_guess_config(str(path))[0]
    else:
        model = comfy.sd.load_diffusion_model(str(path))
    assert type(model.model.model_config).__name__ == kind
    assert path.stat().st_size < 2e6
    assert not [record.message for record in caplog.records if "missing" in record.message]


@pytest.mark.parametrize("size", [(128, 128), (192, 128)])
def test_server_runs_a_stock_graph_on_a_photograph(server, size):
    photograph = photographs.portrait(size)
    name = server.upload("portrait.png", photograph)
    (image,) = server.images(server.run(stock_graph(name)))
    assert image.shape == photograph.shape
    assert image.std() > 2


def test_server_autoencoder_keeps_layout_and_colours(server):
    photograph = photographs.portrait((128, 128))
    graph = stock_graph(server.upload("portrait.png", photograph))
    graph["6"]["inputs"]["samples"] = ["4", 0]
    (image,) = server.images(server.run(graph))
    blocks = photograph.reshape(16, 8, 16, 8, 3).mean((1, 3))
    np.testing.assert_allclose(image[4::8, 4::8], blocks, atol=5)


def test_server_says_which_input_is_wrong(server):
    graph = stock_graph(server.upload("portrait.png", photographs.style((64, 64))))
    graph["5"]["inputs"]["steps"] = 0
    with pytest.raises(PromptRejected, match="5 KSampler.*steps"):
        server.queue(graph)


def test_server_loads_the_pack_without_complaint(server):
    started, *_ = server.log.partition(
        "To see the GUI go to"
    )  # later lines may be of graphs that tests break on purpose
    complaints = [line for line in started.splitlines() if "comfyui-magicstyle" in line and "seconds: " not in line]
    assert complaints == []
    assert any(name.startswith("MagicStyle") for name in server.object_info())

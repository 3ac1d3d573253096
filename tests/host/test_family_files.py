"""Files of transformers through the host's own loaders: detected, loaded whole, inverted, painted with."""

import comfy.sd
import pytest
import torch
from magicstyle.attention_patches.comfy import install_fusion, install_start
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.inversion.run import invert
from magicstyle.tests.host.families import NEW_HOST
from magicstyle.tests.host.tiny import run_sampler
from magicstyle.tests.tiny_transformer import CLIP, POOLED, TEXT, save_stand_in

SD35, WAN, FLUX = (
    "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors",
    "wan2.1_t2v_1.3B_fp16.safetensors",
    "flux1-dev.safetensors",
)
NEWER = pytest.mark.skipif(not NEW_HOST, reason="this ComfyUI takes the width of Flux.1 for granted")
FILES = [
    (SD35, "SD3", "double.0.1", TEXT, POOLED),
    (WAN, "WAN21", "double.0.0", TEXT, POOLED),
    pytest.param(FLUX, "Flux", "single.2.0", CLIP, CLIP, marks=NEWER),
]


def latent(name, width, seed):
    generator = torch.Generator().manual_seed(seed)
    frames = (1,) if name == WAN else ()
    return {"samples": torch.randn(1, 16, *frames, 8, width, generator=generator)}


@pytest.mark.parametrize("name, kind, layer, text, pooled", FILES)
def test_a_file_is_detected_and_takes_the_style(tmp_path, caplog, name, kind, layer, text, pooled):
    path = tmp_path / name
    save_stand_in(path)
    if name == SD35:
        model = comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]
    else:
        model = comfy.sd.load_diffusion_model(str(path))
    assert type(model.model).__name__ == kind
    assert "missing" not in caplog.text.lower()
    prompt = [[torch.zeros(1, 5, text), {"pooled_output": torch.zeros(1, pooled), "guidance": 1.0}]]
    with torch.inference_mode():
        content, style = (
            invert("content", model, latent(name, width, seed), prompt, 3, "simple", method="midpoint")
            for width, seed in ((12, 1), (8, 2))
        )
        assert layer in map(str, content.features.header.layers)
        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        pictures = [
            run_sampler(starting, content.noise["samples"], content.sigmas, 1.0, prompt, prompt, "euler")
            for starting in (install_start(model), install_fusion(model, bank, FusionSettings(), "auto", 0.0, 1.0))
        ]
    assert all(bool(torch.isfinite(picture).all()) for picture in pictures)
    assert float((pictures[1] - pictures[0]).norm() / pictures[0].norm()) > 1e-3

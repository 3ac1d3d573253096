"""A picture inverted and sampled on the miniature SD1.5, in the few words that tests use."""

from magicstyle.attention_patches.comfy import install_fusion
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.inversion.run import invert
from magicstyle.tests.host.tiny import run_sampler, tiny_conditioning, tiny_latent

SCALE = 0.18215
STRONG = 14.0  # a latent so large that the random network's prediction is a smooth function of it
NEUTRAL = {"style_weight": 0.0, "content_weight": 0.0, "query_preservation": 0.0, "temperature": 1.0}


def picture(height=8, width=12, **more):
    return tiny_latent(height, width, **more) * STRONG / SCALE


def inversion(model, samples, steps=5, layers="output.6-11", precision="fp32", **more):
    arguments = {
        "conditioning": tiny_conditioning(),
        "scheduler": "ddim_uniform",
        "sigmas": None,
        **more,
    }
    return invert("content", model, {"samples": samples}, steps=steps, layers=layers, precision=precision, **arguments)


def scene(model, height=8, width=12, *, batch=1, style=(8, 12), steps=5, **more):
    """(content inversion, bank) for two pictures."""
    content = inversion(model, picture(height, width, batch=batch), steps, **more)
    stylish = inversion(model, picture(*style, seed=9), steps, **more)
    return content, FeatureBank(content.features, (StyleEntry(stylish.features),))


def patch(model, bank, layers="output.6-11", start=0.0, end=1.0, **knobs):
    return install_fusion(model, bank, FusionSettings(**knobs), layers, start, end)


def sample(model, content, cfg=1.0, positive=None, negative=None, **more):
    positive = tiny_conditioning() if positive is None else positive
    return run_sampler(model, content.noise["samples"], content.sigmas, cfg, positive, negative, **more)


def difference(a, b):
    return float((a - b).norm() / b.norm())


def own_lines(caplog):
    """The pack's own lines in the log; the host warns of models that other tests hold."""
    return [record.getMessage() for record in caplog.records if record.name == "magicstyle"]

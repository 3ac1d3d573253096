"""Films on the miniature of Wan: inverted, sampled, and looked at through the host's context windows."""

from __future__ import annotations

import torch
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.tests.host.families import NEW_HOST, family_latent, family_model
from magicstyle.tests.host.family_scene import SMALL, STYLE, inverted
from magicstyle.tests.host.neighbours import stock

WAN = "wan"
FRAMES = 5
# the first step begins where the film counts, not in noise alone
DESCENT = torch.tensor([0.9, 0.6, 0.3, 0.0])


def film(frames=FRAMES, size=SMALL, seed=2, batch=1):
    """A LATENT's samples b c t h w: one smooth picture that changes into another."""
    first, last = (family_latent(WAN, size, batch=batch, seed=number) for number in (seed, seed + 50))
    return torch.cat([torch.lerp(first, last, i / max(1, frames - 1)) for i in range(frames)], dim=2)


def style():
    return family_latent(WAN, STYLE, seed=4)


def inversion(latent, model=None, sigmas=DESCENT, **more):
    return inverted(WAN, latent, model=model, **{"layers": "all", "sigmas": sigmas, **more})


def bank(content, *styles, storage="features", **entry):
    features = [inversion(latent, storage=storage).features for latent in styles]
    return FeatureBank(content.features, tuple(StyleEntry(each, **entry) for each in features))


def windowed(model=None, length=9, overlap=4, schedule="standard_static", **more):
    """The model as the host's node for Wan's context windows gives it; lengths in frames of the video."""
    given = {"context_stride": 1, "closed_loop": False, "fuse_method": "pyramid", **more}
    given |= {"freenoise": False} if NEW_HOST else {}
    return stock(
        "comfy_extras.nodes_context_windows.WanContextWindowsManualNode", model=model or family_model(WAN),
        context_length=length, context_overlap=overlap, context_schedule=schedule, **given,
    )[0]  # fmt: skip

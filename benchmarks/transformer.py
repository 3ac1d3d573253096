"""The transformer demo model painting in this process, by a real ComfyUI's own classes and our nodes' functions.

It needs a ComfyUI that says which block is running, 0.5.0 or newer: COMFYUI_PATH names it. Import this before what
imports diffusers, which without the host's stand-ins would take torchvision for missing, for the host as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from magicstyle.core.fusion import FusionSettings
from magicstyle.tests.host.shims import install_shims
from torch import Tensor

from .bench import use_comfyui

install_shims()

SCHEDULER = "ddim_uniform"  # begins below full noise: a plain sampler takes the inverted latent as it is


@dataclass(frozen=True)
class FlowRecipe:
    """How the workflow with the demo transformer walks."""

    steps: int = 20
    method: str = "midpoint"


class FlowPainter:
    """Pictures b 3 h w in 0..1 inverted, sampled back and painted in a style; both walks by one method."""

    def __init__(self, recipe: FlowRecipe) -> None:
        use_comfyui()
        from magicstyle.nodes.demo_model import TRANSFORMER_MODEL, DemoModel

        self.recipe = recipe
        self.model, self.vae, self.prompt, *_ = DemoModel.execute(TRANSFORMER_MODEL).args

    @torch.inference_mode()
    def inverted(self, pictures: Tensor, role: str) -> Any:
        """What an inversion node of that role, content or style, gives for pictures b 3 h w."""
        from magicstyle.nodes.inversion.run import invert

        latent = {"samples": self.vae.encode(pictures.permute(0, 2, 3, 1))}
        chosen = {"steps": self.recipe.steps, "scheduler": SCHEDULER, "method": self.recipe.method}
        return invert(role, self.model, latent, self.prompt, storage="features", **chosen)

    def reconstructed(self, content: Any) -> Tensor:
        """Sampled back without any style: b 3 h w."""
        return self._sampled(self.model, content.noise, content)

    def painted(
        self,
        content: Any,
        style: Any,
        settings: FusionSettings,
        adain: float = 1.0,
        *,
        layers: str = "auto",
        positions: str = "same",
    ) -> Tensor:
        """As Feature Bank, Initial Latent, FFA Model Patcher and a sampler paint: b 3 h w."""
        from magicstyle.attention_patches.comfy import install_fusion
        from magicstyle.attention_patches.placing import Positions
        from magicstyle.banks.bank import FeatureBank, StyleEntry
        from magicstyle.nodes.initial_latent import InitialLatent

        bank = FeatureBank(content.features, (StyleEntry(style.features),))
        patched = install_fusion(self.model, bank, settings, layers, 0.0, 1.0, Positions(positions))
        start = InitialLatent.execute(content.noise, style.noise, "adain", adain).args[0]
        return self._sampled(patched, start, content)

    @torch.inference_mode()
    def _sampled(self, model: Any, start: dict[str, Any], content: Any) -> Tensor:
        """As SamplerCustom samples, without noise and guidance."""
        import comfy.sample
        from magicstyle.nodes.samplers import host_sampler

        latent, prompts = start["samples"], (self.prompt, self.prompt)
        sampler = host_sampler(self.recipe.method, start)
        found = comfy.sample.sample_custom(
            model, torch.zeros_like(latent), 1.0, sampler, content.sigmas, *prompts, latent, disable_pbar=True, seed=0
        )
        return self.vae.decode(found).permute(0, 3, 1, 2).float()

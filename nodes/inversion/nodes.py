"""DDIM Inversion (Content) and DDIM Inversion (Style)."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ...banks.level_groups import MAX_EVERY
from ...banks.placement import PLACES, PRECISIONS
from ...banks.representations import REPRESENTATIONS
from ...core.inversion_methods import INVERSIONS, MAX_CORRECTIONS
from ..notices import show_on_node
from ..roles import CONTENT, STYLE, remember
from ..schema import check_choices, check_layers, folded, search_aliases
from ..sockets import CATEGORY, Features
from .order import KEPT_ROLES, InversionOrder
from .run import invert

STORAGE = ["auto", *REPRESENTATIONS]
CHOICES = {
    "scheduler": comfy.samplers.SCHEDULER_NAMES,
    "storage": STORAGE,
    "precision": PRECISIONS,
    "storage_device": PLACES,
    "roles": KEPT_ROLES,
    "method": INVERSIONS,
}
ADVANCED = ("storage", "precision", "storage_device", "roles", "level_stride", "corrections", "measure", "gamma")


def _inputs(picture: str) -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The checkpoint that will paint. LoRAs on it take part; guidance is left out."),
        io.Latent.Input("latent", tooltip=f"The {picture}, encoded with VAEEncode."),
        io.Conditioning.Input(
            "conditioning", tooltip="The prompt of the inversion. An empty text reconstructs most faithfully."
        ),
        io.Int.Input(
            "steps",
            default=InversionOrder.steps,
            min=1,
            max=1000,
            tooltip="More steps reconstruct the picture more exactly and take longer. Use the same for both pictures.",
        ),
        io.Combo.Input(
            "scheduler",
            options=comfy.samplers.SCHEDULER_NAMES,
            default=InversionOrder.scheduler,
            tooltip="Where the steps lie between clean and noise. Use the same for both pictures.",
        ),
        io.String.Input(
            "layers",
            default=InversionOrder.layers,
            tooltip="Which self-attention layers are kept: auto, or some by name, such as output.3-11, middle, "
            "double.0-18, single, or all. auto chooses for the kind of model: output.3-11 of SD1.5 and SD2.1, "
            "output.0-5 of SDXL. More layers need more memory.",
        ),
        io.Combo.Input(
            "storage",
            options=STORAGE,
            default=InversionOrder.storage,
            tooltip="features keeps queries, keys and values in memory: fastest. latents keeps only the inverted "
            "latents, a thousandth of the memory, and makes the features anew at each step: about three times slower. "
            "auto takes features while they fit, those of fewer noise levels where those of all do not, and latents "
            "where even these do not; for transformers always latents.",
        ),
        io.Sigmas.Input(
            "sigmas",
            optional=True,
            tooltip="Noise levels from a scheduler node, in place of steps and scheduler.",
        ),
        io.Combo.Input(
            "precision",
            options=list(PRECISIONS),
            default=InversionOrder.precision,
            optional=True,
            tooltip="How exactly features are kept. auto is fp16. fp8 halves that again and is less exact.",
        ),
        io.Combo.Input(
            "storage_device",
            options=list(PLACES),
            default=InversionOrder.storage_device,
            optional=True,
            tooltip="Where features are kept. auto is the gpu while they take little of what is free there, else main "
            "memory (cpu); disk maps them from files in ComfyUI's temp folder.",
        ),
        io.Combo.Input(
            "roles",
            options=list(KEPT_ROLES),
            default=InversionOrder.roles,
            optional=True,
            tooltip="Which features are kept. To save memory with styleid: queries of the portrait, keys and "
            "values of the style are all it reads. all and ResNet: for the portrait with method diffstyler. all and "
            "detail: for the portrait with detail of Style Controls.",
        ),
        io.Combo.Input(
            "method",
            options=list(INVERSIONS),
            default=InversionOrder.method,
            optional=True,
            tooltip="ddim: plain.\nfixed_point: samples back much closer, for more model calls.\n"
            "exact: samples back to the same picture with Exact Sampler (reversible).\n"
            "noising: no inversion, for models of 4 to 8 steps.\n"
            "midpoint: samples back much closer with Midpoint Sampler, for no more model calls than ddim.\n"
            "gamma: part an inversion, part a straight line to white noise; returns part of the picture.",
        ),
        io.Int.Input(
            "corrections",
            default=InversionOrder.corrections,
            min=0,
            max=MAX_CORRECTIONS,
            optional=True,
            tooltip="For method fixed_point: how often each step is corrected, a model call each.",
        ),
        io.Boolean.Input(
            "measure",
            default=InversionOrder.measure,
            optional=True,
            tooltip="Sample the noise back at once, without fusion, and say in the report how much of the "
            "picture returned. Takes as long as a sampling run.",
        ),
        io.Int.Input(
            "level_stride",
            default=InversionOrder.level_stride,
            min=1,
            max=MAX_EVERY,
            optional=True,
            tooltip="Keep the features of only every n-th noise level, and use them at the neighbouring levels, too. 5 "
            "takes a fifth of the memory; with stored latents, features are computed a fifth as often. At 50 steps "
            "this hardly changes the picture. storage auto may choose a larger number.",
        ),
        io.Float.Input(
            "gamma",
            default=InversionOrder.gamma,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="For method gamma: the model's share of each step. 1 is ddim, 0 the line of noising; others "
            "take 0.5.",
        ),
    ]


def _check(layers: str | None, **chosen: str | None) -> bool | str:
    known = check_choices(**{name: (value, CHOICES[name]) for name, value in chosen.items()})
    return check_layers(layers=layers) if known is True else known


def _outputs(picture: str) -> list[Any]:
    return [
        io.Latent.Output(display_name="noise", tooltip=f"The noise that samples back into the {picture}."),
        Features.Output(display_name="features", tooltip="The kept features, for a Feature Bank."),
        io.Sigmas.Output(
            display_name="sigmas", tooltip="The noise levels to sample with: connect them to SamplerCustom."
        ),
        io.String.Output(display_name="report", tooltip="What was done, its size, and how the noise looks."),
        io.Noise.Output(
            display_name="start",
            tooltip="The same noise as NOISE for SamplerCustomAdvanced, beside an empty latent: for a model that does "
            "not come from the FFA Model Patcher.",
        ),
    ]


class _Inversion(io.ComfyNode):
    """What both inversions do."""

    role: str

    @classmethod
    def validate_inputs(
        cls,
        scheduler: str | None = None,
        storage: str | None = None,
        precision: str | None = None,
        storage_device: str | None = None,
        roles: str | None = None,
        method: str | None = None,
        layers: str | None = None,
    ) -> bool | str:
        """Name a choice that is gone, and what names no layer."""
        chosen = {"scheduler": scheduler, "storage": storage, "precision": precision, "method": method}
        return _check(layers, storage_device=storage_device, roles=roles, **chosen)

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        """Invert and keep what later fuses; the report also lies on the node."""
        inversion = invert(cls.role, **inputs)
        remember(inversion.features, cls.role)
        show_on_node(inversion.report)
        return io.NodeOutput(*inversion)


class InvertContent(_Inversion):
    """Inverts the portrait."""

    role = CONTENT

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleInvertContent",
            display_name="DDIM Inversion (Content)",
            category=CATEGORY,
            **search_aliases("MagicStyleInvertContent"),
            description="Turns the portrait into the noise that samples back into it, and keeps the self-attention "
            "features seen on the way.",
            inputs=folded(_inputs("portrait to be painted"), *ADVANCED),
            outputs=_outputs("portrait"),
        )


class InvertStyle(_Inversion):
    """Inverts the style picture."""

    role = STYLE

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as users see it."""
        return io.Schema(
            node_id="MagicStyleInvertStyle",
            display_name="DDIM Inversion (Style)",
            category=CATEGORY,
            **search_aliases("MagicStyleInvertStyle"),
            description="Turns the style picture into noise and keeps the self-attention features seen on the way: "
            "the colours and textures to paint with.",
            inputs=folded(_inputs("picture to take the style from"), *ADVANCED),
            outputs=_outputs("style picture"),
        )

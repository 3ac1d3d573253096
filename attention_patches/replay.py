"""Replay: the features of a stored trajectory, made anew by the running model beside the step that needs them.

A model pass of its own comes before the step's: nothing of it can reach the user's rows, ControlNet, masks, previews or
guidance, and its features are let go when the step is done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor

from ..core.attention import Kernel
from ..core.features import AttentionFeatures
from ..core.layers import LayerId
from ..core.regions import Grid, resample_tokens
from ..core.trajectory import Trajectory
from .call_site import OVERRIDE, CallSite, hooked
from .fusion_patch import StepView

# raised in the options of a replayed call, so that the pack's other patchers leave it alone
REPLAY = "magicstyle_replay"
ModelCall = Callable[..., Tensor]


class Catcher:
    """Holds the self-attention features of one model call."""

    def __init__(self, layers: Collection[LayerId], roles: str, grids: Mapping[LayerId, Grid]) -> None:
        self._layers = layers
        self._grids = grids
        self.roles = roles
        self.caught: dict[LayerId, AttentionFeatures] = {}
        self._resnet = AttentionFeatures()

    def handle(self, site: CallSite, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Answer one attention call as the host would, holding on to the roles asked for."""
        if site.layer in self._layers:
            live = {role: tensor for role, tensor in zip("qkv", (q, k, v), strict=True) if role in self.roles}
            kept = self._grids[site.layer]
            held = {role: resample_tokens(tensor, site.grid, kept) for role, tensor in live.items()}
            self.caught[site.layer] = AttentionFeatures(**held)
        return kernel.call(q, k, v, None)

    def see_resnet(self, site: CallSite, x: Tensor) -> Tensor:
        """Hold on to what enters the ResNet that is copied."""
        self._resnet = AttentionFeatures(x=x)
        return x

    def view(self, layer: LayerId, roles: str) -> AttentionFeatures:
        """The features of one layer: b n c each."""
        kept = (self._resnet if roles == "x" else self.caught[layer])._asdict()
        return AttentionFeatures(**{role: kept[role] for role in roles})


def replay_view(
    call: ModelCall, trajectory: Trajectory, sigma: float, like: Tensor, options: dict[str, Any], catcher: Catcher
) -> StepView:
    """Run the stored latent nearest to `sigma` through `call` (the host's apply_model) and give its features.

    The patches and the attention override are those of the model that made the trajectory, where it is known.
    """
    step = trajectory.nearest(sigma).step
    x = trajectory.latents[step].to(like)
    level = x.new_full((x.shape[0],), trajectory.header.sigmas[step])
    inputs = {name: tensor.to(x.device) for name, tensor in trajectory.inputs.items()}
    seen = catcher.see_resnet if "x" in catcher.roles else None
    with hooked(replay_options(trajectory, options, level), catcher.handle, resnet=seen, alone=True) as own:
        call(x, level, inputs.pop("c_concat", None), inputs.pop("c_crossattn", None), None, own, **inputs)
    return catcher.view


def replay_options(trajectory: Trajectory, options: dict[str, Any], level: Tensor) -> dict[str, Any]:
    """The host's transformer_options for a call with the trajectory's rows alone."""
    own = {**options, "cond_or_uncond": [0], "uuids": [None], "sigmas": level, REPLAY: True}
    if trajectory.source is not None:
        kept = trajectory.source.model_options["transformer_options"]
        for key in ("patches", "patches_replace", OVERRIDE):
            own.pop(key, None)
            own.update({key: kept[key]} if key in kept else {})
    return own

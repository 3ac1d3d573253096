"""Replay: the features of a stored trajectory, made anew by the running model beside the step that needs them.

A model pass of its own comes before the step's: nothing of it can reach the user's rows, ControlNet, masks, previews or
guidance. Its features are held as long as sampling stays in one group of the inversion's noise levels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from ..banks.trajectory import Trajectory
from ..core.errors import MagicStyleError
from ..core.features import DETAIL, RESNET, ROLES, AttentionFeatures, View
from ..core.grid import Grid
from ..core.layers import LayerId
from .call import Call, Handlers, ResNetCall

# runs the latent that is kept of one group through the model, shown to the handlers alone
Rerun = Callable[[Trajectory, int, Handlers], None]


class Held:
    """The replayed features of each picture, until sampling comes to another group of levels."""

    def __init__(self) -> None:
        self._shown: dict[int, tuple[int, tuple[int, ...]]] = {}  # by the picture's number
        self._views: dict[int, View] = {}

    def view(self, picture: int, group: int, make: Callable[[], View], frames: tuple[int, ...] = ()) -> View:
        """The features of one picture, of a film some frames, at one group; what it had else is let go before."""
        if self._shown.get(picture) != (group, frames) or picture not in self._views:
            self._views.pop(picture, None)
            self._views[picture] = make()
            self._shown[picture] = group, frames
        return self._views[picture]

    def __len__(self) -> int:
        """How many pictures' features are held."""
        return len(self._views)

    def clear(self) -> None:
        """Let go of all of them."""
        self._views.clear()


class Catcher:
    """Holds the self-attention features of one model call."""

    def __init__(
        self, layers: Collection[LayerId], roles: str, grids: Mapping[LayerId, Grid], *, alone: bool = False
    ) -> None:
        self._alone = alone
        self._layers = layers
        self._grids = grids
        self._roles = roles
        self._caught: dict[LayerId, AttentionFeatures] = {}
        self._entered: list[Tensor] = []
        self._added: dict[LayerId, Tensor] = {}

    @property
    def handlers(self) -> Handlers:
        """Who sees the calls of the replay."""
        resnet = self._see_resnet if RESNET in self._roles else None
        return Handlers(self._see, resnet=resnet, added=self._see_added if DETAIL in self._roles else None)

    @property
    def view(self) -> View:
        """The features of what was seen."""
        entering = (lambda: self._entered[-1]) if RESNET in self._roles else None
        return View(self._attention, entering, self._alone, self._detail if DETAIL in self._roles else None)

    def _attention(self, layer: LayerId, roles: str) -> AttentionFeatures:
        """What was caught of a layer, b n c each."""
        if layer not in self._caught:
            raise _unseen(layer)
        return self._caught[layer].select(roles)

    def _detail(self, layer: LayerId) -> Tensor:
        """What the ResNet before a layer added: b n c."""
        if layer not in self._added:
            raise _unseen(layer)
        return self._added[layer]

    def _see(self, call: Call) -> None:
        """Hold on to the roles that are needed, b n c each, and leave the answer to the host."""
        if call.layer in self._layers:
            kept = self._grids[call.layer]
            live = {role: getattr(call.live, role) for role in ROLES if role in self._roles}
            held = {role: call.layout.grid.resampled(tensor, kept) for role, tensor in live.items()}
            self._caught[call.layer] = AttentionFeatures(**held)

    def _see_resnet(self, call: ResNetCall) -> Tensor:
        """Hold on to what enters the ResNet that is copied: b n c."""
        self._entered.append(call.x)
        return call.x

    def _see_added(self, call: ResNetCall) -> Tensor:
        """Hold on to what a ResNet adds, b n c, of the layers that are caught."""
        if call.layer in self._layers:
            self._added[call.layer] = call.grid.resampled(call.x, self._grids[call.layer])
        return call.x


def _unseen(layer: LayerId) -> MagicStyleError:
    return MagicStyleError(
        f"a stored latent was to be run again for the features of {layer}, and another node answered for the model: "
        "take it off the sampling model, or set storage to features on both DDIM Inversion nodes."
    )

"""Fusion: the bank's features laid onto the rows of a running attention call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..core.bank import FeatureBank, StyleEntry
from ..core.errors import MagicStyleError
from ..core.features import RESNET, ROLES, AttentionFeatures, ImageFeatures
from ..core.fusion import FUSIONS, RESNET_STEPS, FusionSettings, content_roles, fuse, style_roles
from ..core.layers import LayerId
from ..core.scene import Moment, Scene, StyleFeatures
from ..core.trajectory import Trajectory
from .call import Call, Handler, Handlers, ResNetCall, ResNetHandler
from .rows import Rows, positive_rows

# the stored features of one picture at the current noise level: (layer, roles) -> b n c each
StepView = Callable[[LayerId, str], AttentionFeatures]
START = Moment()


@dataclass(frozen=True)
class SigmaWindow:
    """The noise levels at which the patch acts."""

    start: float
    end: float

    def __contains__(self, sigma: float) -> bool:
        return self.end <= sigma <= self.start


class FusionPatch:
    """What one FFA Model Patcher does; shared by threads and runs, hence never changed."""

    def __init__(
        self, bank: FeatureBank, settings: FusionSettings, layers: Sequence[LayerId], window: SigmaWindow
    ) -> None:
        self.bank = bank
        self.settings = settings
        self.layers = frozenset(layers)
        self.window = window
        if FUSIONS[settings.method].style and not bank.styles:
            raise MagicStyleError(
                f"method {settings.method} draws from a style, and the bank has none: connect one to the Feature Bank, "
                "or choose masactrl or diffstyler."
            )
        self._content_roles = content_roles(settings, bank)
        # a trajectory shows everything; features have it where it was asked for
        self._copies_resnet = FUSIONS[settings.method].resnet and "x" in getattr(bank.content, "roles", "x")
        self._style_roles = style_roles(settings)

    def pictures(self, bank: FeatureBank) -> list[tuple[ImageFeatures, str]]:
        """Each picture of a bank and the roles that this patch reads of it, all where it serves twice."""
        features = list(bank)
        read: dict[int, set[str]] = {}
        for place, picture in enumerate(features):
            read.setdefault(id(picture), set()).update(self._style_roles if place else self._content_roles)
        if self._copies_resnet:
            read[id(features[0])].add("x")
        return [(picture, "".join(role for role in ROLES if role in read[id(picture)])) for picture in features]

    def extra_bytes(self, widths: Mapping[LayerId, int]) -> int:
        """What one model call holds beside the host's own: the largest layer's features of all pictures, and replays.

        In float32, which covers every precision.
        """
        sizes = [
            sum(_layer_bytes(features, layer, widths[layer], roles) for features, roles in self.pictures(self.bank))
            for layer in self.layers
        ]
        replayed = any(isinstance(features, Trajectory) for features in self.bank)
        return sum(sizes) if replayed else max(sizes)

    def handlers(self, views: Sequence[StepView], moment: Moment = START) -> Handlers:
        """Who answers in one model call, from a view per picture: the content first, then each style."""
        return Handlers(self._attention(views, moment), resnet=self._resnet(views[0], moment))

    def _attention(self, views: Sequence[StepView], moment: Moment) -> Handler:
        content_view, *style_views = views

        def handle(call: Call) -> Tensor | None:
            rows = self._rows(call) if call.layer in self.layers else None
            if rows is None:
                return None
            content = rows.content_features(content_view(call.layer, self._content_roles), call.live.q)
            styles = self._styles(style_views, call, rows)
            return fuse(call.kernel, Scene(call.live, content, styles, moment), self.settings)

        return handle

    def _resnet(self, view: StepView, moment: Moment) -> ResNetHandler | None:
        """Copies the content's inputs of one ResNet, with which it gives the content's output, in the early steps."""
        if not self._copies_resnet or moment.progress >= RESNET_STEPS:
            return None

        def copy(call: ResNetCall) -> Tensor:
            stored = view(RESNET, "x").x
            rows = Rows.on(self.bank.content.header, RESNET, call.grid, call.rows, call.x.shape[0])
            return call.x if stored is None or rows is None else rows.of_content(stored.to(call.x))

        return copy

    def progress(self, sigma: float) -> float:
        """The share of the stored steps that are done at a noise level."""
        return self.bank.content.nearest(sigma).step / len(self.bank.content.header.sigmas)

    def _rows(self, call: Call) -> Rows | None:
        count = call.live.q.shape[0]
        return Rows.on(self.bank.content.header, call.layer, call.layout.grid, call.rows, count)

    def _styles(self, views: Sequence[StepView], call: Call, rows: Rows) -> tuple[StyleFeatures, ...]:
        # copies of one picture share their features: core.fusion knows them by that
        laid = {
            id(entry.features): rows.style_features(view(call.layer, self._style_roles), call.live.q)
            for entry, view in zip(self.bank.styles, views, strict=True)
        }
        return tuple(self._style(entry, laid[id(entry.features)], call, rows) for entry in self.bank.styles)

    def _style(self, entry: StyleEntry, features: AttentionFeatures, call: Call, rows: Rows) -> StyleFeatures:
        # regions stay on the CPU, where their groups of tokens are found without waiting for the device
        region = None if entry.region is None else rows.of_region(entry.region)
        if FUSIONS[self.settings.method].conditional and any(call.rows.negative):
            region = positive_rows(region, call.rows, call.live.q)
        mask = entry.style_mask
        if mask is not None:
            mask = rows.of_mask(mask, entry.features.header.grids[call.layer]).to(call.live.q)
        return StyleFeatures(features, entry.weight, region, mask)


def _layer_bytes(features: ImageFeatures, layer: LayerId, width: int, roles: str) -> int:
    h, w = features.header.grids[layer]
    return h * w * width * features.header.batch * len(roles) * 4


def nearest_view(features: ImageFeatures, sigma: float) -> StepView:
    """The view of stored features at the step nearest to `sigma`."""
    step = features.nearest(sigma).step

    def view(layer: LayerId, roles: str) -> AttentionFeatures:
        return features.at(layer, step, roles)

    return view


def coverage_warning(bank: FeatureBank, sigmas: Tensor, tolerance: float = 0.01) -> str | None:
    """One sentence when sampling visits noise levels that no step was recorded at (1 % is rounding), else None."""
    visited = [float(sigma) for sigma in sigmas if float(sigma) > 0.0]
    if not visited:
        return None
    misses = [(features.nearest(sigma).distance, sigma, features) for features in bank for sigma in visited]
    gap, sigma, features = max(misses, key=lambda miss: miss[0])
    if gap <= tolerance:
        return None
    return (
        f"sampling visits sigma {sigma:.3f}, {100 * math.expm1(gap):.0f} % away from the nearest of the "
        f"{len(features.header.sigmas)} stored noise levels; the nearest features serve. For exact features connect "
        f"the inversion's sigmas output to the sampler that belongs to its method, {features.header.method}."
    )

"""Fusion: the bank's features laid onto the rows of a running attention call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..banks.bank import FeatureBank, StyleEntry, content_roles, style_roles
from ..banks.image_features import ImageFeatures
from ..core.errors import MagicStyleError
from ..core.features import RESNET, ROLES, AttentionFeatures, View
from ..core.fusion import FUSIONS, RESNET_STEPS, FusionSettings, fuse
from ..core.layers import LayerId
from ..core.scene import Moment, Scene, StyleFeatures
from .call import Call, Handler, Handlers, ResNetCall, ResNetHandler
from .placing import Placer, Positions
from .rows import Rows, positive_rows

START = Moment()


@dataclass(frozen=True)
class SigmaWindow:
    """The noise levels at which the patch acts."""

    start: float
    end: float

    def __contains__(self, sigma: float) -> bool:
        return self.end <= sigma <= self.start


class Account:
    """What came of a patch's layers in one sampling run, by layer; threads may add to it."""

    def __init__(self) -> None:
        self.fused: set[LayerId] = set()
        self.merged: set[LayerId] = set()  # whose tokens another node merged or tiled
        self.lost: set[LayerId] = set()  # which showed something whose place in the content is unknown


class FusionPatch:
    """What one FFA Model Patcher does; shared by threads and runs, hence never changed."""

    def __init__(
        self,
        bank: FeatureBank,
        settings: FusionSettings,
        layers: Sequence[LayerId],
        window: SigmaWindow,
        placer: Placer | None = None,
        keep: Tensor | None = None,  # b h w
    ) -> None:
        self.bank = bank
        self.settings = settings
        self.layers = frozenset(layers)
        self.window = window
        self.keep = keep  # b h w in [0, 1]: how far the content stays as it is
        self.placer = placer or Placer(bank.content.header.model.name, None, Positions())
        weighed = any(settings.style_weight * style.weight > 0.0 for style in bank.styles)
        self.neutral = settings.neutral and not weighed  # the model's own attention, to the last bit
        if FUSIONS[settings.method].style and not bank.styles:
            raise MagicStyleError(
                f"method {settings.method} draws from a style, and the bank has none: connect one to the Feature Bank, "
                "or choose masactrl or diffstyler."
            )
        self._content_roles = content_roles(settings, bank, keeps=keep is not None)
        self._copies_resnet = FUSIONS[settings.method].resnet and RESNET in bank.content.roles
        self._style_roles = style_roles(settings)
        self.roles = self._roles()

    def _roles(self) -> tuple[str, ...]:
        """The roles that this patch reads of each picture of its bank, all where it serves twice."""
        content = self._content_roles + (RESNET if self._copies_resnet else "")
        read = [set(content), *(set() for _ in self.bank.pictures[1:])]
        for number in self.bank.numbers:
            read[number].update(self._style_roles)
        return tuple("".join(role for role in ROLES + RESNET if role in wanted) for wanted in read)

    def extra_bytes(self, widths: Mapping[LayerId, int]) -> int:
        """What one model call holds of all pictures beside the host's own, in float32, which covers every precision."""
        chosen = {layer: widths[layer] for layer in self.layers}
        pictures = zip(self.bank.pictures, self.roles, strict=True)
        return sum(picture.held_bytes(chosen, roles) for picture, roles in pictures)

    def handlers(self, views: Sequence[View], moment: Moment = START, account: Account | None = None) -> Handlers:
        """Who answers in one model call, from a view of each of the bank's pictures; the account is kept up to date."""
        account = account or Account()
        attention = self._attention(views, moment, account)
        return Handlers(attention, resnet=self._resnet(views[0], moment), missed=account.merged.add)

    def _attention(self, views: Sequence[View], moment: Moment, account: Account) -> Handler:
        def handle(call: Call) -> Tensor | None:
            """The fused answer to one attention call, b n c, or None where it is left as it is."""
            if call.layer not in self.layers or self.neutral:
                return None
            rows = self._rows(call)
            (account.lost if rows is None else account.fused).add(call.layer)
            if rows is None:
                return None
            content = rows.content_features(views[0].attention(call.layer, self._content_roles), call.live.q)
            content = self.placer.content(content, call, self.bank.content.header.depth)
            if self.placer.rotary:
                content = self.placer.cut(content, call.kernel.heads, rows.shifts(centred=self.placer.centred))
            styles = self._styles(views, call, rows)
            keep = None if self.keep is None else rows.of_region(self.keep)
            return fuse(call.kernel, Scene(call.live, content, styles, moment, keep), self.settings)

        return handle

    def _resnet(self, view: View, moment: Moment) -> ResNetHandler | None:
        """Copies the content's inputs of one ResNet, with which it gives the content's output, in the early steps."""
        entering = view.resnet
        if not self._copies_resnet or entering is None or moment.progress >= RESNET_STEPS:
            return None

        def copy(call: ResNetCall) -> Tensor:
            """What enters the ResNet, b n c, with the content's in its place."""
            rows = Rows.on(self.bank.content.header, call.layer, call.grid, call.rows, call.x.shape[0])
            return call.x if rows is None else rows.of_content(entering().to(call.x))

        return copy

    def progress(self, sigma: float) -> float:
        """The share of the stored steps that are done at a noise level."""
        return self.bank.content.nearest(sigma).step / len(self.bank.content.header.sigmas)

    def _rows(self, call: Call) -> Rows | None:
        count = call.live.q.shape[0]
        rows = Rows.on(self.bank.content.header, call.layer, call.layout.grid, call.rows, count)
        # past an edge the running positions go on, and those of the stored features begin anew
        return None if self.placer.rotary and rows is not None and rows.wraps else rows

    def _styles(self, views: Sequence[View], call: Call, rows: Rows) -> tuple[StyleFeatures, ...]:
        laid = {
            number: self._placed(self.bank.pictures[number], rows, view.attention(call.layer, self._style_roles), call)
            for number, view in enumerate(views)
            if number in self.bank.numbers
        }
        entries = zip(self.bank.styles, self.bank.numbers, strict=True)
        return tuple(self._style(entry, laid[number], call, rows)._replace(picture=number) for entry, number in entries)

    def _placed(self, picture: ImageFeatures, rows: Rows, features: AttentionFeatures, call: Call) -> AttentionFeatures:
        return self.placer.style(rows.style_features(features, call.live.q), call, picture.header.depth)

    def _style(self, entry: StyleEntry, features: AttentionFeatures, call: Call, rows: Rows) -> StyleFeatures:
        # regions stay on the CPU, where their groups of tokens are found without waiting for the device
        region = None if entry.region is None else rows.of_region(entry.region)
        if FUSIONS[self.settings.method].conditional and any(call.rows.negative):
            region = positive_rows(region, call.rows, call.live.q)
        mask = entry.style_mask
        if mask is not None:
            mask = rows.of_mask(mask, entry.features.header.grids[call.layer]).to(call.live.q)
        return StyleFeatures(features, entry.weight, region, mask)


def coverage_warning(bank: FeatureBank, sigmas: Tensor, tolerance: float = 0.01) -> str | None:
    """One sentence when sampling visits levels n that no step of the inversion had (1 % is rounding), else None."""
    visited = [float(sigma) for sigma in sigmas if float(sigma) > 0.0]
    if not visited:
        return None
    misses = [(features.nearest(sigma).distance, sigma, features) for features in bank.pictures for sigma in visited]
    gap, sigma, features = max(misses, key=lambda miss: miss[0])
    if gap <= tolerance:
        return None
    every = features.header.every
    serving = "the nearest features serve" if every == 1 else f"the features of the nearest group of {every} serve"
    return (
        f"sampling visits sigma {sigma:.3f}, {100 * math.expm1(gap):.0f} % away from the nearest of the "
        f"{len(features.header.sigmas)} inverted noise levels; {serving}. For exact features connect "
        f"the inversion's sigmas output to the sampler that belongs to its method, {features.header.method}."
    )

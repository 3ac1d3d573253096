"""Fusion: the bank's features laid onto the rows of a running attention call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.attention import Kernel
from ..core.bank import FeatureBank, StyleEntry
from ..core.errors import MagicStyleError
from ..core.features import RESNET, ROLES, AttentionFeatures, ImageFeatures
from ..core.fusion import METHODS, RESNET_STEPS, FusionSettings, content_roles, fuse, style_roles
from ..core.layers import LayerId
from ..core.regions import Grid, Window, crop_tokens, mask_to_tokens, resample_tokens
from ..core.scene import Moment, Scene, StyleFeatures
from ..core.trajectory import Trajectory
from .call_site import CallSite, Handler, ResNetHandler

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
        if METHODS[settings.method].style and not bank.styles:
            raise MagicStyleError(
                f"method {settings.method} draws from a style, and the bank has none: connect one to the Feature Bank, "
                "or choose masactrl or diffstyler."
            )
        self._content_roles = content_roles(settings, bank)
        # a trajectory shows everything; features have it where it was asked for
        self._copies_resnet = METHODS[settings.method].resnet and "x" in getattr(bank.content, "roles", "x")
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

    def handler(self, views: Sequence[StepView], moment: Moment = START) -> Handler:
        """The handler of one model call, from a view per picture: the content first, then each style."""
        content_view, *style_views = views

        def handle(site: CallSite, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
            rows = self._rows(site, q) if site.layer in self.layers else None
            if rows is None:
                return None
            content = _laid(content_view(site.layer, self._content_roles), rows.of_content, q)
            styles = self._styles(style_views, site, rows, q)
            return fuse(kernel, Scene(AttentionFeatures(q, k, v), content, styles, moment), self.settings)

        return handle

    def resnet_handler(self, view: StepView, moment: Moment) -> ResNetHandler | None:
        """Copies the content's inputs of one ResNet, with which it gives the content's output, in the early steps."""
        if not self._copies_resnet or moment.progress >= RESNET_STEPS:
            return None

        def copy(site: CallSite, x: Tensor) -> Tensor:
            stored, rows = view(RESNET, "x").x, self._rows(site, x)
            return x if stored is None or rows is None else rows.of_content(stored.to(x))

        return copy

    def progress(self, sigma: float) -> float:
        """The share of the stored steps that are done at a noise level."""
        return self.bank.content.nearest(sigma).step / len(self.bank.content.header.sigmas)

    def _rows(self, site: CallSite, running: Tensor) -> Rows | None:
        """How the content lies on the running rows; None where its tokens and theirs are not the same places."""
        header = self.bank.content.header
        grid = header.grids.get(site.layer)
        if grid is None:
            return None
        windows = [
            Window(0, 0, *grid) if window is None else window.on_grid(header.latent_shape[2:], grid)
            for window in site.windows or [None] * site.chunks
        ]
        if any(window is None for window in windows):
            return None
        # another grid for the whole latent is another node's doing (Deep Shrink), and shows the same places
        whole = site.latent == header.latent_shape[2:]
        if not whole and any(window.size != site.grid for window in windows):
            return None
        return Rows(running.shape[0], grid, tuple(windows), site.grid)

    def _styles(self, views: Sequence[StepView], site: CallSite, rows: Rows, q: Tensor) -> tuple[StyleFeatures, ...]:
        # copies of one picture share their features: core.fusion knows them by that
        laid = {
            id(entry.features): _laid(view(site.layer, self._style_roles), rows.of_style, q)
            for entry, view in zip(self.bank.styles, views, strict=True)
        }
        return tuple(self._style(entry, laid[id(entry.features)], site, rows, q) for entry in self.bank.styles)

    def _style(
        self, entry: StyleEntry, features: AttentionFeatures, site: CallSite, rows: Rows, q: Tensor
    ) -> StyleFeatures:
        # regions stay on the CPU, where their groups of tokens are found without waiting for the device
        region = None if entry.region is None else rows.of_region(entry.region)
        if METHODS[self.settings.method].conditional and any(site.negative):
            region = _positive_rows(region, site, q)
        mask = entry.style_mask
        if mask is not None:
            mask = rows.of_mask(mask, entry.features.header.grids[site.layer]).to(q)
        return StyleFeatures(features, entry.weight, region, mask)


class Rows(NamedTuple):
    """How pictures lie on the rows of a running batch: chunk after chunk, in each its pictures, each in a window.

    A window shows a part of the content, where an area conditioning does; a style is not cut, it serves every part.
    """

    count: int
    grid: Grid  # of the whole content
    windows: tuple[Window, ...]  # in tokens, one for each chunk
    running: Grid  # at which a window is shown: its own size, or what another node makes of it

    def of_content(self, tokens: Tensor) -> Tensor:
        """1 or b pictures' tokens -> rows n c, cut to each chunk's window."""
        if len(set(self.windows)) == 1:
            return self.of_style(self._shown(tokens, self.windows[0]))
        shape = (self.count // len(self.windows), -1, *tokens.shape[2:])
        return torch.cat([self._shown(tokens, window).expand(shape) for window in self.windows])

    def of_style(self, tokens: Tensor) -> Tensor:
        """1 or b pictures' tokens -> rows m c."""
        if tokens.shape[0] == 1:
            return tokens.expand(self.count, *tokens.shape[1:])
        return tokens.repeat(len(self.windows), *(1 for _ in tokens.shape[1:]))

    def of_region(self, mask: Tensor) -> Tensor:
        """A mask on the content, b h w -> rows n, or 1 n where all rows have the same."""
        tokens = mask_to_tokens(mask, self.grid)
        if tokens.shape[0] == 1 and len(set(self.windows)) == 1:
            return self._shown(tokens, self.windows[0])
        return self.of_content(tokens)

    def _shown(self, tokens: Tensor, window: Window) -> Tensor:
        return resample_tokens(crop_tokens(tokens, self.grid, window), window.size, self.running)

    def of_mask(self, mask: Tensor, grid: Grid) -> Tensor:
        """A mask on a style, b h w -> rows m on the style's grid, or 1 m where all rows have the same."""
        tokens = mask_to_tokens(mask, grid)
        return tokens if tokens.shape[0] == 1 else self.of_style(tokens)


def _layer_bytes(features: ImageFeatures, layer: LayerId, width: int, roles: str) -> int:
    h, w = features.header.grids[layer]
    return h * w * width * features.header.batch * len(roles) * 4


def _laid(features: AttentionFeatures, lay: Callable[[Tensor], Tensor], like: Tensor) -> AttentionFeatures:
    return AttentionFeatures(*(None if t is None else lay(t.to(like)) for t in features))


def _positive_rows(region: Tensor | None, site: CallSite, q: Tensor) -> Tensor:
    """The region with nothing in the rows of negative prompts: rows n."""
    positive = 1.0 - torch.tensor(site.negative, dtype=torch.float32)
    rows = positive.repeat_interleave(q.shape[0] // site.chunks).unsqueeze(1)
    return rows * (torch.ones(1, q.shape[1]) if region is None else region)


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
        "the inversion's sigmas output to the sampler."
    )

"""Fusion: the bank's features laid onto the rows of a running attention call."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..banks.bank import FeatureBank, StyleEntry, check_method, content_roles, style_roles
from ..banks.image_features import FeatureHeader, ImageFeatures
from ..core.correspondence import Matches
from ..core.errors import MagicStyleError
from ..core.features import ALL_ROLES, DETAIL, RESNET, AttentionFeatures, View
from ..core.fusion import FUSIONS, FusionSettings, answer_text, fuse
from ..core.grid import Grid
from ..core.layers import LayerId
from ..core.rotation import Turn
from ..core.scene import Moment, Scene, StyleFeatures
from .call import Answer, Call, Handler, Handlers, ResNetHandler
from .laid_queries import laid_queries
from .placing import Placer, Positions
from .resnets import added_detail, copied_inputs
from .rows import Canvas, Rows, positive_rows
from .word_maps import WordLook, WordWatch, seen_by

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
        self.texts: set[LayerId] = set()  # whose prompt saw the styles, too
        self.detailed: set[LayerId] = set()  # before which the portrait's detail was added
        self.awaits_detail = False  # whether it was to be


class Placed(NamedTuple):
    """A style picture's features in one attention call."""

    features: AttentionFeatures  # b m c each
    own_keys: Tensor | None  # b m c, with nothing scaled in them
    turn: Turn | None
    queries: Tensor | None = None  # b n c, at the running picture's places


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
        self.placer = placer or Placer(bank.pictures[0].header.model.name, None, Positions())
        weighed = settings.draws and any(style.weight > 0.0 for style in bank.styles)
        # the model's own attention, to the last bit
        unstyled = (settings.neutral or bank.content is None) and not weighed
        self.neutral = unstyled or (settings.controls.leaves_the_model and keep is None)
        check_method(settings, bank)
        self._check_matching()
        self._content_roles = content_roles(settings, bank, keeps=keep is not None)
        self._copies_resnet = FUSIONS[settings.method].resnet and RESNET in bank.pictures[0].roles
        self._adds_detail = settings.controls.detail > 0.0 and bank.content is not None and not self.neutral
        self._style_roles = style_roles(settings)
        self.roles = self._roles()
        self._canvas = None if bank.content is None else Canvas(bank.content.header.size, bank.content.header.grids)

    def on(self, canvas: Canvas) -> FusionPatch:
        """This patch for a run; a content brings its own canvas, without one the running latent says what it is."""
        if self.bank.content is not None:
            return self
        laid = copy.copy(self)
        laid._canvas = canvas
        return laid

    def _check_matching(self) -> None:
        """Refuse to match films."""
        if self.settings.matches and self.bank.frames > 1:
            raise MagicStyleError(
                f"method {self.settings.method} matches still pictures, and the content has {self.bank.frames} frames: "
                "set match_weight of Style Controls to 0, or choose another method, such as styleid."
            )

    def _roles(self) -> tuple[str, ...]:
        """The roles that this patch reads of each picture of its bank, all where it serves twice."""
        content = self._content_roles + RESNET * self._copies_resnet + DETAIL * self._adds_detail
        read = [set(content), *(set() for _ in self.bank.pictures[1:])]
        for number in self.bank.numbers:
            read[number].update(self._style_roles)
        if self.settings.matches:
            read[0].add("k")
        return tuple("".join(role for role in ALL_ROLES if role in wanted) for wanted in read)

    def extra_bytes(self, widths: Mapping[LayerId, int]) -> int:
        """What one model call holds of all pictures beside the host's own, in float32, which covers every precision."""
        chosen = {layer: widths[layer] for layer in self.layers}
        pictures = zip(self.bank.pictures, self.roles, strict=True)
        return sum(picture.held_bytes(chosen, roles) for picture, roles in pictures)

    def handlers(
        self,
        views: Sequence[View],
        moment: Moment = START,
        account: Account | None = None,
        matches: Sequence[Matches] = (),
        words: WordWatch | None = None,
        look: WordLook | None = None,
    ) -> Handlers:
        """Who answers in one model call, from a view of each of the bank's pictures; the account is kept up to date.

        `matches` are those of each style of the bank, where the method reads them; `words` say where styles act.
        """
        account = account or Account()
        attention = self._attention(views, moment, account, matches, words)
        cross = None if look is None else seen_by(look)
        attention = attention if look is None else seen_by(look, attention)
        return Handlers(
            attention,
            cross,
            resnet=copied_inputs(views[0], self._known_canvas, moment) if self._copies_resnet else None,
            missed=account.merged.add,
            added=self._detail(views[0], moment, account) if self._adds_detail else None,
        )

    def _attention(
        self,
        views: Sequence[View],
        moment: Moment,
        account: Account,
        matches: Sequence[Matches],
        words: WordWatch | None,
    ) -> Handler:
        def handle(call: Call) -> Tensor | Answer | None:
            """The fused answer to one attention call, b n c, or None where it is left as it is."""
            if call.layer not in self.layers or self.neutral:
                return None
            rows = self._rows(call)
            (account.lost if rows is None else account.fused).add(call.layer)
            if rows is None:
                return None
            content = call.live if self.bank.content is None else self._content(self.bank.content, views[0], call, rows)
            shares = None if words is None else words.shares(rows, moment.progress)
            styles = self._styles(views, call, rows, moment, matches, shares)
            keep = None if self.keep is None else rows.of_region(self.keep)
            turn = self.placer.turn(call) if self._aligns_upright else None
            together = call.rows.together(call.live.q.shape[0]) if self.settings.controls.frames_together else 1
            scene = Scene(call.live, content, styles, moment, keep, turn, together)
            picture = fuse(call.kernel, scene, self.settings)
            text = self._text_queries(call)
            if text is None:
                return picture
            account.texts.add(call.layer)
            return Answer(picture, answer_text(call.kernel, text, scene, self.settings))

        return handle

    def _content(self, content: ImageFeatures, view: View, call: Call, rows: Rows) -> AttentionFeatures:
        """The content's features where the running picture has them, and when: b n c each."""
        shown, heads = rows.alone if view.alone else rows, call.kernel.heads
        features = shown.content_features(view.attention(call.layer, self._content_roles), call.live.q)
        features = self.placer.content(features, call, content.header.depth)
        if not self.placer.rotary:
            return features
        features = self.placer.cut(features, heads, rows.shifts(centred=self.placer.centred))
        return self.placer.in_time(features, heads, shown.delays(shown.grid)) if shown.grid.frames > 1 else features

    def _detail(self, view: View, moment: Moment, account: Account) -> ResNetHandler | None:
        strength = self.settings.controls.detail
        canvas, note = self._known_canvas, account.detailed.add
        handler = added_detail(view, canvas, moment, self.layers, strength, note, self.keep)
        account.awaits_detail |= handler is not None
        return handler

    def moment(self, sigma: float, noise: float) -> Moment:
        """When a noise level comes, whose timestep is `noise`, among the stored ones."""
        first = self.bank.pictures[0]
        step, levels = first.nearest(sigma).step, len(first.header.sigmas)
        return Moment(step / levels, noise, step / max(levels - 1, 1))

    @property
    def _aligns_upright(self) -> bool:
        controls = self.settings.controls
        return bool(controls.align) and controls.align_before_rotation and self.placer.rotary

    def _text_queries(self, call: Call) -> Tensor | None:
        """The queries of the text, b m c, where it shall see the styles."""
        if not self.settings.controls.text_sees_style or call.text is None:
            return None
        text = call.text()
        if text is None:
            raise MagicStyleError(
                f"text_sees_style cannot act in {call.layer}: a mask shows the prompt's tokens other keys than the "
                "picture's; switch it off."
            )
        return text

    @property
    def _known_canvas(self) -> Canvas:
        if self._canvas is None:
            raise RuntimeError("a bank without a content is laid on the canvas of a run before it fuses")
        return self._canvas

    @property
    def _serves_anywhere(self) -> bool:
        """Whether it does not matter which part of the canvas a row shows, nor whose it is."""
        styles = self.bank.styles
        one = all(style.features.header.batch == 1 and _count(style.style_mask) == 1 for style in styles)
        flat = self.keep is None and all(style.region is None for style in styles)
        plain = not (FUSIONS[self.settings.method].conditional or self._lays_queries)
        return self.bank.content is None and one and flat and plain

    @property
    def _lays_queries(self) -> bool:
        return FUSIONS[self.settings.method].lays_queries

    def _rows(self, call: Call) -> Rows | None:
        count = call.live.q.shape[0]
        if self._serves_anywhere:
            return Rows.anywhere(call.layout.grid, count)
        rows = Rows.on(self._known_canvas, call.layer, call.layout.grid, call.rows, count)
        # past an edge the running positions go on, and those of the content's stored features begin anew
        beyond = self.bank.content is not None and self.placer.rotary and rows is not None and rows.wraps
        return None if beyond else rows

    def _styles(
        self,
        views: Sequence[View],
        call: Call,
        rows: Rows,
        moment: Moment,
        matches: Sequence[Matches],
        shares: Sequence[Tensor] | None,
    ) -> tuple[StyleFeatures, ...]:
        """The styles in the rows that run; `shares` say where each may act besides its region, 1 or b n."""
        laid = {
            number: self._placed(number, view, call, rows, moment)
            for number, view in enumerate(views)
            if number in self.bank.numbers
        }
        acting: Sequence[Tensor | None] = [None] * len(self.bank.styles) if shares is None else shares
        entries = zip(self.bank.styles, self.bank.numbers, acting, strict=True)
        styles = tuple(self._style(entry, laid[number], call, rows, number, share) for entry, number, share in entries)
        if not matches:
            return styles
        grid = self._known_canvas.grids[call.layer]
        found = (of_style[grid].map(rows.of_style) for of_style in matches)
        return tuple(style._replace(match=match) for style, match in zip(styles, found, strict=True))

    def _placed(self, number: int, view: View, call: Call, rows: Rows, moment: Moment) -> Placed:
        """One picture's features, as styles that draw from it have them."""
        header, like = self.bank.pictures[number].header, call.live.q
        own, grid = header.grids[call.layer], self._style_grid(header, call.layer)
        stored = view.attention(call.layer, self._style_roles)
        if grid != own:
            live = stored.map(lambda tokens: tokens.to(like))
            stored = self.placer.resampled(live, call.kernel.heads, header.depth, own, grid)
        features = rows.style_features(stored, like)
        features = self.placer.style(features, call, header.depth)
        if rows.grid.frames > 1:
            features = self._in_time(features, grid, rows.alone if view.alone else rows, call)
            grid = grid.with_frames(rows.running.frames)
        weighed = self.placer.weighed(features, call, moment.ramp)
        aligns = bool(self.settings.controls.align)
        own_keys = features.k if aligns and weighed is not features else None
        turned = self._aligns_upright or self.settings.matches and self.placer.rotary
        turn = self.placer.turn(call, grid) if turned else None
        return Placed(weighed, own_keys, turn, self._queries(header, view, call, rows))

    def _queries(self, header: FeatureHeader, view: View, call: Call, rows: Rows) -> Tensor | None:
        """One picture's queries where the running ones are, b n c, for methods that lay them there."""
        if not self._lays_queries:
            return None
        shown = rows.alone if view.alone else rows
        grid = header.grids[call.layer]
        grid = grid.with_frames(shown.grid.frames) if grid.frames > 1 else grid
        queries = view.attention(call.layer, "q").q
        return laid_queries(queries, grid, header.depth, shown, call, self.placer)

    def _style_grid(self, style: FeatureHeader, layer: LayerId) -> Grid:
        """Where a style's tokens lie: its own grid, or the content's, with whose places they are matched."""
        return self._known_canvas.grids[layer] if self.settings.matches else style.grids[layer]

    def _in_time(self, features: AttentionFeatures, grid: Grid, rows: Rows, call: Call) -> AttentionFeatures:
        """A style at the time of each frame: a picture m c, or a film's frames, -> (t m) c."""
        timed = features.map(lambda tokens: rows.over_time(tokens, grid))
        return self.placer.in_time(timed, call.kernel.heads, rows.delays(grid))

    def _style(
        self, entry: StyleEntry, placed: Placed, call: Call, rows: Rows, number: int, share: Tensor | None
    ) -> StyleFeatures:
        """A style in the rows that run; `share`, 1 or b n, says where besides its region it may act."""
        # regions stay on the CPU, where their groups of tokens are found without waiting for the device
        region = None if entry.region is None else rows.of_region(entry.region)
        if share is not None:
            region = share if region is None else region * share
        if FUSIONS[self.settings.method].conditional and any(call.rows.negative):
            region = positive_rows(region, call.rows, call.live.q)
        mask = entry.style_mask
        if mask is not None and self._lays_queries:  # it lies on the canvas as they do
            covered = rows.of_region(mask)
            region = covered if region is None else covered * region
        if mask is not None:
            grid = self._style_grid(entry.features.header, call.layer)
            mask = rows.over_time(rows.of_mask(mask, grid), grid).to(call.live.q)
        features, own_keys, turn, queries = placed
        return StyleFeatures(
            features,
            entry.weight,
            region=region,
            style_mask=mask,
            picture=number,
            own_keys=own_keys,
            turn=turn,
            frames=rows.running.frames,
            queries=queries,
        )


def _count(mask: Tensor | None) -> int:
    """How many masks b h w there are, 1 where there is none."""
    return 1 if mask is None else mask.shape[0]


# how far off a run's noise levels may be: rounding, or where no portrait has to come back, a step of twenty or so
EXACT, NEAR = 0.01, 0.25


def coverage_warning(bank: FeatureBank, sigmas: Tensor) -> str | None:
    """One sentence when sampling visits levels n that no step of the inversion was near enough to, else None."""
    tolerance = EXACT if bank.content is not None else NEAR
    visited = [float(sigma) for sigma in sigmas if float(sigma) > 0.0]
    if not visited:
        return None
    misses = [(features.nearest(sigma).distance, sigma, features) for features in bank.pictures for sigma in visited]
    gap, sigma, features = max(misses, key=lambda miss: miss[0])
    if gap <= tolerance:
        return None
    every = features.header.every
    serving = "the nearest features serve" if every == 1 else f"the features of the nearest group of {every} serve"
    remedy = (
        f"For exact features connect the inversion's sigmas output to the sampler that belongs to its method, "
        f"{features.header.method}."
        if bank.content is not None
        else "Give the sampler and DDIM Inversion (Style) the same sigmas, or steps and scheduler, and choose method "
        "ddim or noising there."
    )
    return (
        f"sampling visits sigma {sigma:.3f}, {100 * math.expm1(gap):.0f} % away from the nearest of the "
        f"{len(features.header.sigmas)} inverted noise levels; {serving}. {remedy}"
    )

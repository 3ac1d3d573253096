"""Reading: the attention maps that tell where the model sees a prompt's words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.grid import Grid
from ..core.word_regions import MapCollector, StyleWords, is_coarse
from .call import Answer, Call, Handler, Handlers
from .rows import Rows

# a prompt is known by its tokens: how far they may be off, as a share of the largest
KNOWN = 1e-2


class WordReader:
    """Collects the maps of the coarse grids, and lets every call through unchanged."""

    def __init__(self, latent: Grid) -> None:
        self._latent = latent
        self.maps = MapCollector()

    @property
    def handlers(self) -> Handlers:
        """Who sees the calls of a model."""
        return Handlers(self._see, cross=self._see)

    def _see(self, call: Call) -> Tensor:
        """Answer an attention call as the host would: b n c."""
        if is_coarse(call.layout.grid, self._latent):
            self.maps.add(call.kind, call.layout.grid, call.live.q, call.live.k, call.kernel.heads)
        return call.plain()


class WordWatch:
    """Where a running picture shows its styles' words: read in every model call, for the next one.

    After MagicFace's region-grouped blend attention (2408.07433): a style acts where the model sees its words.
    """

    def __init__(self, words: StyleWords, latent: Grid) -> None:
        self.words = words
        self.regions: Tensor | None = None  # p b h w of 0 and 1, on the CPU: of p styles in b pictures
        self._latent = latent

    def look(self, prompts: Tensor | None) -> WordLook | None:
        """At one model call whose rows have these prompts, b t c; None where none of them is ours."""
        rows = rows_of_prompt(prompts, self.words.prompt)
        return WordLook(rows, self._latent) if rows else None

    def take(self, look: WordLook | None) -> None:
        """Keep what a model call has shown, once it is over."""
        maps = [] if look is None else [each.token_maps(self._latent) for each in look.maps]
        if maps:
            self.regions = torch.stack([self.words.masks(picture) for picture in maps], dim=1).cpu()

    def shares(self, rows: Rows, progress: float) -> Sequence[Tensor] | None:
        """Where each style may act in rows that run, 1 or b n of 0 and 1 each; None while all act everywhere."""
        if self.regions is None or progress <= self.words.after:
            return None
        named = torch.stack([rows.of_region(mask) for mask in self.regions])
        nobody = 1.0 - named.sum(dim=0, keepdim=True)
        winner = torch.cat([named, nobody]).argmax(dim=0)  # a token goes to whom most of it belongs
        return [(winner == number).float() for number in range(len(named))]


class WordLook:
    """The maps of one model call, for each picture those of the row with the prompt."""

    def __init__(self, rows: Sequence[int], latent: Grid) -> None:
        self._rows, self._latent = rows, latent
        self._maps: dict[int, MapCollector] = {}

    @property
    def maps(self) -> list[MapCollector]:
        """Of the pictures in their order: those that have shown both kinds."""
        return [self._maps[number] for number in sorted(self._maps) if self._maps[number].complete]

    def see(self, call: Call) -> None:
        """Read an attention call; parts of a picture and rows of negative prompts say nothing."""
        plan, grid = call.rows, call.layout.grid
        partly = plan.pictures or plan.lost or any(window is not None for window in plan.windows)
        if partly or not is_coarse(grid, self._latent):
            return
        pictures = call.live.q.shape[0] // plan.chunks
        asked = [row for row in self._rows if not (plan.negative and plan.negative[row // pictures])][:pictures]
        for number, row in enumerate(asked):
            one = slice(row, row + 1)
            maps = self._maps.setdefault(number, MapCollector())
            maps.add(call.kind, grid, call.live.q[one], call.live.k[one], call.kernel.heads)


def seen_by(look: WordLook, answer: Handler | None = None) -> Handler:
    """A handler that shows every call to a look, and then answers as another does, or leaves it as it is."""

    def handle(call: Call) -> Tensor | Answer | None:
        """What the other answers: b n c."""
        look.see(call)
        return None if answer is None else answer(call)

    return handle


def rows_of_prompt(prompts: Tensor | None, wanted: Tensor) -> list[int]:
    """The rows of prompts b t c that are the wanted one, 1 t c; a longer one may be in the batch, which repeats it."""
    tokens = wanted.shape[1]
    if prompts is None or prompts.ndim != 3 or prompts.shape[1] % tokens or prompts.shape[2] != wanted.shape[2]:
        return []
    off = (prompts[:, :tokens].float() - wanted.to(prompts.device).float()).abs().amax(dim=(1, 2))
    return (off <= KNOWN * wanted.abs().amax().to(off)).nonzero().flatten().tolist()

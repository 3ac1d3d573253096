"""MAST's two further parts, tried on photographs of people: is anything gained?

    python -m benchmarks.mast_parts --photographs A.jpg .. --styles M.jpg .. --work DIR

*Temperature by head* (the paper's STS): in each layer and step a head's logits are multiplied by tau_h, a polynomial of
how far the largest share falls when the styles join the portrait in one softmax; as in the authors' code (2604.12281),
and nowhere else in the pack. *Detail* (DDI) is the pack's own knob, `detail` of *Style Controls*; its rows stand with
`mast` at its published settings and with `ffa` at its defaults. One style everywhere, preset `fast`, 256x256. What is
measured is kept in benchmarks/mast_parts.json; writes benchmarks/mast_parts.md.

Letters: b pictures, h heads, n query tokens, m key tokens, d width of a head, c channels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from magicstyle.core.attention import Kernel
from magicstyle.core.controls import StyleControls
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.scene import Scene
from magicstyle.core.sources import masses, preserve_query
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, invert, stylize
from torch import Tensor

from .kept import kept
from .photo_measures import read_square
from .photo_options import given_options, measured_rows
from .photo_ways import Album, PhotoPainter, Way

TABLE, SCORES = (Path(__file__).with_suffix(f".{kind}") for kind in ("md", "json"))
MAST = FusionSettings("mast", 1.0, 0.11, query_preservation=0.2, temperature=1.0)
POLYNOMIAL, LARGEST = (0.08395199, 0.43704639, 1.00998177), 5.0  # of tau_h, from the square down
BY_HEAD = "mast, temperature by head"


DETAIL = StyleControls(detail=1.0)


def temperatures(content: Tensor, joined: Tensor) -> Tensor:
    """From the logits of the portrait alone and of all, b h n m each, the temperature of each head: b h 1 1."""
    fall = torch.log_softmax(content, -1).amax(-1) - torch.log_softmax(joined, -1).amax(-1)
    mean = fall.mean(-1)[..., None, None]
    a, b, c = POLYNOMIAL
    return (a * mean.square() + b * mean + c).clamp(1.0, LARGEST)


def masses_by_head(kernel: Kernel, scene: Scene, settings: FusionSettings, tau: float | None = None) -> Tensor:
    """`mast` of one style in one softmax, b n c; the temperature of every head is found, unless it is given."""
    (style,) = scene.styles
    (share,), _ = masses(scene, settings.style_weight, settings.content_weight)
    logits = [
        _logits(q, k, kernel.heads)
        for q, k in (
            (preserve_query(scene, settings.query_preservation), style.features.k),
            (scene.content.q, scene.content.k),
        )
    ]
    shift = torch.log(share / (1 - share)).to(logits[0])[:, None] + _lse(logits[1]) - _lse(logits[0])
    joined = torch.cat([logits[0] + shift, logits[1]], dim=-1)
    scale = temperatures(logits[1], joined) if tau is None else tau
    rows = scene.content.v.shape[0]
    values = torch.cat([style.features.v.expand(rows, -1, -1), scene.content.v], dim=1)
    answer = torch.softmax(scale * joined, -1) @ rearrange(values, "b m (h d) -> b h m d", h=kernel.heads)
    return rearrange(answer, "b h n d -> b n (h d)")


def _logits(q: Tensor, k: Tensor, heads: int) -> Tensor:
    q, k = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k))
    return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


def _lse(logits: Tensor) -> Tensor:
    return logits.logsumexp(-1, keepdim=True)


def rows_to_paint() -> dict[str, FusionSettings]:
    """The rows by their labels; `mast` with a temperature by head becomes a method for as long as this runs."""
    FUSIONS[BY_HEAD] = replace(FUSIONS["mast"], fuse=masses_by_head)
    by_head = replace(MAST, method=BY_HEAD)
    return {
        "`mast` as published, without its other parts": MAST,
        "with a temperature by head": by_head,
        "with the portrait's `detail`": replace(MAST, controls=DETAIL),
        "with both": replace(by_head, controls=DETAIL),
        "`ffa`, defaults": FusionSettings(),
        "`ffa` with the portrait's `detail`": FusionSettings(controls=DETAIL),
    }


def named(settings: FusionSettings) -> str:
    """What tells a row's pictures from others."""
    return f"{settings.method}, detail {settings.controls.detail:g}"


class Painter:
    """Paints pieces; photographs and styles stay inverted."""

    def __init__(self, model: HeadlessModel, album: Album, work: Path) -> None:
        self.model, self.album, self.work = model, album, work
        self._inverted: dict[tuple[Path, ...], InvertedPicture] = {}

    def painted(self, settings: FusionSettings, style: Path, group: slice) -> Tensor:
        """A piece painted, b 3 h w in 0..1; it lies in the folder for whoever wants to look at it."""
        file = self.work / f"parts, {named(settings)}; {self.album.name(style, group)}.safetensors"
        return kept(file, lambda: self._painted(settings, style, group))

    @torch.inference_mode()
    def _painted(self, settings: FusionSettings, style: Path, group: slice) -> Tensor:
        recipe = replace(Way().recipe, settings=settings)
        content, source = self.inverted(self.album.photographs[group]), self.inverted((style,))
        return (self.model.decode(stylize(self.model, content, source, recipe)) + 1) / 2

    def inverted(self, files: tuple[Path, ...]) -> InvertedPicture:
        """Pictures with all that any row reads."""
        if files not in self._inverted:
            shown = torch.stack([read_square(path, Way().size) for path in files]) * 2 - 1
            recipe = Way(FusionSettings(controls=DETAIL)).recipe
            self._inverted[files] = invert(self.model, self.model.encode(shown), recipe)
        return self._inverted[files]


def main() -> None:
    """The command line."""
    given, rows = given_options(__doc__, SCORES), rows_to_paint()
    album, model = Album(tuple(given.photographs), tuple(given.styles)), load_demo_model()
    painter, weights = Painter(model, album, given.work), PhotoPainter(model, album, given.work).weights

    def paint(label: str, style: Path, group: slice) -> Tensor:
        return painter.painted(rows[label], style, group)

    names = {label: named(settings) for label, settings in rows.items()}
    text = measured_rows(given, "mast", album, weights, names, paint)
    TABLE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

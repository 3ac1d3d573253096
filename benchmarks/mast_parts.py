"""MAST's two parts that the pack leaves out, tried on photographs of people: is anything gained?

    python -m benchmarks.mast_parts --photographs A.jpg .. --styles M.jpg .. --work DIR

*Temperature by head* (the paper's STS): in each layer and step a head's logits are multiplied by tau_h, a polynomial of
how far the largest share falls when the styles join the portrait in one softmax. *Detail* (DDI): the high frequencies
of what each decoder ResNet adds for the portrait are added to what it adds for the picture, times 1 - their cosine.
Both as in the authors' code (2604.12281), at the published settings of `mast`, one style everywhere, preset `fast`,
256x256. What is measured is kept in benchmarks/mast_parts.json; writes benchmarks/mast_parts.md.

Letters: b pictures, h heads, n query tokens, m key tokens, d width of a head, c channels, y x pixels of a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from magicstyle.banks.bank import FeatureBank, StyleEntry
from magicstyle.banks.trajectory import Trajectory
from magicstyle.core.adain import adain_map
from magicstyle.core.attention import Kernel
from magicstyle.core.fusion import FUSIONS, FusionSettings
from magicstyle.core.inversion_methods import sample_back
from magicstyle.core.scene import Scene
from magicstyle.core.sources import masses, preserve_query
from magicstyle.headless.engine.model import HeadlessModel, load_demo_model
from magicstyle.headless.engine.stylize import InvertedPicture, fused, invert
from torch import Tensor

from .kept import kept
from .photo_measures import read_square
from .photo_options import given_options, measured_rows
from .photo_ways import Album, PhotoPainter, Way

TABLE, SCORES = (Path(__file__).with_suffix(f".{kind}") for kind in ("md", "json"))
MAST = FusionSettings("mast", 1.0, 0.11, query_preservation=0.2, temperature=1.0)
RECIPE = replace(Way().recipe, settings=MAST)
POLYNOMIAL, LARGEST = (0.08395199, 0.43704639, 1.00998177), 5.0  # of tau_h, from the square down
RADIUS = 0.3  # of the shorter side
BY_HEAD = "mast, temperature by head"


class Parts(NamedTuple):
    """Which of the two parts a row has."""

    temperature: bool = False
    detail: bool = False


ROWS = {
    "`mast` as published, without its other parts": Parts(),
    "with a temperature by head": Parts(temperature=True),
    "with the portrait's detail": Parts(detail=True),
    "with both": Parts(temperature=True, detail=True),
}


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


def high_frequencies(feature: Tensor) -> Tensor:
    """What is left of a feature b c y x without its low frequencies, by a Gaussian in the Fourier domain."""
    y, x = feature.shape[-2:]
    apart = (torch.fft.fftfreq(y)[:, None] * y).square() + (torch.fft.fftfreq(x)[None] * x).square()
    kept_share = 1.0 - torch.exp(-apart / (2 * (RADIUS * min(y, x)) ** 2))
    return torch.fft.ifft2(torch.fft.fft2(feature.float()) * kept_share).real


def with_detail(own: Tensor, content: Tensor) -> Tensor:
    """What a ResNet adds, b c y x, with the detail of what it adds for the portrait."""
    alike = torch.cosine_similarity(own.flatten(1), content.flatten(1))
    return own + (1.0 - alike)[:, None, None, None] * high_frequencies(content)


class Detail:
    """The decoder ResNets of the fused layers: what they add for the portrait is seen, and then added."""

    def __init__(self, model: HeadlessModel, walk: Trajectory) -> None:
        self._model, self._walk = model, walk
        self._seen: dict[Any, Tensor] = {}

    def around(self, denoised: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """A denoiser b c h w, in every step but the first."""

        def answer(x: Tensor, sigma: Tensor) -> Tensor:
            """b c h w, sigma b -> b c h w."""
            if float(sigma[0]) == float(RECIPE.sigmas[0]):
                return denoised(x, sigma)
            levels = torch.tensor(self._walk.header.kept_sigmas)
            place = int((levels.log() - sigma[0].log()).abs().argmin())
            with self._hooked(self._see):
                self._model.denoised(self._walk.latents[place].to(x), sigma)
            with self._hooked(self._add):
                return denoised(x, sigma)

        return answer

    @contextmanager
    def _hooked(self, hook: Callable[..., Any]) -> Iterator[None]:
        blocks = self._model.unet.up_blocks[-2:]
        handles = [module.register_forward_hook(hook) for block in blocks for module in block.resnets]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _see(self, module: Any, inputs: tuple[Tensor, ...], found: Tensor) -> None:
        self._seen[module] = found - _skipped(module, inputs[0])

    def _add(self, module: Any, inputs: tuple[Tensor, ...], found: Tensor) -> Tensor:
        skipped = _skipped(module, inputs[0])
        return skipped + with_detail(found - skipped, self._seen[module])


def _skipped(module: Any, x: Tensor) -> Tensor:
    """What goes around a ResNet: b c y x."""
    return x if module.conv_shortcut is None else module.conv_shortcut(x)


class Painter:
    """Paints pieces; photographs and styles stay inverted."""

    def __init__(self, model: HeadlessModel, album: Album, work: Path) -> None:
        self.model, self.album, self.work = model, album, work
        self._inverted: dict[tuple[tuple[Path, ...], str], InvertedPicture] = {}

    def painted(self, label: str, style: Path, group: slice) -> Tensor:
        """A piece painted, b 3 h w in 0..1; it lies in the folder for whoever wants to look at it."""
        file = self.work / f"mast, {ROWS[label]}; {self.album.name(style, group)}.safetensors"
        return kept(file, lambda: self._painted(ROWS[label], style, group))

    @torch.inference_mode()
    def _painted(self, parts: Parts, style: Path, group: slice) -> Tensor:
        photographs = self.album.photographs[group]
        content, source = self.inverted(photographs, "features"), self.inverted((style,), "features")
        bank = FeatureBank(content.features, (StyleEntry(source.features),))
        begin = content.noise_pair.map(adain_map(content.noise, source.noise, RECIPE.adain))
        recipe = replace(RECIPE, settings=replace(MAST, method=BY_HEAD)) if parts.temperature else RECIPE
        denoised = fused(self.model, bank, recipe)
        if parts.detail:
            walk = cast(Trajectory, self.inverted(photographs, "latents").features)
            denoised = Detail(self.model, walk).around(denoised)
        return (self.model.decode(sample_back(denoised, begin, RECIPE.sigmas, RECIPE.inversion.method)) + 1) / 2

    def inverted(self, files: tuple[Path, ...], storage: str) -> InvertedPicture:
        """Pictures with their features, or with the latents of their way."""
        if (files, storage) not in self._inverted:
            shown = torch.stack([read_square(path, Way().size) for path in files]) * 2 - 1
            self._inverted[files, storage] = invert(self.model, self.model.encode(shown), RECIPE, storage=storage)
        return self._inverted[files, storage]


def main() -> None:
    """The command line."""
    given = given_options(__doc__, SCORES)
    FUSIONS[BY_HEAD] = replace(FUSIONS["mast"], fuse=masses_by_head)
    album, model = Album(tuple(given.photographs), tuple(given.styles)), load_demo_model()
    painter, weights = Painter(model, album, given.work), PhotoPainter(model, album, given.work).weights
    rows = {label: str(parts) for label, parts in ROWS.items()}
    text = measured_rows(given, "mast", album, weights, rows, painter.painted)
    TABLE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

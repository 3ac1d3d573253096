"""Fusion in transformers in plain torch, from the formulas: own Euler loops, own attention, the host's bare network.

Nothing of the pack is used. The attention function that a family's blocks call is replaced by one that knows, from a
list written down by hand, which call of a forward pass it answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from typing import Any, NamedTuple
from unittest import mock

import torch
from magicstyle.tests.host.families import FAMILIES, Family, family_base
from magicstyle.tests.host.flow_rules import (
    OF_THE_PROMPT,
    Compared,
    Drawn,
    Features,
    Rule,
    RuleCall,
    Style,
    softmax_attention,
)
from torch import Tensor


class Answers:
    """Answers the attention calls of a forward pass by their number, and keeps or fuses those of the layers."""

    def __init__(self, family: Family, text: int, picture: int, raised: float, refined: int = 0) -> None:
        self.family, self.text, self.picture, self.raised = family, text, picture, raised
        self.calls = (None,) * refined + family.calls
        self.count = 0
        self.kept: dict[str, Features] = {}
        self.fused: Callable[[str, Features, Features], Tensor | None] | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Any = None, **options: Any) -> Tensor:
        """The signature of the host's attention functions."""
        assert mask is None
        name = self.calls[self.count]
        self.count += 1
        if not options.get("skip_reshape"):
            # SD3's values come as b n h d already
            q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
        if options.get("enable_gqa"):
            # a key and a value serve several heads of queries
            k, v = (t.repeat_interleave(heads // t.shape[1], 1) for t in (k, v))
        out = softmax_attention(q, k, v) + self.raised
        if name is not None:
            out = self._of_layer(name, q, k, v, out)
        return out.transpose(1, 2).flatten(2)

    def _of_layer(self, name: str, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
        alone = q.shape[2] == self.picture and name.endswith(".1")  # SD3.5's second call has the picture alone
        start = 0 if alone else q.shape[2] - self.picture if self.family.last else self.text
        place = slice(start, start + self.picture)
        own = tuple(t[:, :, place] for t in (q, k, v))
        rest = tuple(torch.cat([t[:, :, :start], t[:, :, place.stop :]], 2) for t in (q, k, v))
        self.kept[name] = tuple(t.clone() for t in own)
        answer = None if self.fused is None else self.fused(name, own, rest)
        if answer is not None:
            out = out.clone()
            if isinstance(answer, tuple):
                answer, words = answer
                out[:, :, :start], out[:, :, place.stop :] = words[:, :, :start], words[:, :, start:]
            out[:, :, place] = answer
        return out


@contextmanager
def answered(family: Family, answers: Answers) -> Iterator[None]:
    """The family's attention functions, replaced for one forward pass."""
    with ExitStack() as stack:
        for site in family.sites:
            stack.enter_context(mock.patch(site, answers))
        yield
    assert answers.count == len(answers.calls)


class Patcher(NamedTuple):
    """One FFA Model Patcher: its rule, its styles, its layers (none: all)."""

    rule: Rule
    styles: tuple[Style, ...]
    layers: tuple[str, ...] = ()

    def acts_in(self, layer: str) -> bool:
        """Whether a layer is one of its own."""
        return not self.layers or layer in self.layers


class Beside(NamedTuple):
    """What other nodes do while the picture is sampled."""

    control: Any = None  # what a ControlNet adds, in the host's form
    raised: float = 0.0  # an attention override adds to every answer
    blocks: dict[Any, Any] | None = None  # patches_replace["dit"]
    weights: dict[str, Tensor] | None = None  # a LoRA adds to the network's


ALONE = Beside()


class FlowOracle:
    """A family's network, run by hand."""

    def __init__(self, name: str, beside: Beside = ALONE, serving: tuple[int, ...] = ()) -> None:
        self.family = FAMILIES[name]
        self.serving = serving  # the step whose features serve each step, where that is another
        self.model = family_base(name).model
        self.beside = beside

    def velocity(
        self,
        x: Tensor,
        sigma: Tensor,
        prompt: list[Any],
        fused: Any = None,
        beside: Beside = ALONE,
        control: Any = None,
    ) -> tuple[Tensor, dict]:
        """(v, features by layer): v of x = (1 - sigma) x0 + sigma n."""
        refined = self.family.refined if prompt[0][1].get("reference_latents") else 0
        answers = Answers(self.family, self._text(prompt), math.prod(self._grid(x)), beside.raised, refined)
        answers.fused = fused
        inputs = self._inputs(x, prompt)
        options = {"patches_replace": {"dit": beside.blocks}} if beside.blocks else {}
        with answered(self.family, answers):
            levels = sigma.expand(x.shape[0])
            denoised = self.model.apply_model(x, levels, **inputs, control=control, transformer_options=options)
        return (x - denoised) / sigma, answers.kept

    def _grid(self, x: Tensor) -> tuple[int, int]:
        h, w = (-(-side // self.family.patch) for side in x.shape[-2:])
        return h, w

    def _text(self, prompt: list[Any]) -> int:
        return self.family.text_tokens(self._length(prompt[0][0]))

    def _depth(self, prompt: list[Any]) -> int:
        """The text's tokens, and the longer side of each reference that stands before the picture."""
        references = prompt[0][1].get("reference_latents", ()) if self.family.last else ()
        return self._text(prompt) + sum(max(self._grid(latent)) for latent in references)

    def _length(self, text: Tensor) -> int:
        return max(512, text.shape[1]) if self.family.host == "Flux2" else text.shape[1]

    def _inputs(self, x: Tensor, prompt: list[Any]) -> dict[str, Any]:
        """What the host makes of a prompt, for the rows of x."""
        text, carried = prompt[0]
        conds = self.model.extra_conds(cross_attn=text, noise=x, device=x.device, **carried)
        return {name: self._rows(cond.cond, len(x)) for name, cond in conds.items()}

    def _rows(self, value: Any, batch: int) -> Any:
        if isinstance(value, list):
            return [self._rows(part, batch) for part in value]
        if not isinstance(value, Tensor):
            return value
        return value.expand(batch, *value.shape[1:]) if value.shape[0] == 1 else value

    def invert(self, latent: Tensor, sigmas: Tensor, prompt: list[Any]) -> tuple[Tensor, list[dict]]:
        """Walk up the levels: the noise, and the features of each."""
        grid = sigmas[:-1]
        x = self.model.process_latent_in(latent)
        x = x + grid[-1] * self.velocity(x, grid[-1], prompt)[0]
        kept: list[dict] = [{} for _ in grid]
        for step in range(len(grid) - 1, -1, -1):
            v, kept[step] = self.velocity(x, grid[step], prompt)
            if step:
                x = x + (grid[step - 1] - grid[step]) * v
        return x, kept

    def stylize(
        self,
        content: Tensor,
        patchers: tuple[Patcher, ...],
        sigmas: Tensor,
        empty: list[Any],
        prompt: list[Any],
        negative: list[Any] | None = None,
        cfg: float = 1.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """The stylized LATENT: all pictures inverted with the empty prompt, the content's noise sampled down.

        `noise`: sampling starts from the content with that noise, as of a denoise below 1, not from inverted noise.
        """
        x, of_content = self.invert(content, sigmas, empty)
        return self._painted(x, content, of_content, patchers, sigmas, empty, prompt, negative, cfg, noise)

    def paint(
        self,
        noise: Tensor,
        patchers: tuple[Patcher, ...],
        sigmas: Tensor,
        empty: list[Any],
        prompt: list[Any],
        negative: list[Any] | None = None,
        cfg: float = 1.0,
    ) -> Tensor:
        """The LATENT of a prompt in a style, from fresh noise: the picture takes its portrait's place."""
        blank = torch.zeros_like(noise)
        return self._painted(noise, blank, None, patchers, sigmas, empty, prompt, negative, cfg, noise)

    def _painted(
        self,
        x: Tensor,
        content: Tensor,
        of_content: list[dict[str, Features]] | None,
        patchers: tuple[Patcher, ...],
        sigmas: Tensor,
        empty: list[Any],
        prompt: list[Any],
        negative: list[Any] | None,
        cfg: float,
        noise: Tensor | None,
    ) -> Tensor:
        if noise is not None:
            kept = 1 - sigmas[0] if self.family.flow else 1.0
            # the host leaves an empty latent as it is
            latent = self.model.process_latent_in(content) if bool(content.any()) else content
            x = kept * latent + sigmas[0] * noise
        of_styles = {
            id(style): self.invert(style.latent, sigmas, empty)[1] for patcher in patchers for style in patcher.styles
        }
        style = patchers[0].styles[0] if patchers and len(patchers[0].styles) == 1 else None
        compared = (
            None if of_content is None or style is None else self._compared(of_content, of_styles, style, content)
        )
        with altered(self.model, self.beside.weights or {}):
            for step in range(len(sigmas) - 1):
                when = step / (len(sigmas) - 1), float(sigmas[step])
                served = self.serving[step] if self.serving else step

                def fusion(words: list[Any], *, positive: bool, served: int = served, when: Any = when) -> Any:
                    """What the patchers answer beside these words, where the pictures stand beside them."""
                    steps = self._depth(words) - self._depth(empty)
                    styles = {key: self._deeper(stored[served], steps) for key, stored in of_styles.items()}
                    kept = None if of_content is None else self._deeper(of_content[served], steps)
                    return self._fusion(patchers, content, kept, styles, *when, positive=positive, compared=compared)

                given = fusion(prompt, positive=True), self.beside, self.beside.control
                v = self.velocity(x, sigmas[step], prompt, *given)[0]
                if cfg != 1.0:
                    away = self.velocity(x, sigmas[step], negative, fusion(negative, positive=False), self.beside)[0]
                    v = away + cfg * (v - away)
                x = x + (sigmas[step + 1] - sigmas[step]) * v
        return self.model.process_latent_out(x)

    def _fusion(
        self,
        patchers: tuple[Patcher, ...],
        content: Tensor,
        of_content: dict[str, Features] | None,
        of_styles: dict[int, dict[str, Features]],
        done: float,
        noise: float,
        *,
        positive: bool,
        compared: Compared | None,
    ) -> Callable[[str, Features, Features], Tensor | None]:
        """What the patchers answer at one step: of several in one layer the last."""

        def fused(layer: str, live: Features, rest: Features) -> Tensor | None:
            acting = [patcher for patcher in patchers if patcher.acts_in(layer)]
            if not acting or (not positive and acting[-1].rule.__name__ in OF_THE_PROMPT):
                return None
            rule, styles, _ = acting[-1]
            rows = live[0].shape[0]
            drawn = [Drawn(spread(of_styles[id(style)][layer], rows), self._mass(style, content)) for style in styles]
            kept = live if of_content is None else spread(of_content[layer], rows)
            outside, raised = self._outside(styles, content), self.beside.raised

            def lay(queries: Tensor) -> Tensor:
                return self.laid(queries, self._grid(styles[0].latent), self._frame(content))

            return rule(RuleCall(live, kept, tuple(drawn), rest, outside, done, noise, raised, compared, lay))

        return fused

    def _compared(
        self, of_content: list[dict[str, Features]], of_styles: dict[int, list], style: Style, content: Tensor
    ) -> Compared:
        """The middle layer's keys at two fifths of the way."""
        step, layer = round(0.4 * (len(of_content) - 1)), self.family.layers[len(self.family.layers) // 2]
        keys = of_content[step][layer][1], of_styles[id(style)][step][layer][1]
        return Compared(*keys, self._grid(content), self._grid(style.latent), self._turned)

    def _turned(self, x: Tensor, grid: tuple[int, int], sign: int) -> Tensor:
        """Queries or keys b h n d turned by the places of a grid, by the host's own embedder, or back by -1."""
        network = self.model.diffusion_model
        embedders = [getattr(network, name) for name in ("pe_embedder", "rope_embedder") if hasattr(network, name)]
        if not embedders:
            return x
        from comfy.ldm.flux.math import apply_rope1

        places = torch.cartesian_prod(torch.zeros(1), *(sign * torch.arange(float(side)) for side in grid))
        return apply_rope1(x, embedders[0](places[None]))

    def _frame(self, x: Tensor) -> tuple[int, int]:
        """The grid of one of the pictures that a latent is."""
        return self._grid(x)

    def laid(self, queries: Tensor, grid: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
        """Queries b h m d of one grid where another's are: turned back and forth by the host's own embedder."""

        def turned(x: Tensor, sides: tuple[int, int], sign: float) -> Tensor:
            from comfy.ldm.flux.math import apply_rope1

            embedder = embedder_of(self.family, self.model.diffusion_model)
            if embedder is None:
                return x
            start = [side // 2 if self.family.host == "QwenImage" else 0 for side in sides]
            places = [[0.0, y - start[0], z - start[1]] for y in range(sides[0]) for z in range(sides[1])]
            turns = embedder(sign * torch.tensor([places], dtype=torch.float32)).movedim(1, 2)
            return apply_rope1(x, turns.reshape(1, 1, len(places), *turns.shape[-3:]))

        upright = turned(queries, grid, -1.0)
        b, h, _, d = upright.shape
        cells = upright.transpose(2, 3).reshape(b, h * d, *grid)
        if grid != canvas:
            cells = torch.nn.functional.interpolate(cells, size=canvas, mode="bilinear", antialias=True)
        return turned(cells.reshape(b, h, d, -1).transpose(2, 3), canvas, 1.0)

    def _mass(self, style: Style, content: Tensor) -> Tensor | float:
        mass: Tensor | float = style.weight
        if style.region is not None:
            mass = mass * self._tokens(style.region, content)[:, None]
        return mass if style.mask is None else mass * self._tokens(style.mask, style.latent)[None, :]

    def _outside(self, styles: tuple[Style, ...], content: Tensor) -> Tensor | None:
        if not styles or any(style.region is None for style in styles):
            return None
        covered = sum(self._tokens(style.region, content) for style in styles)
        return (1.0 - covered.clamp(max=1.0))[:, None]

    def _tokens(self, mask: Tensor, latent: Tensor) -> Tensor:
        """How much of each token is white, from a mask of h w that holds whole tokens."""
        (rows, columns), (height, width) = self._grid(latent), mask.shape
        return mask.reshape(rows, height // rows, columns, width // columns).mean((1, 3)).flatten()

    def _deeper(self, kept: dict[str, Features], steps: int) -> dict[str, Features]:
        """Queries and keys turned along the axes that a caption pushes, by the host's own embedder."""
        if not self.family.deep or not steps:
            return kept
        from comfy.ldm.flux.math import apply_rope1

        embedder = attrgetter(self.family.embedder)(self.model.diffusion_model)
        turn = embedder(torch.tensor([[[steps * float(axis in self.family.deep) for axis in range(3)]]])).movedim(1, 2)
        turn = turn.reshape(1, 1, 1, *turn.shape[-3:])
        return {
            name: (*(apply_rope1(x, turn.expand(1, 1, x.shape[2], *turn.shape[-3:])) for x in (q, k)), v)
            for name, (q, k, v) in kept.items()
        }


def embedder_of(family: Family, network: Any) -> Any:
    """What makes a network's positions from the places of its tokens; None where it has no such part."""
    for attribute in ("pe_embedder", family.embedder):
        if hasattr(network, attribute.split(".")[0]):
            return attrgetter(attribute)(network)
    return None


def spread(features: Features, rows: int) -> Features:
    """One picture's features on every row."""
    return tuple(t if t.shape[0] == rows else t.expand(rows, *t.shape[1:]) for t in features)


@contextmanager
def altered(model: Any, added: dict[str, Tensor]) -> Iterator[None]:
    """The network with something added to its weights."""
    state = model.state_dict()
    before = {name: state[name].clone() for name in added}
    try:
        for name, difference in added.items():
            state[name] += difference
        yield
    finally:
        for name, weight in before.items():
            state[name].copy_(weight)

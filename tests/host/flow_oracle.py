"""Fusion in transformers in plain torch, from the formulas: own Euler loops, own attention, the host's bare network.

Nothing of the pack is used. The attention function that a family's blocks call is replaced by one that knows, from a
list written down by hand, which call of a forward pass it answers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from magicstyle.tests.host.families import FAMILIES, Family, family_base
from torch import Tensor

Features = tuple[Tensor, Tensor, Tensor]  # q, k, v of the picture's tokens, b h n d
Rule = Callable[[Features, Features, Features, Features], Tensor]


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mass: Tensor | None = None) -> Tensor:
    """Attention b h n d; `mass` m multiplies each key's share before the softmax is normalised."""
    logits = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    weights = torch.exp(logits - logits.amax(-1, keepdim=True))
    weights = weights if mass is None else weights * mass
    return weights / weights.sum(-1, keepdim=True) @ v


def styleid(live: Features, content: Features, style: Features, rest: Features) -> Tensor:
    """The style's keys and values in the place of the picture's; text and references are asked as ever."""
    q = 1.5 * (0.75 * content[0] + 0.25 * live[0])
    return softmax_attention(q, torch.cat([style[1], rest[1]], 2), torch.cat([style[2], rest[2]], 2))


def ffa(live: Features, content: Features, style: Features, rest: Features) -> Tensor:
    """Style and content in one softmax with text and references, the content's keys at a tenth of their mass."""
    q = 1.5 * (0.5 * content[0] + 0.5 * live[0])
    k, v = (torch.cat([style[i], content[i], rest[i]], 2) for i in (1, 2))
    sizes = style[1].shape[2], content[1].shape[2], rest[1].shape[2]
    mass = torch.cat([q.new_full((size,), w) for size, w in zip(sizes, (1.0, 0.1, 1.0), strict=True)])
    return softmax_attention(q, k, v, mass)


KNOBS = {
    "styleid": {"method": "styleid", "query_preservation": 0.75, "temperature": 1.5},
    "ffa": {"method": "ffa", "query_preservation": 0.5, "temperature": 1.5, "content_weight": 0.1},
}
RULES: dict[str, Rule] = {"styleid": styleid, "ffa": ffa}


class Answers:
    """Answers the attention calls of a forward pass by their number, and keeps or fuses those of the layers."""

    def __init__(self, family: Family, text: int, picture: int, layers: frozenset[str]) -> None:
        self.family, self.text, self.picture, self.layers = family, text, picture, layers
        self.count = 0
        self.kept: dict[str, Features] = {}
        self.fused: Callable[[str, Features, Features], Tensor] | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Any = None, **options: Any) -> Tensor:
        """The signature of the host's attention functions."""
        assert mask is None
        name = self.family.calls[self.count]
        self.count += 1
        if not options.get("skip_reshape"):
            # SD3's values come as b n h d already
            q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
        out = softmax_attention(q, k, v)
        if name is not None:
            out = self._of_layer(name, q, k, v, out)
        return out.transpose(1, 2).flatten(2)

    def _of_layer(self, name: str, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
        alone = q.shape[2] == self.picture and name.endswith(".1")  # SD3.5's second call has the picture alone
        start = 0 if alone else self.text
        place = slice(start, start + self.picture)
        own = tuple(t[:, :, place] for t in (q, k, v))
        rest = tuple(torch.cat([t[:, :, :start], t[:, :, place.stop :]], 2) for t in (q, k, v))
        self.kept[name] = tuple(t.clone() for t in own)
        if self.fused is not None and name in self.layers:
            out = out.clone()
            out[:, :, place] = self.fused(name, own, rest)
        return out


@contextmanager
def answered(family: Family, answers: Answers) -> Iterator[None]:
    """The family's attention function, replaced for one forward pass."""
    path, name = family.site.rsplit(".", 1)
    module = importlib.import_module(path)
    before = getattr(module, name)
    setattr(module, name, answers)
    try:
        yield
    finally:
        setattr(module, name, before)
    assert answers.count == len(family.calls)


class FlowOracle:
    """A family's network, run by hand."""

    def __init__(self, name: str, layers: tuple[str, ...] | None = None, control: Any = None) -> None:
        self.family = FAMILIES[name]
        self.model = family_base(name).model
        self.layers = frozenset(self.family.layers if layers is None else layers)
        self.control = control  # what a ControlNet adds in sampling, in the host's form

    def velocity(
        self, x: Tensor, sigma: Tensor, prompt: list[Any], fused: Any = None, control: Any = None
    ) -> tuple[Tensor, dict]:
        """(v, features by layer): v of x = (1 - sigma) x0 + sigma n."""
        text = prompt[0][0]
        h, w = (-(-side // self.family.patch) for side in x.shape[-2:])
        answers = Answers(self.family, self.family.text_tokens(self._length(text)), h * w, self.layers)
        answers.fused = fused
        inputs = self._inputs(x, prompt)
        with answered(self.family, answers):
            levels = sigma.expand(x.shape[0])
            denoised = self.model.apply_model(x, levels, **inputs, control=control, transformer_options={})
        return (x - denoised) / sigma, answers.kept

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
        style: Tensor,
        sigmas: Tensor,
        rule: Rule,
        empty: list[Any],
        prompt: list[Any],
        negative: list[Any] | None = None,
        cfg: float = 1.0,
    ) -> Tensor:
        """The stylized LATENT: both pictures inverted with the empty prompt, the content's noise sampled down."""
        x, of_content = self.invert(content, sigmas, empty)
        _, of_style = self.invert(style, sigmas, empty)
        deeper = self.family.text_tokens(prompt[0][0].shape[1]) - self.family.text_tokens(empty[0][0].shape[1])
        if self.family.deep and deeper:
            of_content, of_style = ([self._deeper(step, deeper) for step in kept] for kept in (of_content, of_style))
        for step in range(len(sigmas) - 1):

            def fused(name: str, live: Features, rest: Features, step: int = step) -> Tensor:
                stored = (spread(kept[step][name], live[0].shape[0]) for kept in (of_content, of_style))
                return rule(live, *stored, rest)

            v = self.velocity(x, sigmas[step], prompt, fused, self.control)[0]
            if cfg != 1.0:
                away = self.velocity(x, sigmas[step], negative, fused)[0]
                v = away + cfg * (v - away)
            x = x + (sigmas[step + 1] - sigmas[step]) * v
        return self.model.process_latent_out(x)

    def _deeper(self, kept: dict[str, Features], steps: int) -> dict[str, Features]:
        """Queries and keys turned along the first axis of the positions, by the host's own embedder."""
        from comfy.ldm.flux.math import apply_rope1

        embedder = self.model.diffusion_model.rope_embedder
        turn = embedder(torch.tensor([[[float(steps), 0.0, 0.0]]])).movedim(1, 2)
        turn = turn.reshape(1, 1, 1, *turn.shape[-3:])
        return {
            name: (*(apply_rope1(x, turn.expand(1, 1, x.shape[2], *turn.shape[-3:])) for x in (q, k)), v)
            for name, (q, k, v) in kept.items()
        }


def spread(features: Features, rows: int) -> Features:
    """One picture's features on every row."""
    return tuple(t if t.shape[0] == rows else t.expand(rows, *t.shape[1:]) for t in features)

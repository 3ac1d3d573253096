"""Fusion in films, in plain torch: each frame's queries see a style at the time of their frame."""

from __future__ import annotations

import torch
from comfy.ldm.flux.math import apply_rope1
from magicstyle.tests.host.flow_oracle import FlowOracle
from magicstyle.tests.host.flow_rules import Features, Rule, RuleCall, statistics
from torch import Tensor


class FilmOracle(FlowOracle):
    """Wan's network on b c t h w, run by hand: a film as a tall picture, and its masks likewise."""

    def _grid(self, x: Tensor) -> tuple[int, int]:
        h, w = super()._grid(x)
        return x.shape[2] * h, w

    def _frame(self, x: Tensor) -> tuple[int, int]:
        h, w = FlowOracle._grid(self, x)
        return h, w

    def at_time(self, features: Features, frame: float) -> Features:
        """A picture's queries and keys as the host's own embedder would have them in a frame: b h n d each."""
        turn = self.model.diffusion_model.rope_embedder(torch.tensor([[[frame, 0.0, 0.0]]])).movedim(1, 2)
        turn = turn.reshape(1, 1, 1, *turn.shape[-3:])
        q, k = (apply_rope1(x, turn.expand(1, 1, x.shape[2], *turn.shape[-3:])) for x in features[:2])
        return q, k, features[2]


def by_frame(rule: Rule, oracle: FilmOracle, frames: int) -> Rule:
    """A rule for pictures as it is in a film of one-picture styles: frame by frame, keys and values of all frames."""

    def answer(call: RuleCall) -> Tensor:
        timed = [[oracle.at_time(drawn.features, f) for drawn in call.styles] for f in range(frames)]
        if rule.__name__ == "gar":
            every = tuple(torch.cat([styles[0][role] for styles in timed], 2) for role in range(3))
            return rule(call._replace(styles=(call.styles[0]._replace(features=every),)))
        if rule.__name__ == "style_aligned":
            call = with_statistics(call, [styles[0] for styles in timed])
        parts = []
        for f in range(frames):
            (live, content), styles = (own_queries(x, f, frames) for x in (call.live, call.content)), call.styles
            drawn = tuple(
                each._replace(features=features, mass=rows_of(each.mass, f, frames))
                for each, features in zip(styles, timed[f], strict=True)
            )
            outside = None if call.outside is None else rows_of(call.outside, f, frames)
            own = call._replace(live=live, content=content, styles=drawn, outside=outside)
            parts.append(aligned(own) if rule.__name__ == "style_aligned" else rule(own))
        return torch.cat(parts, 2)

    answer.__name__ = rule.__name__
    return answer


def own_queries(features: Features, frame: int, frames: int) -> Features:
    """A frame's queries with the keys and values of all."""
    return features[0].chunk(frames, 2)[frame], *features[1:]


def rows_of(mass: Tensor | float, frame: int, frames: int) -> Tensor | float:
    """What of a mass n m or 1 m belongs to a frame's queries."""
    return mass.chunk(frames, 0)[frame] if isinstance(mass, Tensor) and mass.shape[0] > 1 else mass


def with_statistics(call: RuleCall, timed: list[Features]) -> RuleCall:
    """The film with a style's statistics over all of its frames and tokens."""
    q, k = (statistics(call.live[role], torch.cat([each[role] for each in timed], 2)) for role in (0, 1))
    return call._replace(live=(q, k, call.live[2]))


def aligned(call: RuleCall) -> Tensor:
    """StyleAligned of what has the style's statistics already."""
    return call.answer(call.live[0], *call.of_styles(), (*call.live[1:], 1.0))

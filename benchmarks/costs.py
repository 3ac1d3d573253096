"""What each method and each guidance costs: python -m benchmarks.costs [--size 64] [--rounds 3] [--network sdxl]

Rows that the model answers in a step, with stored features, and the time of a step without classifier-free guidance,
divided by a plain step's in the same round: the median over rounds of CPU time (on a CUDA device: wall time). Genuine
shapes, random weights, one latent of size x size (64 is a 512x512 picture), fusion in the default layers, torch's own
attention. Stored latents add the rows of their replays: docs/memory.md. Where a method does not do the same in all
steps, it is timed in the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from .bench import Lab, in_turn, parser, ratios, table, use_comfyui

GUIDED = {"nvqg": "`style_aligned` guided by `nvqg`", "spg": "a plain model guided by `spg`, style by `style_aligned`"}


def fused_model(lab: Lab, bank: Any, method: str, detail: float = 0.0) -> Any:
    """The network with a method at its defaults."""
    from magicstyle.attention_patches.comfy import install_fusion
    from magicstyle.core.controls import StyleControls
    from magicstyle.core.fusion import FusionSettings

    settings = FusionSettings(method, controls=StyleControls(detail=detail))
    return install_fusion(lab.model, bank, settings, lab.network.layers, 0.0, 1.0)


def with_detail(lab: Lab, latent: Any) -> Any:
    """A content's features, b c h w, at the later of two levels: in the first `detail` does not act."""
    stored = lab.capture(latent, lab.network.layers, "qkvh")
    header = replace(stored.header, sigmas=(2 * lab.SIGMA, lab.SIGMA), every=2)
    return stored.of_tensors(header, stored.tensors, None)


def guided(lab: Lab, bank: Any, kind: str) -> Callable[[], object]:
    """A step with style guidance, whose negative prompt is open for `nvqg`, as for its published form."""
    import comfy.samplers
    import torch
    from magicstyle.attention_patches.comfy import StyleGuider
    from magicstyle.core.guidance import StyleGuidance

    styled = fused_model(lab, bank, "style_aligned")
    models = (styled, fused_model(lab, bank, "nvqg")) if kind == "nvqg" else (lab.model, styled)
    guider = StyleGuider(*models, StyleGuidance(kind))
    guider.set_conds(lab.prompt, None if kind == "nvqg" else lab.prompt)
    guider.set_cfg(1.0)
    latent, sampler = lab.latents[2], comfy.samplers.sampler_object("euler")

    def run() -> object:
        with torch.inference_mode():
            zeros, sigmas = torch.zeros_like(latent), torch.tensor([lab.SIGMA, 0.0])
            return guider.sample(zeros, latent, sampler, sigmas, disable_pbar=True)

    return run


def variants(lab: Lab) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """The steps to compare, and the rows that the model answers in each."""
    from magicstyle.banks.bank import FeatureBank, StyleEntry
    from magicstyle.core.fusion import FUSIONS

    content, style = (lab.capture(latent, lab.network.layers) for latent in lab.latents[:2])
    bank = FeatureBank(content, (StyleEntry(style),))
    runs: dict[str, Callable[[], object]] = {"plain": partial(lab.call, lab.model, lab.latents[2])}
    for method in FUSIONS:
        if method != "nvqg":
            runs[f"`{method}`"] = partial(lab.call, fused_model(lab, bank, method), lab.latents[2])
    detailed = FeatureBank(with_detail(lab, lab.latents[0]), (StyleEntry(style),))
    runs["`ffa` with `detail`"] = partial(lab.call, fused_model(lab, detailed, "ffa", 1.0), lab.latents[2])
    rows = dict.fromkeys(runs, 1)
    runs |= {label: guided(lab, bank, kind) for kind, label in GUIDED.items()}
    return runs, rows | {GUIDED["nvqg"]: 2, GUIDED["spg"]: 3}


def main() -> None:
    """Measure and print the table."""
    arguments = parser(__doc__, rounds=3).parse_args()
    use_comfyui(arguments.device)
    runs, rows = variants(Lab(arguments.size, 3, arguments.network))
    relative = ratios(in_turn(runs, arguments.rounds), "plain")
    print(table(["step", "rows", "time / plain"], [[name, str(rows[name]), f"{relative[name]:.2f}"] for name in runs]))


if __name__ == "__main__":
    main()

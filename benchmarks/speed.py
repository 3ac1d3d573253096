"""What the patch costs per model call at genuine SD1.5 shapes: python -m benchmarks.speed [--rounds N] [--size 64]

Random weights, one latent of size x size (64 is a 512x512 picture), CPU, torch's own attention. Every variant makes one
model call per round; a figure is the median over rounds of its CPU time divided by the plain call's in the same round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .bench import MIB, in_turn, peak_memory, random_model, ratios, table, use_comfyui

GOALS = {"idle": 1.02, "capture": 1.05, "styleid": 1.08, "ffa, equal weights": 1.15, "ffa, weights": 1.15}


def variants(size: int) -> tuple[dict[str, Callable[[], object]], float]:
    """The model calls to compare, and the size of the bank in bytes."""
    import comfy.sample
    import comfy.samplers
    import torch
    from magicstyle.attention_patches.capture import Recorder
    from magicstyle.attention_patches.install import install_capture, install_fusion, model_id, self_attention_widths
    from magicstyle.core.features import FeatureBank, FeatureHeader, FeatureWriter, StyleEntry
    from magicstyle.core.fusion import FusionSettings
    from magicstyle.core.layers import select_layers

    model = random_model()
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(1, 4, size, size, generator=generator) for _ in range(3)]
    prompt = [[torch.randn(1, 77, 768, generator=generator), {}]]
    sigmas = torch.tensor([2.0, 0.0])
    euler = comfy.samplers.sampler_object("euler")

    def call(patched: Any, latent: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros_like(latent)
        with torch.inference_mode():
            return comfy.sample.sample_custom(
                patched, zeros, 1.0, euler, sigmas, prompt, prompt, latent, disable_pbar=True
            )

    def capture(latent: torch.Tensor, layers: str) -> Any:
        writer = FeatureWriter(select_layers(layers, self_attention_widths(model)), 1)
        recorder = Recorder(writer)
        with recorder.recording(0, latent):
            call(install_capture(model, recorder), latent)
        return writer.close(FeatureHeader(model_id(model), "ddim", (2.0,), tuple(latent.shape), {}))

    content, style = (capture(latent, "output.6-11") for latent in latents[:2])
    bank = FeatureBank(content, (StyleEntry(style),))

    def fused(start: float = 0.0, **knobs: Any) -> Callable[[], object]:
        patched = install_fusion(model, bank, FusionSettings(**knobs), "output.6-11", start, 1.0)
        return lambda: call(patched, latents[2])

    return {
        "plain": lambda: call(model, latents[2]),
        "idle": fused(start=0.999),
        "capture": lambda: capture(latents[2], "output.3-11"),
        "styleid": fused(method="styleid"),
        "ffa, equal weights": fused(content_weight=1.0),
        "ffa, weights": fused(content_weight=0.3),
    }, bank.nbytes


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    use_comfyui()
    runs, bank = variants(arguments.size)
    relative = ratios(in_turn(runs, arguments.rounds), "plain")
    peaks = {}
    for name, run in runs.items():
        with peak_memory() as peak:
            run()
        peaks[name] = peak[0] / MIB
    rows = [
        [name, f"{relative[name]:.3f}", f"{GOALS[name]:.2f}" if name in GOALS else "", f"{peaks[name]:.0f}"]
        for name in runs
    ]
    print(
        f"one model call, latent {arguments.size}x{arguments.size}, bank of one step {bank / MIB:.0f} MiB (held before)"
    )
    print(table(["model call", "time / plain", "goal", "peak memory above start, MiB"], rows))


if __name__ == "__main__":
    main()

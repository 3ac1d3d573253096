"""What the patch costs per model call at genuine SD1.5 shapes: python -m benchmarks.speed [--rounds N] [--size 64]

Random weights, one latent of size x size (64 is a 512x512 picture), CPU, torch's own attention. Every variant makes one
model call per round; a figure is the median over rounds of its CPU time divided by the plain call's in the same round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from .bench import MIB, Lab, in_turn, peaks, ratios, table, use_comfyui

GOALS = {"idle": 1.02, "capture": 1.05, "styleid": 1.08, "ffa, equal weights": 1.15, "ffa, weights": 1.15}


def variants(size: int) -> tuple[dict[str, Callable[[], object]], float]:
    """The model calls to compare, and the size of the bank in bytes."""
    from magicstyle.core.features import FeatureBank, StyleEntry

    lab = Lab(size, pictures=3)
    content, style = (lab.capture(latent, "output.6-11") for latent in lab.latents[:2])
    bank, running = FeatureBank(content, (StyleEntry(style),)), lab.latents[2]
    return {
        "plain": lambda: lab.call(lab.model, running),
        "idle": lab.fused(bank, running, start=0.999),
        "capture": lambda: lab.capture(running, "output.3-11"),
        "styleid": lab.fused(bank, running, method="styleid"),
        "ffa, equal weights": lab.fused(bank, running, content_weight=1.0),
        "ffa, weights": lab.fused(bank, running, content_weight=0.3),
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
    memory = peaks(runs)
    rows = [
        [name, f"{relative[name]:.3f}", f"{GOALS[name]:.2f}" if name in GOALS else "", f"{memory[name]:.0f}"]
        for name in runs
    ]
    print(
        f"one model call, latent {arguments.size}x{arguments.size}, bank of one step {bank / MIB:.0f} MiB (held before)"
    )
    print(table(["model call", "time / plain", "goal", "peak memory above start, MiB"], rows))


if __name__ == "__main__":
    main()

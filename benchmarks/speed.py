"""What the patch costs per model call: python -m benchmarks.speed [--network sdxl] [--device cuda]

Genuine shapes, random weights, one latent of size x size (64 is a 512x512 picture), torch's own attention. Every
variant makes one model call per round; a figure is the median over rounds of its CPU time (on a CUDA device: wall time)
divided by the plain call's in the same round.
"""

from __future__ import annotations

from collections.abc import Callable

from .bench import MIB, Lab, in_turn, parser, peaks, ratios, table, use_comfyui

GOALS = {"idle": 1.02, "capture": 1.05, "styleid": 1.08, "ffa, equal weights": 1.15, "ffa, weights": 1.15}


def variants(size: int, network: str) -> tuple[dict[str, Callable[[], object]], float]:
    """The model calls to compare, and the size of the bank in bytes."""
    from magicstyle.banks.bank import FeatureBank, StyleEntry

    lab = Lab(size, 3, network)
    content, style = (lab.capture(latent, lab.network.layers) for latent in lab.latents[:2])
    bank, running = FeatureBank(content, (StyleEntry(style),)), lab.latents[2]
    return {
        "plain": lambda: lab.call(lab.model, running),
        "idle": lab.fused(bank, running, start=0.999),
        "capture": lambda: lab.capture(running, "output.3-11" if network == "sd15" else lab.network.layers),
        "styleid": lab.fused(bank, running, method="styleid"),
        "ffa, equal weights": lab.fused(bank, running, content_weight=1.0),
        "ffa, weights": lab.fused(bank, running, content_weight=0.3),
    }, bank.nbytes


def main() -> None:
    """Measure and print the table."""
    arguments = parser(__doc__, rounds=7).parse_args()
    use_comfyui(arguments.device)
    runs, bank = variants(arguments.size, arguments.network)
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

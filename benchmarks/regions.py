"""What regions cost at genuine SD1.5 shapes: python -m benchmarks.regions [--network sdxl] [--device cuda]

Two styles with regions against the same two without, FFA in output blocks 6 to 11, random weights, one latent of
size x size (64 is a 512x512 picture), CPU, torch's own attention. A figure is the median over rounds of a model call's
CPU time divided by that of "two styles" in the same round; memory is what its peak adds to theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bench import Lab, in_turn, parser, peaks, ratios, table, use_comfyui

GOAL, GOAL_MIB = 1.15, 64
BASE = "two styles"


def regions(size: int) -> dict[str, Any]:
    """Pairs of masks: halves, a disc and the rest, an overlap with soft edges, and soft everywhere."""
    import torch

    pixels = 8 * size
    y, x = torch.meshgrid(torch.linspace(0, 1, pixels), torch.linspace(0, 1, pixels), indexing="ij")
    radius = ((x - 0.5) ** 2 + (y - 0.4) ** 2).sqrt()
    pairs = {
        "halves": (x < 0.5, x >= 0.5),
        "disc and the rest": (radius < 0.3, radius >= 0.3),
        "two discs, content around": (radius < 0.2, (radius > 0.25) & (radius < 0.35)),
        "overlap, soft edges": ((6 * (0.6 - x)).clamp(0, 1), (6 * (x - 0.4)).clamp(0, 1)),
        "soft everywhere": (x, 1 - x),
    }
    return {name: tuple(mask.float().unsqueeze(0) for mask in pair) for name, pair in pairs.items()}


def variants(size: int, method: str, network: str) -> dict[str, Callable[[], object]]:
    """The model calls to compare."""
    import torch
    from magicstyle.banks.bank import FeatureBank, StyleEntry

    lab = Lab(size, 4, network)
    content, *styles = (lab.capture(latent, lab.network.layers) for latent in lab.latents[:3])
    running = lab.latents[3]

    def fused(*masks: torch.Tensor) -> Callable[[], object]:
        pairs = zip(styles, masks or (None, None), strict=True)
        bank = FeatureBank(content, tuple(StyleEntry(style, 1.0, mask) for style, mask in pairs))
        return lab.fused(bank, running, method=method)

    runs = {"no fusion": lambda: lab.call(lab.model, running), BASE: fused()}
    return runs | {name: fused(*pair) for name, pair in regions(size).items()}


def main() -> None:
    """Measure and print the table."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--method", default="ffa")
    arguments = options.parse_args()
    use_comfyui(arguments.device)
    runs = variants(arguments.size, arguments.method, arguments.network)
    relative = ratios(in_turn(runs, arguments.rounds), BASE)
    memory = peaks(runs)
    rows = [
        [name, f"{relative[name]:.3f}", f"{memory[name]:.0f}", f"{memory[name] - memory[BASE]:+.0f}"] for name in runs
    ]
    print(f"one model call, latent {arguments.size}x{arguments.size}, {arguments.method}")
    print(f"goals: time at most {GOAL} of two styles without regions, peak at most {GOAL_MIB} MiB above theirs")
    print(table(["model call", "time / two styles", "peak memory above start, MiB", "above two styles, MiB"], rows))


if __name__ == "__main__":
    main()

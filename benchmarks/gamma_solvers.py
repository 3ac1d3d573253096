"""Solvers for the velocity of inversion method gamma, on the demo transformer: what comes back, for how many calls.

    COMFYUI_PATH=... python -m benchmarks.gamma_solvers        prints the table of docs/measurements.md

v = g v_model + (1 - g) (n - x) / (1 - sigma) is integrated from the picture up to the noise, with Euler's steps (ours),
by the midpoint rule, and by FireFlow, whose predictor is the last midpoint's velocity; then plain Euler steps sample
back on the same levels.
"""

from __future__ import annotations

from collections.abc import Callable

from .transformer import FlowPainter, FlowRecipe  # first: lets the host and diffusers live in one process

# isort: split
import torch
from magicstyle.core.inversion import fixed_noise, sample_ddim
from magicstyle.core.inversion_methods import RoundTrip
from torch import Tensor

STEPS = (8, 20, 50)
SHARES = (0.5, 0.75, 1.0)
Velocity = Callable[[Tensor, Tensor], Tensor]  # of x b c h w at a level


def euler(v: Velocity, x: Tensor, levels: Tensor) -> Tensor:
    """One call a step: b c h w."""
    for below, above in zip(levels, levels[1:], strict=False):
        x = x + (above - below) * v(x, below)
    return x


def midpoint(v: Velocity, x: Tensor, levels: Tensor) -> Tensor:
    """Two calls a step (rf_gamma_rk2): b c h w."""
    for below, above in zip(levels, levels[1:], strict=False):
        half = (above - below) / 2
        x = x + 2 * half * v(x + half * v(x, below), below + half)
    return x


def fireflow(v: Velocity, x: Tensor, levels: Tensor) -> Tensor:
    """One call a step and one more: b c h w."""
    last = v(x, levels[0])
    for below, above in zip(levels, levels[1:], strict=False):
        half = (above - below) / 2
        last = v(x + half * last, below + half)
        x = x + 2 * half * last
    return x


SOLVERS = {"Euler (ours)": euler, "midpoint": midpoint, "FireFlow": fireflow}


def blended(model: Velocity, noise: Tensor, share: float, least: Tensor) -> Velocity:
    """The model's velocity and the line's, the model asked no nearer to the clean picture than at `least`."""

    def v(x: Tensor, level: Tensor) -> Tensor:
        """b c h w."""
        own = model(x, torch.maximum(level, least))
        return share * own + (1.0 - share) * (noise - x) / (1.0 - level)

    return v


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    painter = FlowPainter(FlowRecipe())
    import comfy.samplers
    from magicstyle.headless.pictures.reading import read_picture, to_tensor
    from magicstyle.model_files.demo import DEMO_CONTENT

    network, calls = painter.model.model, 0
    pixels = (to_tensor(read_picture(DEMO_CONTENT, (256, 256))) + 1.0) / 2.0
    clean = network.process_latent_in(painter.vae.encode(pixels.permute(0, 2, 3, 1)))
    conds = network.extra_conds(cross_attn=painter.prompt[0][0], noise=clean, device="cpu", **painter.prompt[0][1])
    given = {name: cond.cond for name, cond in conds.items()}

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        """b c h w."""
        nonlocal calls
        calls += 1
        return network.apply_model(x, sigma, **given)

    def model(x: Tensor, level: Tensor) -> Tensor:
        """The velocity b c h w."""
        return (x - denoised(x, level.expand(x.shape[0]))) / level

    print("| gamma | solver | steps | calls | relative error | PSNR of the latent |\n|" + 6 * " --- |")
    sampling, noise = painter.model.get_model_object("model_sampling"), fixed_noise(clean)
    for share in SHARES:
        for steps in STEPS:
            sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", steps)
            levels = sigmas.flip(0)
            for name, solver in SOLVERS.items():
                calls = 0
                end = solver(blended(model, noise, share, levels[1]), clean, levels)
                spent = calls
                trip = RoundTrip.between(sample_ddim(denoised, end, sigmas), clean)
                print(
                    f"| {share:g} | {name} | {len(levels) - 1} | {spent} | {trip.relative:.3f} | {trip.psnr:.1f} dB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

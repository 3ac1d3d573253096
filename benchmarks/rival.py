"""Time of a styled step over a plain one on the same small Z-Image: this pack and BigStationW's Untwisting-RoPE nodes.

    git clone https://github.com/BigStationW/ComfyUi-Untwisting-RoPE /somewhere
    COMFYUI_PATH=... python -m benchmarks.rival /somewhere [--size 64] [--rounds 9]

The network is the tests' Z-Image of four blocks with random weights; a latent of 64x64 has 1024 tokens. Every
variant samples a whole run per round, one after the other; a figure is the median over rounds of its CPU time divided
by the plain run's in the same round. The reference is inverted before, on both sides: theirs on a straight line.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicstyle.tests.host.shims import install_shims

from .bench import in_turn, ratios, table, use_comfyui

install_shims()

STEPS = 8
FAMILY = "z-image"
# their node's defaults
THEIRS = {
    "beta": 50.0,
    "high_scale_start": 1.0,
    "high_scale_end": 0.0,
    "low_scale_start": 1.0,
    "low_scale_end": 3.0,
    "adain_strength": 0.5,
    "blocks": "0-999",
    "verbose": False,
}


def load(path: Path) -> Any:
    """Their package, from a folder outside of the pack."""
    spec = importlib.util.spec_from_file_location(
        "rival_nodes", path / "__init__.py", submodule_search_locations=[str(path)]
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} holds no package: give the folder of a clone.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def variants(theirs: Any, size: int) -> dict[str, Callable[[], object]]:
    """Sampling runs of STEPS steps."""
    import comfy.samplers
    import torch
    from magicstyle.attention_patches.architectures import find
    from magicstyle.attention_patches.comfy import install_fusion
    from magicstyle.attention_patches.style_recipes import RECIPES
    from magicstyle.banks.bank import FeatureBank, StyleEntry
    from magicstyle.core.controls import StyleControls
    from magicstyle.core.fusion import FusionSettings
    from magicstyle.nodes.inversion.run import invert
    from magicstyle.tests.host import families
    from magicstyle.tests.host.tiny import run_sampler

    ours = families.family_model(FAMILY)
    families.family_base.cache_clear()  # they replace methods of the network that they patch: one of its own
    patched_by_them = families.family_model(FAMILY)
    prompt = families.family_prompt(FAMILY)
    style, noise = (families.family_latent(FAMILY, (size, size), seed=seed) for seed in (4, 5))
    sigmas = comfy.samplers.calculate_sigmas(ours.get_model_object("model_sampling"), "simple", STEPS)
    given = {"sigmas": sigmas, "method": "noising", "layers": "all", "storage": "features", "precision": "fp32"}
    bank = FeatureBank(None, (StyleEntry(invert("style", ours, {"samples": style}, prompt, **given).features),))

    def run(model: Any) -> Callable[[], object]:
        empty = torch.zeros_like(noise)
        return lambda: run_sampler(model, empty, sigmas, 1.0, prompt, prompt, "euler", noise=noise)

    def styled(settings: FusionSettings, **placed: Any) -> Callable[[], object]:
        return run(install_fusion(ours, bank, settings, "all", 0.0, 1.0, **placed))

    dose = RECIPES["untwisting"].at(1.0, find(ours))
    inverted = theirs.RFInversion().build(
        model=patched_by_them, reference_latent={"samples": style}, ref_conditioning=prompt, rf_mode="linear"
    )
    rival = theirs.UntwistingRoPE().patch(model=inverted[0], rf_inversion=inverted[1], **THEIRS)[0]
    return {
        "plain": run(ours),
        "ours: zstar": styled(FusionSettings("zstar")),
        "ours: style_aligned": styled(FusionSettings("style_aligned")),
        "ours: align 0.5 after the rotation": styled(
            FusionSettings("style_aligned", controls=StyleControls(align=0.5, text_sees_style=True))
        ),
        "ours: recipe untwisting": styled(dose.settings, positions=dose.positions),
        "theirs: Untwisting RoPE": run(rival),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="a clone of their repository")
    parser.add_argument("--size", type=int, default=64, help="side of the latent: 64 has 1024 tokens")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    use_comfyui()
    found = in_turn(variants(load(arguments.path), arguments.size), arguments.rounds)
    relative = ratios(found, "plain")
    rows = [[name, f"{sorted(times)[len(times) // 2]:.3f}", f"{relative[name]:.2f}"] for name, times in found.items()]
    print(table([f"run of {STEPS} steps", "CPU seconds, median", "time / plain"], rows))


if __name__ == "__main__":
    main()

"""What the bank takes, and what replay costs: python -m benchmarks.memory [--network sdxl] [--device cuda]

    python -m benchmarks.memory --every 5     what a step costs where one replay serves five levels, and nothing else

Genuine SD1.5 shapes, random weights, CPU, torch's own attention. Bytes are for 50 steps of two pictures at size x size
latents (64 is 512x512) and output blocks 6 to 11, against StyleID's published scheme: queries, keys and values of both
pictures in float32 at every step. Times are CPU time of one model call, each variant in turn, divided by the plain
call's in the same round; median. The first table is one 4096 x 320 self-attention against a materialised softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bench import MIB, Lab, in_turn, parser, peaks, ratios, table, use_comfyui

STEPS = 50


def bank_bytes(lab: Lab) -> list[tuple[str, int]]:
    """Bytes per way of keeping, for two pictures."""
    import torch
    from magicstyle.attention_patches.architectures import find
    from magicstyle.banks.stored_features import feature_bytes

    header, widths = lab.header(lab.latents[0], lab.network.layers), find(lab.model).widths

    def features(roles: str, dtype: torch.dtype, steps: int = STEPS) -> int:
        return feature_bytes(header.grids, widths, steps, 1, roles, dtype)

    latents, fifth = STEPS * lab.latents[0].numel() * 2 + lab.prompt[0][0].numel() * 4, STEPS // 5
    return [
        ("StyleID's scheme: q, k, v of both, float32", 2 * features("qkv", torch.float32)),
        ("features, all roles, fp16", 2 * features("qkv", torch.float16)),
        ("features, what styleid reads, fp16", features("q", torch.float16) + features("kv", torch.float16)),
        ("features, what styleid reads, fp8", features("q", torch.float8_e4m3fn) + features("kv", torch.float8_e4m3fn)),
        ("every 5th level: features, all roles, fp16", 2 * features("qkv", torch.float16, fifth)),
        (
            "every 5th level: features, what styleid reads, fp8",
            features("q", torch.float8_e4m3fn, fifth) + features("kv", torch.float8_e4m3fn, fifth),
        ),
        ("latents, fp16", 2 * latents),
    ]


def model_calls(lab: Lab) -> dict[str, Callable[[], object]]:
    """One model call per representation."""
    import torch
    from magicstyle.banks.bank import FeatureBank, StyleEntry

    content, style, running = lab.latents
    together = torch.cat(lab.latents)
    features = FeatureBank(
        lab.capture(content, lab.network.layers), (StyleEntry(lab.capture(style, lab.network.layers)),)
    )
    latents = FeatureBank(
        lab.trajectory(content, lab.network.layers), (StyleEntry(lab.trajectory(style, lab.network.layers)),)
    )
    return {
        "plain": lambda: lab.call(lab.model, running),
        "features, styleid": lab.fused(features, running, method="styleid"),
        "features, ffa": lab.fused(features, running),
        "latents, styleid": lab.fused(latents, running, method="styleid"),
        "latents, ffa": lab.fused(latents, running),
        # what a replay beside the running row would cost at least: the same rows in one call, nothing fused
        "three rows in one plain call": lambda: lab.call(lab.model, together),
        "three plain calls of one row": lambda: [lab.call(lab.model, latent) for latent in lab.latents],
    }


def group_steps(lab: Lab, rounds: int) -> dict[str, list[float]]:
    """Seconds of a plain step, of the first step of a group, which replays, and of another one, round by round."""
    from magicstyle.attention_patches.comfy import install_fusion
    from magicstyle.banks.bank import FeatureBank, StyleEntry
    from magicstyle.core.fusion import FusionSettings

    levels = (lab.SIGMA, 0.9 * lab.SIGMA)
    content, style = (lab.group(latent, lab.network.layers, levels) for latent in lab.latents[:2])
    bank = FeatureBank(content, (StyleEntry(style),))
    fused = install_fusion(lab.model, bank, FusionSettings(), lab.network.layers, 0.0, 1.0)
    seconds: dict[str, list[float]] = {"plain": [], "first": [], "later": []}
    for number in range(rounds + 1):
        plain, (first, later) = (lab.step_seconds(model, lab.latents[2], levels) for model in (lab.model, fused))
        found = {"plain": sum(plain) / len(plain), "first": first, "later": later}
        print(f"round {number}:", ", ".join(f"{name} {value:.2f} s" for name, value in found.items()), flush=True)
        if number:  # the first round warms up
            for name, value in found.items():
                seconds[name].append(value)
    return seconds


def print_group(lab: Lab, rounds: int, every: int) -> None:
    """What a step costs on average where one replay of two pictures serves so many levels."""
    seconds = group_steps(lab, rounds)
    both = zip(seconds["first"], seconds["later"], strict=True)
    seconds["average"] = [(first + (every - 1) * later) / every for first, later in both]
    relative = ratios(seconds, "plain")
    print(f"a step of ffa with replayed latents of two pictures, every {every} levels a replay")
    names = {"plain": "plain", "first": "with a replay", "later": "with what is held", "average": "on average"}
    print(table(["step", "time / plain"], [[text, f"{relative[name]:.2f}"] for name, text in names.items()]))


def one_attention(size: int, device: str) -> dict[str, Callable[[], object]]:
    """One styled self-attention of the finest layer: the host's function, and a softmax held in memory."""
    import torch
    from comfy.ldm.modules.attention import attention_pytorch
    from einops import rearrange
    from magicstyle.core.attention import Kernel
    from magicstyle.core.features import AttentionFeatures
    from magicstyle.core.fusion import FusionSettings, fuse
    from magicstyle.core.scene import Scene, StyleFeatures

    n, heads, settings = size * size, 8, FusionSettings(method="styleid")
    live, content, style = (AttentionFeatures(*torch.randn(3, 1, n, 320, device=device)) for _ in range(3))

    def call(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return attention_pytorch(q, k, v, heads, mask)

    def ours() -> Any:
        scene = Scene(live, content, (StyleFeatures(style),))
        return fuse(Kernel(call, heads, takes_key_mask=device == "cpu"), scene, settings)

    def materialised() -> Any:
        q = settings.query_preservation * content.q + (1 - settings.query_preservation) * live.q
        q, k, v = (rearrange(t, "b n (h d) -> (b h) n d", h=heads) for t in (q, style.k, style.v))
        weights = torch.softmax(settings.temperature * torch.einsum("bnd,bmd->bnm", q, k) * 40**-0.5, dim=-1)
        return rearrange(torch.einsum("bnm,bmd->bnd", weights, v), "(b h) n d -> b n (h d)", h=heads)

    torch.testing.assert_close(ours(), materialised(), atol=1e-4, rtol=1e-4)
    return {"materialised softmax": materialised, "ours": ours}


def main() -> None:
    """Measure and print the tables."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--every", type=int, help="how many noise levels a replay serves")
    arguments = options.parse_args()
    use_comfyui(arguments.device)
    if arguments.every is not None:
        print_group(Lab(arguments.size, 3, arguments.network), arguments.rounds, arguments.every)
        return
    attention = one_attention(arguments.size, arguments.device)
    seconds, memory = ratios(in_turn(attention, arguments.rounds), "ours"), peaks(attention)
    print(f"one self-attention of {arguments.size**2} tokens x 320 channels")
    rows = [[name, f"{seconds[name]:.2f}", f"{memory[name]:.0f}"] for name in attention]
    print(table(["attention", "time / ours", "extra memory, MiB"], rows), flush=True)

    lab = Lab(arguments.size, 3, arguments.network)
    sizes = bank_bytes(lab)
    print(f"\nbank of {STEPS} steps, two pictures, latent {arguments.size}x{arguments.size}, {lab.network.layers}")
    rows = [[name, f"{count / MIB:.1f}", f"{count / sizes[0][1]:.5f}"] for name, count in sizes]
    print(table(["kept", "MiB", "of StyleID's scheme"], rows), flush=True)

    calls = model_calls(lab)
    relative, memory = ratios(in_turn(calls, arguments.rounds), "plain"), peaks(calls)
    print("\none model call")
    rows = [[name, f"{relative[name]:.2f}", f"{memory[name]:.0f}"] for name in calls]
    print(table(["model call", "time / plain", "peak memory above start, MiB"], rows))


if __name__ == "__main__":
    main()

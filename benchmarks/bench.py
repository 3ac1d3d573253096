"""What the benchmarks share: a ComfyUI with a network of genuine SD1.5 shapes, interleaved timing, peak memory."""

from __future__ import annotations

import argparse
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

PACK = Path(__file__).resolve().parents[1]
MIB = 2**20


def parser(description: str | None, rounds: int) -> argparse.ArgumentParser:
    """The options that benchmarks of model calls share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--size", type=int, default=64, help="side of the latent: 64 is a 512x512 picture")
    made.add_argument("--network", choices=sorted(NETWORKS), default="sd15")
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    return made


def use_comfyui(device: str = "cpu") -> None:
    """Make a ComfyUI on this device importable, with torch's own attention."""
    from magicstyle.tests.host.locate import ADVICE, find_host
    from magicstyle.tests.host.shims import use_host

    host = find_host()
    if host is None:
        raise SystemExit(ADVICE)
    use_host(str(host))
    from comfy.cli_args import args

    args.cpu = device == "cpu"
    args.use_pytorch_cross_attention = True


class Network(NamedTuple):
    """A UNet of genuine shapes: its generated checkpoint, its prompt's channels, and the layers that fuse."""

    variant: str
    prompt: int
    pooled: int | None
    layers: str


NETWORKS = {
    "sd15": Network("real", 768, None, "output.6-11"),
    "sdxl": Network("real_sdxl", 2048, 1280, "output.0-5"),
}


def random_model(variant: str = "real") -> Any:
    """A MODEL with random weights from the host's own loader, without text encoder and autoencoder."""
    import comfy.sd
    from magicstyle.tests.tiny_checkpoint import save_tiny_checkpoint

    with TemporaryDirectory() as folder:
        path = save_tiny_checkpoint(Path(folder) / "random.ckpt", variant)
        return comfy.sd.load_checkpoint_guess_config(str(path), output_vae=False, output_clip=False)[0]


def in_turn(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each variant, round by round: one after the other, so that a drifting machine is fair to all."""
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    return seconds


def clock() -> float:
    """Seconds: of this process's work on a CPU; by the wall, with all work done, where a CUDA device is in use."""
    import torch

    if not torch.cuda.is_initialized():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, float]:
    """The median over rounds of each variant's time divided by the base's in the same round."""
    return {name: median(a / b for a, b in zip(times, seconds[base], strict=True)) for name, times in seconds.items()}


def resident_bytes() -> int:
    """The process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Yields a list whose one entry is, afterwards, the bytes by which memory (a CUDA device's, if any) rose."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        before, result = torch.cuda.memory_allocated(), [0]
        yield result
        result[0] = torch.cuda.max_memory_allocated() - before
        return
    start, result, done = resident_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            result[0] = max(result[0], resident_bytes() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield result
    finally:
        done.set()
        watcher.join()


class Lab:
    """A random network of genuine shapes, latents and a prompt, and what benchmarks do with them."""

    SIGMA = 2.0

    def __init__(self, size: int, pictures: int, network: str = "sd15") -> None:
        import comfy.samplers
        import torch

        generator = torch.Generator().manual_seed(0)
        self.network = NETWORKS[network]
        self.model = random_model(self.network.variant)
        self.latents = [torch.randn(1, 4, size, size, generator=generator) for _ in range(pictures)]
        pooled = self.network.pooled
        extra = {} if pooled is None else {"pooled_output": torch.randn(1, pooled, generator=generator)}
        self.prompt = [[torch.randn(1, 77, self.network.prompt, generator=generator), extra]]
        self._euler = comfy.samplers.sampler_object("euler")

    def call(self, model: Any, latent: Any, levels: tuple[float, ...] = (SIGMA,), callback: Any = None) -> Any:
        """A sampling step at each noise level: a model call each, without guidance."""
        import comfy.sample
        import torch

        zeros, sigmas = torch.zeros_like(latent), torch.tensor([*levels, 0.0])
        with torch.inference_mode():
            return comfy.sample.sample_custom(
                model,
                zeros,
                1.0,
                self._euler,
                sigmas,
                self.prompt,
                self.prompt,
                latent,
                callback=callback,
                disable_pbar=True,
            )

    def capture(self, latent: Any, layers: str, roles: str = "qkv") -> Any:
        """The stored features of one model call."""
        from magicstyle.attention_patches.architectures import find
        from magicstyle.attention_patches.capture import Recorder
        from magicstyle.attention_patches.comfy import install_capture
        from magicstyle.banks.stored_features import FeatureWriter
        from magicstyle.core.layers import select_layers

        recorder = Recorder(FeatureWriter(select_layers(layers, find(self.model).layers), 1, roles))
        with recorder.recording((0,), latent):
            self.call(install_capture(self.model, find(self.model), recorder), latent)
        return recorder.close(self.header(latent, layers))

    def trajectory(self, latent: Any, layers: str) -> Any:
        """The same moment as a trajectory of one step, to be replayed."""
        import torch
        from magicstyle.attention_patches.architectures import find
        from magicstyle.attention_patches.capture import TrajectoryRecorder
        from magicstyle.attention_patches.comfy import ModelSource, install_capture
        from magicstyle.core.noise_pair import NoisePair

        recorder = TrajectoryRecorder(1, torch.float32)
        with recorder.recording((0,), latent):
            self.call(install_capture(self.model, find(self.model), recorder), latent)
        source = {"source": ModelSource(self.model)}
        return recorder.close(self.header(latent, layers), NoisePair(latent), **source)

    def group(self, latent: Any, layers: str, levels: tuple[float, ...]) -> Any:
        """A trajectory whose only latent serves all of these noise levels."""
        from magicstyle.banks.trajectory import Trajectory

        moment = self.trajectory(latent, layers)
        header = replace(moment.header, sigmas=levels, every=len(levels))
        return Trajectory(header, moment.latents, moment.inputs, moment.noise_pair, source=moment.source)

    def header(self, latent: Any, layers: str) -> Any:
        """Facts about one picture at one noise level."""
        from magicstyle.attention_patches.architectures import find
        from magicstyle.banks.image_features import FeatureHeader
        from magicstyle.core.layers import select_layers

        architecture = find(self.model)
        grids = architecture.grids(tuple(latent.shape[2:]))
        chosen = {layer: grids[layer] for layer in select_layers(layers, grids)}
        return FeatureHeader(architecture.id, "ddim", (self.SIGMA,), tuple(latent.shape), chosen)

    def step_seconds(self, model: Any, latent: Any, levels: tuple[float, ...]) -> list[float]:
        """Seconds of each step of a run through these levels."""
        times = [clock()]
        self.call(model, latent, levels, callback=lambda *_: times.append(clock()))
        return [after - before for before, after in pairwise(times)]

    def fused(self, bank: Any, latent: Any, start: float = 0.0, **knobs: Any) -> Callable[[], object]:
        """A model call with fusion in the network's layers."""
        from magicstyle.attention_patches.comfy import install_fusion
        from magicstyle.core.fusion import FusionSettings

        patched = install_fusion(self.model, bank, FusionSettings(**knobs), self.network.layers, start, 1.0)
        return lambda: self.call(patched, latent)


def peaks(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """MiB by which one run of each raises resident memory above its start."""
    result = {}
    for name, run in runs.items():
        with peak_memory() as peak:
            run()
        result[name] = peak[0] / MIB
    return result


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

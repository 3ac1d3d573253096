"""What the benchmarks share: a ComfyUI with a network of genuine SD1.5 shapes, interleaved timing, peak memory."""

from __future__ import annotations

import gc
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

PACK = Path(__file__).resolve().parents[1]
MIB = 2**20


def use_comfyui() -> None:
    """Make the checkout importable as `magicstyle` and a ComfyUI on the CPU beside it, with torch's own attention."""
    pack = types.ModuleType("magicstyle")
    pack.__path__ = [str(PACK)]
    sys.modules["magicstyle"] = pack
    from magicstyle.tests.host.locate import ADVICE, find_host
    from magicstyle.tests.host.shims import use_host

    host = find_host()
    if host is None:
        raise SystemExit(ADVICE)
    use_host(str(host))
    from comfy.cli_args import args

    args.use_pytorch_cross_attention = True


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
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    return seconds


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, float]:
    """The median over rounds of each variant's time divided by the base's in the same round."""
    return {name: median(a / b for a, b in zip(times, seconds[base], strict=True)) for name, times in seconds.items()}


def resident_bytes() -> int:
    """The process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Yields a list whose one entry is, afterwards, the bytes by which resident memory rose above its start."""
    gc.collect()
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


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

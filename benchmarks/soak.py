"""The demo workflow over and over through one server: does it stay as large as it is?

    python -m benchmarks.soak [--runs 200]

Every run has other steps, another storage and another weight than the one before, so that both inversions, the fusion
and both samplings are computed again; the history of each run tells whether the host took any of them from its cache.
Memory is the resident set of the server's process after a run, in MiB. The first runs, in which models are loaded and
allocators fill, are warm-up. The result is written to benchmarks/soak.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
if TYPE_CHECKING:
    from magicstyle.tests.host.server import Server

WARM_UP = 12
STEPS, STORAGE = (4, 5, 6), ("features", "latents")
SIDE = 256  # pixels of the longer side
RESULT = Path(__file__).with_name("soak.md")
MIB = 2**20


class Sample(NamedTuple):
    """What the server's process held after a run."""

    rss: float  # MiB
    files: int
    threads: int
    seconds: float


class Soak(NamedTuple):
    """The samples of all runs after the warm-up, and what the process held before the first run."""

    idle: float  # MiB
    samples: list[Sample]
    cached: float = 0.0  # MiB per run in which nothing is computed: what the host keeps of every run

    @property
    def ends(self) -> tuple[float, float]:
        """Median of the first and of the last tenth of the runs, in MiB."""
        tenth = max(1, len(self.samples) // 10)
        rss = [sample.rss for sample in self.samples]
        return statistics.median(rss[:tenth]), statistics.median(rss[-tenth:])

    @property
    def slope(self) -> float:
        """Growth per run by least squares, in MiB."""
        return growth([sample.rss for sample in self.samples])


def growth(rss: list[float]) -> float:
    """Slope of a straight line through the values."""
    return float(np.polyfit(range(len(rss)), rss, 1)[0])


def variant(run: int) -> dict[str, Any]:
    """Values that the run before did not have."""
    values = {"steps": STEPS[run % len(STEPS)], "storage": STORAGE[run % len(STORAGE)]}
    return {**values, "style_weight": round(1 + run / 1000, 3), "noise_seed": run}


def demo(run: int) -> dict[str, Any]:
    """The demo workflow with the values of a run."""
    from magicstyle.tests.workflows import graphs

    return graphs.substituted(graphs.api("demo_no_download"), largest_size=SIDE, **variant(run))


def computed_again(graph: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether the host took nothing but the model, the pictures and their latents from its cache."""
    cached = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
    prepared = ("MagicStyleDemoModel", "MagicStyleMidpointSampler", "KSamplerSelect", "LoadImage", "VAEEncode")
    prepared += ("ImageScaleToMaxDimension", "PreviewImage")
    return all(graph[node]["class_type"] in prepared for node in cached)


def run_often(server: Server, runs: int) -> Iterator[Sample]:
    """Run the demo workflow; a sample after each run."""
    process = psutil.Process(server.process.pid)
    for run in range(runs):
        graph, start = demo(run), time.monotonic()
        entry = server.wait(server.queue(graph))
        if not computed_again(graph, entry):
            raise RuntimeError(f"Run {run} was answered from the host's cache: change what differs between runs.")
        seconds = time.monotonic() - start
        yield Sample(process.memory_info().rss / MIB, process.num_fds(), process.num_threads(), seconds)


def soak(server: Server, runs: int, warm_up: int = WARM_UP) -> Soak:
    """Measure `runs` runs after `warm_up` more."""
    idle = psutil.Process(server.process.pid).memory_info().rss / MIB
    samples = []
    for run, sample in enumerate(run_often(server, warm_up + runs), start=1):
        samples.append(sample)
        if run % 10 == 0:
            print(f"run {run}: {sample.rss:.1f} MiB, {sample.seconds:.1f} s", flush=True)
    return Soak(idle, samples[warm_up:])


def cached_growth(server: Server, runs: int) -> float:
    """Growth per run in MiB when one graph is queued again and again, so that everything comes from the cache."""
    from magicstyle.tests.workflows import graphs

    process, graph = (
        psutil.Process(server.process.pid),
        graphs.substituted(graphs.api("demo_no_download"), **variant(0)),
    )
    rss = []
    for _ in range(runs):
        server.wait(server.queue(graph))
        rss.append(process.memory_info().rss / MIB)
    return growth(rss[runs // 10 :])


def report(result: Soak, host: str) -> str:
    """The result in Markdown."""
    (start, end), samples = result.ends, result.samples
    rss = [sample.rss for sample in samples]
    lines = [
        "# The demo workflow, over and over",
        "",
        f"`python -m benchmarks.soak --runs {len(samples)}`: {len(samples)} runs through one server ({host}, one CPU "
        f"thread) after {WARM_UP} for warm-up. {STEPS[0]} to {STEPS[-1]} steps, both kinds of storage in turn; nothing "
        "behind the encoded pictures came from the host's cache. Memory is the resident set of the server's process.",
        "",
        "| | |",
        "| --- | ---: |",
        f"| before the first run | {result.idle:.0f} MiB |",
        f"| after warm-up (median of the first tenth) | {start:.1f} MiB |",
        f"| at the end (median of the last tenth) | {end:.1f} MiB |",
        f"| difference | {end - start:+.1f} MiB |",
        f"| least and most after a run | {min(rss):.1f} and {max(rss):.1f} MiB |",
        f"| growth per run (least squares) | {result.slope * 1024:+.1f} KiB |",
        f"| growth per run that comes from the cache alone: the host's history | {result.cached * 1024:+.1f} KiB |",
        f"| open files at start and end | {samples[0].files}, {samples[-1].files} |",
        f"| threads at start and end | {samples[0].threads}, {samples[-1].threads} |",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    from magicstyle.tests.host.locate import ADVICE, find_host
    from magicstyle.tests.host.server import Server

    host = find_host()
    if host is None:
        raise SystemExit(ADVICE)
    with tempfile.TemporaryDirectory() as folder, Server(host, Path(folder)) as server:
        version = server.get("system_stats")["system"]["comfyui_version"]
        result = soak(server, runs)._replace(cached=cached_growth(server, runs))
        text = report(result, f"ComfyUI {version}")
    RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

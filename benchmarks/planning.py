"""How long runs over stores take before anything is painted: planning, and the second start of a finished job.

    python -m benchmarks.planning

1. 100,000 portraits x 200 styles, none painted: listing, planning all units, and the memory of it.
2. 10,000 finished outputs: the whole command, from the start of Python to its account.

The files are empty or tiny: what is measured opens none of them.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from magicstyle.headless.campaign.names import DIGEST, StyleName, output_name
from magicstyle.headless.campaign.options import read_spec
from magicstyle.headless.campaign.run import find_missing
from magicstyle.headless.campaign.spec import RunSpec
from magicstyle.headless.campaign.store import FolderStore, open_store
from magicstyle.headless.campaign.units import Report, Shard, manifest
from magicstyle.headless.digest import digest
from magicstyle.headless.options import parse

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["--steps", "2", "--size", "64"]


def main() -> None:
    """Run both and print what they took."""
    with tempfile.TemporaryDirectory() as folder:
        planning(Path(folder), 100_000, 200)
    with tempfile.TemporaryDirectory() as folder:
        second_start(Path(folder), 1_000, 10)


def planning(folder: Path, portraits: int, styles: int) -> None:
    """List and plan a run of which nothing is done."""
    spec = prepared(folder, portraits, styles)
    started = time.perf_counter()
    found = find_missing(spec, Shard())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pictures, units = found.missing_pictures, len(found.missing)
    print(f"planning {portraits} x {styles}: {pictures} pictures in {units} units, {seconds:.1f} s")
    print(f"peak of the process {peak:.0f} MB, torch included")


def second_start(folder: Path, portraits: int, styles: int) -> None:
    """Finish a job as workers would, then start the command on it."""
    spec = prepared(folder, portraits, styles)
    out = FolderStore(folder / "out")
    for unit in find_missing(spec, Shard()).missing:
        for portrait in unit.portraits:
            for style in unit.styles:
                path = folder / "out" / output_name(spec.key, portrait.name, style.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"tiny")
        place = f"{spec.manifests}/{unit.name}.json"
        out.put(
            place, manifest(unit, Report(unit.name, len(unit)), dict.fromkeys((p.name for p in unit.portraits), ""))
        )
    started = time.perf_counter()
    told = subprocess.run([sys.executable, ROOT, *command(folder)], capture_output=True, text=True, check=True).stdout
    print(f"second start of {portraits * styles} outputs: {time.perf_counter() - started:.1f} s; {told.strip()}")


def prepared(folder: Path, portraits: int, styles: int) -> RunSpec:
    """Empty portraits, and a library that looks full."""
    (folder / "photos").mkdir()
    for number in range(portraits):
        (folder / "photos" / f"{number:06}.png").touch()
    spec = read_spec(parse(command(folder)), str(folder / "photos"), str(folder / "out"))
    library = open_store(spec.library)
    for number in range(styles):
        library.put(f"{spec.library_key}/{StyleName(f'{number}.png', digest(bytes([number]), DIGEST)).file}", b"")
    return spec


def command(folder: Path) -> list[str]:
    """The options of the run."""
    return [
        "stylize",
        str(folder / "photos"),
        "--library",
        str(folder / "library"),
        "-o",
        str(folder / "out"),
        *OPTIONS,
    ]


if __name__ == "__main__":
    main()

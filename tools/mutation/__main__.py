"""Sample faults in core and attention_patches, run the tests that concern each, and say which were not noticed.

    python -m tools.mutation --count 50 --seed 1 [--only core/fusion.py] [--without-host]

The tree is left alone: every mutant lives in a child process that imports the changed module from memory. Children are
forked from a process that has imported what all tests need, so this runs on Linux and macOS alone.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from ..package import ROOT, as_package
from .accepted import ACCEPTED
from .concerned import with_host, without_host
from .mutants import Mutant, mutant, sites

MUTATED = ("core", "attention_patches")
SURVIVED = 0  # what pytest returns when all tests pass


class Tried(NamedTuple):
    """One mutant and what became of it."""

    file: str
    mutant: Mutant
    outcome: str  # killed, timeout, survived or accepted
    seconds: float


class FromMemory(importlib.machinery.SourceFileLoader):
    """Loads a module from a changed tree."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        """The changed module."""
        return compile(self._tree, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds one module of the pack in memory."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        self._name = "magicstyle." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self._path, self._tree = str(ROOT / file), tree

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """The import system's question."""
        if name != self._name:
            return None
        folder = [str(Path(self._path).parent)] if self._path.endswith("__init__.py") else None
        loader = FromMemory(name, self._path, self._tree)
        return importlib.util.spec_from_file_location(
            name, self._path, loader=loader, submodule_search_locations=folder
        )


def main() -> None:
    """Run from the command line, in the checkout."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="a file; several times for several")
    parser.add_argument("--without-host", action="store_true")
    parser.add_argument("--timeout", type=int, default=300, help="seconds for one mutant, twice with a host")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    hosted = preload(without=chosen.without_host)
    tried: list[Tried] = []
    for file, index in sample(chosen.only, chosen.count, chosen.seed):
        tried.append(attempt(file, index, hosted, chosen.timeout))
        print(described(tried[-1]), flush=True)
    print(summary(tried))


def preload(*, without: bool) -> bool:
    """Import what all tests need, so that children start at once. Whether there is a host."""
    import torch

    torch.set_num_threads(1)
    for name in ("numpy", "einops", "safetensors.torch", "pytest", "diffusers"):
        importlib.import_module(name)
    if without:
        return False
    as_package()
    from magicstyle.tests.host.locate import find_host
    from magicstyle.tests.host.shims import use_host

    host = find_host()
    if host is not None:
        use_host(str(host))
        for name in ("comfy.sd", "comfy.samplers", "comfy.sample", "latent_preview", "comfy_api.latest", "nodes"):
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "magicstyle"]:
        del sys.modules[name]
    return host is not None


def sample(only: list[str] | None, count: int, seed: int) -> list[tuple[str, int]]:
    """(file, number of the place), each place as likely as any other."""
    files = only or sorted(p.relative_to(ROOT).as_posix() for name in MUTATED for p in (ROOT / name).rglob("*.py"))
    places = [(file, index) for file in files for index in range(len(sites(ast.parse((ROOT / file).read_text()))))]
    return random.Random(seed).sample(places, min(count, len(places)))


def attempt(file: str, index: int, hosted: bool, timeout: int) -> Tried:
    """Put the fault in, and run the tests until one fails."""
    made, started = mutant((ROOT / file).read_text(), index), time.perf_counter()
    stages = [without_host(ROOT, file)] if not hosted else [without_host(ROOT, file), with_host(file)]
    outcome = "survived"
    for tests in stages:
        outcome = run_tests(file, made, tests, timeout) if tests else outcome
        if outcome != "survived":
            break
    if outcome == "survived" and (file, made.before, made.after) in ACCEPTED:
        outcome = "accepted"
    return Tried(file, made, outcome, time.perf_counter() - started)


def run_tests(file: str, made: Mutant, tests: list[str], timeout: int) -> str:
    """One child with the changed module, and how its tests ended."""
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        sys.dont_write_bytecode = True
        sys.meta_path.insert(0, Finder(file, made.code))
        import pytest

        signal.alarm(timeout)
        os._exit(int(pytest.main(["-n", "0", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:timeout", *tests])))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "timeout" if code == -signal.SIGALRM else "survived" if code == SURVIVED else "killed"


def described(tried: Tried) -> str:
    """One line."""
    before, after = (text.split("\n")[0][:90] for text in (tried.mutant.before, tried.mutant.after))
    place = f"{tried.file}:{tried.mutant.line}"
    return f"{tried.outcome:9} {tried.seconds:4.0f} s  {place:45} {tried.mutant.kind:12} {before}  ->  {after}"


def summary(tried: list[Tried]) -> str:
    """The figure: of those whose tests came to an end and that are no accepted survivors, how many died."""
    count = Counter(one.outcome for one in tried)
    counted = count["killed"] + count["survived"]
    return (
        f"{count['killed']} of {counted} mutants died ({100 * count['killed'] / max(counted, 1):.0f} %); "
        f"{count['accepted']} accepted survivors, {count['timeout']} whose tests did not end in time"
    )


if __name__ == "__main__":
    main()

"""`python run.py demo`: what it hands to the command, without making an environment."""

import importlib.util
from pathlib import Path

import pytest
from magicstyle.core.presets import PRESETS
from magicstyle.headless.options import parse

PACK = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(monkeypatch):
    spec = importlib.util.spec_from_file_location("run", PACK / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "environment", lambda *places: Path("python"))
    return module


@pytest.mark.parametrize("own, steps", [
    ([], PRESETS["fast"].steps), (["me.jpg", "monet.jpg"], PRESETS["fast"].steps),
    (["me.jpg", "monet.jpg", "--preset", "balanced"], PRESETS["balanced"].steps), (["--steps", "7"], 7),
])  # fmt: skip
def test_the_demo_is_fast_unless_the_user_says_otherwise(run, monkeypatch, own, steps):
    calls = []
    monkeypatch.setattr(run, "call", lambda python, *arguments: calls.append(list(arguments)) or 0)
    assert run.demo(own) == 0
    (arguments,) = calls
    given = parse(arguments[arguments.index("stylize") :])
    assert (given.steps, given.inversion, given.sheet) == (steps, "midpoint", not own)

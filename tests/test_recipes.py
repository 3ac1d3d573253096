"""The recipes of docs/architecture.md are whole: what they list suffices."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("registered_by_recipe.py")


def test_a_method_and_an_architecture_that_follow_the_recipes_pass_the_core_tier():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout and "failed" not in done.stdout

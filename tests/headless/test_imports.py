"""Any module of the command line may be the first that a program imports."""

import subprocess
import sys

import pytest
from magicstyle.tests.host.locate import PACK


@pytest.mark.parametrize("module", ["attention", "model"])
def test_a_module_that_needs_diffusers_prepares_for_it(module):
    """A torchvision that was built for another torch, as beside a CPU torch, must not matter."""
    code = f"import benchmarks, magicstyle.headless.engine.{module}"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PACK, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_the_command_starts_without_what_runs_over_stores_need():
    code = "import sys, benchmarks, magicstyle.headless.command as c; sys.exit(', '.join("
    stores = "'ray', 'fsspec', 's3fs', 'pyarrow', 'magicstyle.headless.campaign.store'"
    code += f"{{'diffusers', {stores}}} & set(sys.modules)) or 0)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PACK, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]

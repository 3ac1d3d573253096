"""The table of methods in docs says what the code does."""

import re
from pathlib import Path

from magicstyle.core.fusion import FUSIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "methods.md"


def test_every_method_and_the_settings_that_it_reads_are_in_the_table():
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| ([^|]*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: tuple(re.findall(r"`(\w+)`", knobs)) for name, knobs in rows}
    assert documented == {name: method.knobs for name, method in FUSIONS.items()}

"""The table of presets says what was painted."""

from magicstyle.benchmarks import presets
from magicstyle.benchmarks.quality import prepare
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.core.presets import Preset
from magicstyle.headless.engine.model import load_demo_model
from magicstyle.headless.engine.stylize import Recipe


def test_each_way_has_a_row_of_what_it_painted(monkeypatch):
    ways = {"fast": Preset(2, InversionSettings("midpoint"), ""), "other": Preset(3, InversionSettings(), "")}
    monkeypatch.setattr(presets, "WAYS", ways)
    pairs = prepare(1)
    recipes = [Recipe(steps=way.steps, inversion=way.inversion) for way in ways.values()]
    found = dict(zip(ways, presets.paint(load_demo_model(), pairs, recipes), strict=True))
    assert all(painted.results.shape == pairs.contents.shape and painted.seconds > 0 for painted in found.values())
    *_, fast, other = presets.table(found, pairs).splitlines()
    assert fast.startswith(f"| `fast` | 2, `midpoint` | {ways['fast'].calls} |")
    assert other.startswith(f"| other | 3, `ddim` | {ways['other'].calls} |")

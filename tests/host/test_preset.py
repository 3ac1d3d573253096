"""The node Preset gives the steps of the recipes, which all invert in the way that its help names."""

import pytest
from magicstyle.core.presets import PRESETS
from magicstyle.nodes.preset import PresetNode, preset_tooltip


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_its_steps(name):
    assert PresetNode.execute(name).args == (PRESETS[name].steps,)


def test_every_preset_inverts_by_midpoint():
    assert {preset.inversion.method for preset in PRESETS.values()} == {"midpoint"}


def test_its_tooltip_says_what_each_costs():
    lines = preset_tooltip().splitlines()
    for line, (name, preset) in zip(lines, PRESETS.items(), strict=True):
        assert line.startswith(f"{name}: {preset.steps} steps, {preset.calls} model calls")


def test_a_preset_that_is_gone_is_named():
    assert PresetNode.validate_inputs("fast") is True
    assert "of_the_past" in PresetNode.validate_inputs("of_the_past")

"""Names that files and folders already have: a key or a record that changes paints everything again."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from magicstyle.core.controls import StyleControls
from magicstyle.core.fusion import FusionSettings
from magicstyle.core.guidance import StyleGuidance
from magicstyle.core.inversion_methods import InversionSettings
from magicstyle.headless.campaign.spec import RunSpec
from magicstyle.headless.engine.recipe import VERSION_1, Recipe, different
from magicstyle.headless.pairs.plan import Order, Picture, record_of
from magicstyle.headless.pictures.sizes import Frame

DEFAULTS = Recipe()
EVERYTHING = Recipe(
    FusionSettings("styleid", style_weight=2.0, content_weight=0.25, query_preservation=0.5, temperature=1.25),
    steps=20,
    layers="output.9-11",
    adain=0.5,
    inversion=InversionSettings("fixed_point", corrections=3),
    every=5,
)
CONTROLS = StyleControls(
    key_scale=1.06,
    align=0.85,
    align_before_rotation=True,
    mix=0.5,
    style_weight_end=3.0,
    text_sees_style=True,
    match_weight=1.5,
    frames_together=True,
    detail=0.5,
)
# with what came after version 1
WHOLE = replace(
    EVERYTHING,
    settings=replace(EVERYTHING.settings, controls=CONTROLS),
    inversion=replace(EVERYTHING.inversion, gamma=0.75),
    guidance=StyleGuidance("spg", 3.0, start_percent=0.1, end_percent=0.9),
)
FRAME = Frame((512, 512), fixed=False)


def spec_of(recipe):
    return RunSpec("photos", "styles", "out", recipe, FRAME, identity="sd15 0123456789abcdef")


def test_the_keys_of_version_1_stay():
    keys = [(c.key, c.library_key) for c in map(spec_of, (DEFAULTS, EVERYTHING))]
    assert keys == [("c63c6423fb73", "c63c6423fb73"), ("d25be19cf768", "c331d666b18d")]


def test_the_record_of_a_picture_of_version_1_stays():
    order = Order(DEFAULTS, FRAME, "sd15 0123456789abcdef")
    content = Picture(Path("me.jpg"), "00" * 8, (300, 400), (448, 576))
    style = Picture(Path("style.jpg"), "11" * 8, (512, 512), (512, 512))
    assert record_of(content, style, order) == (
        '{"checkpoint": "sd15 0123456789abcdef", "content": "0000000000000000", "size": [448, 576], '
        '"style": "1111111111111111", "style_size": [512, 512]}'
    )


def test_every_setting_says_what_it_was_in_version_1():
    """A new setting gets its row: the value that pictures were made with before there was the setting."""
    now = asdict(WHOLE)
    assert now.keys() == VERSION_1.keys()
    for group in ("settings", "inversion"):
        assert now[group].keys() == VERSION_1[group].keys()
    assert now["settings"]["controls"].keys() == VERSION_1["settings"]["controls"].keys()
    assert now == {**WHOLE.facts}  # each of its values differs from version 1's


@pytest.mark.parametrize("group", [None, "settings", "inversion"])
def test_a_new_setting_at_its_default_renames_nothing(group):
    def with_momentum(values):
        values = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
        (values if group is None else values[group])["momentum"] = 0.0
        return values

    for recipe in (DEFAULTS, EVERYTHING, WHOLE):
        assert different(with_momentum(asdict(recipe)), with_momentum(VERSION_1)) == recipe.facts

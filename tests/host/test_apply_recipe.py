"""Recipes: the numbers of other packs under one strength, and the node that sets them."""

from types import SimpleNamespace

import pytest
import torch
from magicstyle.attention_patches.architectures import KINDS, find
from magicstyle.attention_patches.placing import Positions
from magicstyle.attention_patches.style_recipes import MAX_STRENGTH, PROFILES, RECIPES, profile
from magicstyle.core.controls import StyleControls
from magicstyle.core.errors import MagicStyleError
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes.apply_recipe import CHOICES, ApplyRecipe, recipes_tooltip
from magicstyle.nodes.patcher import PatchFFA
from magicstyle.nodes.style_controls import StyleControlsNode
from magicstyle.tests.host.families import FAMILIES, family_model, family_prompt
from magicstyle.tests.host.family_scene import content_latent, difference, every, prompts, sample, scene, style_latent
from magicstyle.tests.host.flow_oracle import FlowOracle, Patcher
from magicstyle.tests.host.flow_rules import Style
from magicstyle.tests.host.scene import sample as unet_sample
from magicstyle.tests.host.scene import scene as unet_scene
from magicstyle.tests.host.test_controls import krea, moving_scales

JOINT, APART = SimpleNamespace(joint=True), SimpleNamespace(joint=False)
WITH_PLACES = [name for name in ("flux", "qwen", "z-image", "krea2", "anima", "wan") if name in FAMILIES]


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", autouse=True)
def forget_scenes():
    yield
    scene.cache_clear()


@pytest.mark.parametrize(
    "strength, align, high, low, mix",
    [
        (0.0, 0.0, 1.0, 1.0, 0.0),
        (0.5, 0.425, 1.02, 1.05, 0.5),
        (1.0, 0.85, 1.04, 1.10, 1.0),
        (1.2, 1.02, 1.048, 1.12, 1.0),
        (1.5, 1.0625, 1.06, 1.15, 1.0),
    ],
)
def test_the_recipe_of_krea_has_its_authors_numbers(strength, align, high, low, mix):
    settings, positions = RECIPES["krea"].at(strength, JOINT)
    controls = settings.controls
    assert settings.method == "style_aligned" and controls.key_scale == 1.06 and controls.text_sees_style
    assert (controls.align, controls.mix) == (pytest.approx(min(align, 1.0)), mix)
    assert not controls.align_before_rotation
    assert positions.frequencies(0.0) == (pytest.approx(high), 1.0)
    assert positions.frequencies(1.0) == (0.0, pytest.approx(low))
    assert (positions.mode, positions.rise, positions.other_axes) == ("untwist", 2.5, "low")


def test_the_other_recipes_have_theirs_at_strength_one():
    untwisting, positions = RECIPES["untwisting"].at(1.0, JOINT)
    assert untwisting.controls == StyleControls(align=0.5, align_before_rotation=True, text_sees_style=True)
    assert positions == Positions(
        *("untwist", 1.0, 1.0), high_frequencies_end=0.0, low_frequencies_end=3.0, rise=50.0, other_axes="low"
    )
    aligned, positions = RECIPES["aligned"].at(1.0, JOINT)
    assert aligned.controls == StyleControls(key_scale=1.1, align=1.0, align_before_rotation=True, text_sees_style=True)
    assert positions == Positions("shift")
    assert RECIPES["portrait"].at(1.0, APART) == (FusionSettings(), Positions())


@pytest.mark.parametrize("name", RECIPES)
def test_a_strength_has_a_range_and_a_text_that_stands_apart_is_not_asked_to_look(name):
    for strength in (0.0, 0.7, MAX_STRENGTH):
        assert not RECIPES[name].at(strength, APART).settings.controls.text_sees_style
    for strength in (-0.1, MAX_STRENGTH + 0.1):
        with pytest.raises(MagicStyleError, match="style_strength is"):
            RECIPES[name].at(strength, JOINT)


def test_every_kind_of_model_has_a_recipe_that_it_can_follow():
    assert set(PROFILES) - {"Flux2"} <= {kind.__name__ for kind in KINDS}
    for name in FAMILIES:
        architecture = find(family_model(name))
        chosen = RECIPES[profile(architecture)].at(1.0, architecture)
        assert chosen.positions.mode == "same" or architecture.rotation is not None


def applied(name, bank, strength, recipe="auto"):
    return ApplyRecipe.execute(family_model(name), bank, strength, recipe, "all").args[0]


@every(*WITH_PLACES)
def test_without_strength_it_is_the_models_own_picture_to_the_last_bit(name, caplog):
    content, bank = scene(name)
    painted, whole = (sample(applied(name, bank, s), content, 1.0, *prompts(name)) for s in (0.0, 1.0))
    own = sample(PatchFFA.execute(**neutral(family_model(name), bank)).args[0], content, 1.0, *prompts(name))
    assert torch.equal(painted, own)
    assert difference(whole, own) > 1e-3
    assert "text_sees_style" not in caplog.text


def neutral(model, bank):
    knobs = {"style_weight": 0.0, "content_weight": 0.0, "query_preservation": 0.0, "temperature": 1.0}
    always = {"start_percent": 0.0, "end_percent": 1.0}
    return {"model": model, "bank": bank, "method": "ffa", "layers": "all", **always, **knobs}


def test_a_unet_paints_its_portrait(tiny_model, caplog):
    content, bank = unet_scene(tiny_model)
    given = dict(neutral(tiny_model, bank), layers="auto")
    usual = {"style_weight": 1.0, "query_preservation": 0.65, "temperature": 1.5}
    expected = PatchFFA.execute(**{**given, **usual}).args[0]
    painted = ApplyRecipe.execute(tiny_model, bank, 1.0, "auto", "auto").args[0]
    assert torch.equal(unet_sample(painted, content), unet_sample(expected, content))
    assert "text_sees_style" not in caplog.text


@pytest.mark.skipif("krea2" not in FAMILIES, reason="this host has no Krea 2")
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_whole_recipe_of_krea_equals_its_formula(strength, name="krea2"):
    content, bank = scene(name)
    scales = moving_scales(name, 2, 1.0 + 0.04 * strength, 1.0 + 0.1 * strength)
    rule = krea(0.85 * strength, scales, min(strength, 1.0), text=True)
    expected = FlowOracle(name).stylize(
        content_latent(name), (Patcher(rule, (Style(style_latent(name)),)),), content.sigmas,
        family_prompt(name), *prompts(name), 3.0,
    )  # fmt: skip
    assert difference(sample(applied(name, bank, strength), content, 3.0, *prompts(name)), expected) <= 1e-4


@every(*[name for name in ("z-image", "flux") if name in FAMILIES])
def test_the_patcher_with_controls_gives_what_a_recipe_gives(name):
    content, bank = scene(name)
    controls = StyleControlsNode.execute(
        mix=1.0, align=0.5, key_scale=1.0, style_weight_end=-1.0, high_frequencies_end=0.0, low_frequencies_end=3.0,
        text_sees_style=True, align_before_rotation=True, rise=50.0, other_axes="low",
    ).args[0]  # fmt: skip
    given = neutral(family_model(name), bank) | {
        "method": "style_aligned", "style_weight": 1.0, "positions": "untwist", "high_frequencies": 1.0,
        "low_frequencies": 1.0, "controls": controls,
    }  # fmt: skip
    ours = sample(PatchFFA.execute(**given).args[0], content, 1.0, *prompts(name))
    assert torch.equal(ours, sample(applied(name, bank, 1.0, "untwisting"), content, 1.0, *prompts(name)))


def test_frequencies_that_nothing_reads_are_refused():
    with pytest.raises(MagicStyleError, match="low_frequencies_end move what positions untwist scales"):
        Positions("same", high_frequencies_end=0.0)


def test_choices_that_are_gone_are_named():
    assert ApplyRecipe.validate_inputs("krea", "auto") is True
    assert "of_the_past" in ApplyRecipe.validate_inputs("of_the_past")
    assert "nonsense" in ApplyRecipe.validate_inputs("auto", "nonsense.4")
    assert "of_the_past" in StyleControlsNode.validate_inputs("of_the_past")
    assert [line.split(":")[0] for line in recipes_tooltip().splitlines()] == CHOICES

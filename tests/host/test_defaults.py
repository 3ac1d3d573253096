"""Every default that a user meets, in one table."""

from dataclasses import asdict

from magicstyle.attention_patches.placing import Positions
from magicstyle.core.controls import StyleControls
from magicstyle.core.fusion import FusionSettings
from magicstyle.nodes import NODES
from magicstyle.nodes.files import register_folder
from magicstyle.nodes.inversion.order import InversionOrder
from magicstyle.nodes.style_controls import StyleControlsNode

INVERSION = {
    "steps": 50,
    "scheduler": "ddim_uniform",
    "layers": "auto",
    "storage": "auto",
    "precision": "auto",
    "storage_device": "auto",
    "roles": "all",
    "method": "ddim",
    "corrections": 2,
    "measure": False,
    "level_stride": 1,
    "gamma": 0.5,
}
FUSION = {
    "method": "ffa",
    "style_weight": 1.0,
    "content_weight": 0.0,
    "query_preservation": 0.65,
    "temperature": 1.5,
}
CONTROLS = {
    "mix": 1.0,
    "align": -1.0,
    "key_scale": 1.0,
    "style_weight_end": -1.0,
    "high_frequencies_end": -1.0,
    "low_frequencies_end": -1.0,
    "text_sees_style": False,
    "align_before_rotation": False,
    "rise": 2.0,
    "other_axes": "stay",
    "match_weight": 0.6,
    "frames_together": False,
    "detail": 0.0,
}
DEFAULTS = {
    "MagicStyleInvertContent": INVERSION,
    "MagicStyleInvertStyle": INVERSION,
    "MagicStyleFeatureBank": {},
    "MagicStyleAddStyle": {"weight": 1.0},
    "MagicStylePatchFFA": {
        **FUSION,
        "layers": "auto",
        "start_percent": 0.0,
        "end_percent": 1.0,
        "positions": "same",
        "high_frequencies": 0.5,
        "low_frequencies": 1.0,
        "keep_strength": 1.0,
    },
    "MagicStyleInitialLatent": {"mode": "adain", "strength": 1.0, "frames_together": False},
    "MagicStyleDemoModel": {"model": "unet"},
    "MagicStyleSaveFeatureBank": {"filename_prefix": "magicstyle/style", "contents": "styles"},
    "MagicStyleLoadFeatureBank": {},
    "MagicStyleFeaturePreview": {"layer": "output.9", "percent": 0.5},
    "MagicStyleRegionsFromWords": {
        "words": "hair, face, background",
        "prompt": "",
        "background": 0.6,
        "noise_level": 0.4,
        "seed": 0,
    },
    "MagicStyleExactSampler": {},
    "MagicStyleMidpointSampler": {},
    "MagicStylePreset": {"preset": "balanced"},
    "MagicStyleLoadPortraits": {"largest_side": 2048},
    "MagicStyleControls": CONTROLS,
    "MagicStyleApplyRecipe": {"style_strength": 1.0, "recipe": "auto", "layers": "auto"},
    "MagicStyleCorrespondencePreview": {"style": 1, "layers": "auto"},
    "MagicStyleGuidance": {
        "guidance": "nvqg",
        "style_scale": 2.0,
        "cfg": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    },
    "MagicStyleTrainedLoraHook": {"strength_model": 1.0},
    "MagicStyleStyleWords": {
        "prompt": "a portrait of a woman with long hair",
        "words": "woman, hair",
        "background": 0.6,
        "after": 0.4,
    },
}


def shown(node):
    """The defaults in a node's schema, by input."""
    found = {given.id: getattr(given, "default", None) for given in node.define_schema().inputs}
    return {name: default for name, default in found.items() if default is not None}


def test_the_nodes_show_these_defaults():
    register_folder()
    assert {node.define_schema().node_id: shown(node) for node in NODES} == DEFAULTS


def test_a_fusion_without_settings_has_the_patchers_defaults():
    found = asdict(FusionSettings())
    assert StyleControls(**found.pop("controls")) == StyleControls()
    assert found == FUSION


def test_untouched_controls_are_those_of_a_patcher_without_any():
    (given,) = StyleControlsNode.execute(**CONTROLS).args
    assert given.fusion == StyleControls() == FusionSettings().controls
    assert Positions(**given.positions) == Positions()


def test_an_inversion_without_inputs_has_the_nodes_defaults():
    order = InversionOrder("content", None, None, None)
    assert {name: getattr(order, name) for name in INVERSION} == INVERSION
    assert asdict(order.settings) == {"method": "ddim", "corrections": 2, "gamma": 0.5}

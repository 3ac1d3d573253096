"""What the pack adds to the host's page: words for the node search, colours of sockets and wires."""

import json
from pathlib import Path

import pytest

NODES_2 = "Comfy.VueNodes.Enabled"
OURS = {"MAGICSTYLE_FEATURES", "MAGICSTYLE_BANK"}
SEARCH = """words => {
    const stores = document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s;
    return stores.get('nodeDef').nodeSearchService.searchNode(words).map(node => node.name);
}"""
COLOURS = """types => types.map(type => [
    app.canvas.default_connection_color_byType[type],
    LGraphCanvas.link_type_colors[type],
    getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim(),
])"""
SEARCHED = json.loads(Path(__file__).with_name("searched.json").read_text(encoding="utf-8"))
FOR_MASKS = {"MagicStyleFeatureBank", "MagicStyleAddStyle", "MagicStylePatchFFA", "MagicStyleRegionsFromWords"}


@pytest.fixture
def ours(server):
    return {name for name in server.object_info() if name.startswith("MagicStyle")}


@pytest.mark.parametrize("words", SEARCHED["every node"])
def test_every_node_is_found_by_what_a_user_looks_for(frontend, server, ours, words):
    if "search_aliases" not in server.object_info()["MagicStylePatchFFA"]:
        pytest.skip("this host knows no words for the search beside names")
    assert ours <= set(frontend.evaluate(SEARCH, words))


@pytest.mark.parametrize("words", SEARCHED["masks"])
def test_nodes_that_take_or_make_masks_are_found_as_such(frontend, server, words):
    if "search_aliases" not in server.object_info()["MagicStylePatchFFA"]:
        pytest.skip("this host knows no words for the search beside names")
    assert set(frontend.evaluate(SEARCH, words)) >= FOR_MASKS


@pytest.mark.parametrize("theme", ["dark", "light", "nord", "dark"])
def test_our_sockets_have_colours_of_their_own_whatever_the_theme(frontend, theme):
    frontend.set_settings({"Comfy.ColorPalette": theme})
    frontend.settle(300)
    both = frontend.evaluate(COLOURS, sorted(OURS))
    assert all(colour.startswith("#") for colours in both for colour in colours), both
    assert len({colour for colours in both for colour in colours}) == len(OURS)
    assert frontend.complaints == []

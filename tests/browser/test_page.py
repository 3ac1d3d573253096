"""What the pack adds to the host's page: words for the node search, colours of sockets and wires."""

import json
from pathlib import Path

import pytest
import requests
from magicstyle.tests.browser.frontend import NODES_2, meets_nodes_2
from magicstyle.tests.workflows import graphs

OURS = {"MAGICSTYLE_FEATURES", "MAGICSTYLE_BANK", "MAGICSTYLE_CONTROLS"}
SEARCH = """words => {
    const stores = document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s;
    return stores.get('nodeDef').nodeSearchService.searchNode(words)
        .map(node => node.name.startsWith('SubgraphBlueprint') ? node.display_name : node.name);
}"""
COLOURS = """types => types.map(type => [
    app.canvas.default_connection_color_byType[type],
    LGraphCanvas.link_type_colors[type],
    getComputedStyle(document.documentElement).getPropertyValue(`--color-datatype-${type}`).trim(),
])"""
SEARCHED = json.loads(Path(__file__).with_name("searched.json").read_text(encoding="utf-8"))
EMPTY_LATENT = """() => {
    app.graph.clear();
    const [demo, empty, invert, show] =
        ['MagicStyleDemoModel', 'EmptyLatentImage', 'MagicStyleInvertContent', 'PreviewAny'].map(add);
    demo.connect(0, invert, 'model'), demo.connect(2, invert, 'conditioning');
    empty.connect(0, invert, 'latent'), invert.connect(3, show, 0);
    function add(type, column) {
        const node = LiteGraph.createNode(type);
        node.pos = [400 * column, 100];
        app.graph.add(node);
        return node;
    }
}"""
EXCHANGED = """() => {
    app.graph.clear();
    const [demo, bank, show] =
        [['MagicStyleDemoModel', 0, 0], ['MagicStyleFeatureBank', 3, 0], ['PreviewAny', 4, 0]].map(add);
    const sides = [['MagicStyleInvertContent', 3, 'style'], ['MagicStyleInvertStyle', 4, 'content']];
    sides.forEach(([type, picture, place], row) => {
        const [encode, invert] = [['VAEEncode', 1, row], [type, 2, row]].map(add);
        demo.connect(picture, encode, 'pixels'), demo.connect(1, encode, 'vae');
        demo.connect(0, invert, 'model'), demo.connect(2, invert, 'conditioning'), encode.connect(0, invert, 'latent');
        invert.widgets.find(widget => widget.name === 'steps').value = 2;
        invert.connect(1, bank, place);
    });
    bank.connect(1, show, 0);
    function add([type, column, row]) {
        const node = LiteGraph.createNode(type);
        node.pos = [450 * column, 100 + 600 * row];
        app.graph.add(node);
        return node;
    }
}"""
NO_TOASTS = "() => app.extensionManager.toast.removeAll()"
TOASTS = "() => [...document.querySelectorAll('.p-toast-message')].map(toast => toast.innerText)"
NO_MAGICSTYLE_TOAST = """() => [...document.querySelectorAll('.p-toast-message')]
    .every(toast => !toast.innerText.includes('latent is empty: ') && !toast.innerText.includes('MagicStyle\\n'))"""
ONLY_DEMO = """() => {
    app.graph.clear();
    const demo = LiteGraph.createNode('MagicStyleDemoModel'), show = LiteGraph.createNode('PreviewImage');
    app.graph.add(demo), app.graph.add(show);
    demo.connect(3, show, 0);
}"""
TEXTS = """() => Object.fromEntries(app.graph.nodes.map(node =>
    [node.type, node.widgets?.find(widget => widget.name === '$$node-text-preview')?.value ?? '']))"""
DRAWN = """() => Object.fromEntries(app.graph.nodes.map(node =>
    [node.type, document.querySelector(`[data-node-id="${node.id}"]`)?.innerText ?? '']))"""
BEGINNERS = {"MagicStyleDemoModel", "MagicStyleInvertContent", "MagicStyleInvertStyle", "MagicStylePatchFFA"}
FIRST_PAGE = 11  # results that the node search shows
FOR_MASKS = {"MagicStyleFeatureBank", "MagicStyleAddStyle", "MagicStylePatchFFA", "MagicStyleRegionsFromWords"}


@pytest.mark.parametrize("words", SEARCHED["broad"])
def test_what_a_user_looks_for_leads_to_the_nodes_with_which_one_begins(frontend, server, words):
    if "search_aliases" not in server.object_info()["MagicStylePatchFFA"]:
        pytest.skip("this host knows no words for the search beside names")
    found = frontend.evaluate(SEARCH, words)
    assert set(found) >= BEGINNERS
    ours = [name for name in found if name.startswith("MagicStyle")]
    # "style" is in every node's class, which the search reads before the words that a pack adds
    assert words in "magicstyle" or "MagicStylePreset" not in ours[: len(BEGINNERS)]


@pytest.mark.parametrize("words", SEARCHED["block"])
def test_what_a_user_looks_for_leads_to_the_block(frontend, server, words):
    if requests.get(f"{server.url}/global_subgraphs", timeout=30).status_code == 404:
        pytest.skip("this host offers no blocks among its nodes")
    found = frontend.evaluate(SEARCH, words)
    places = [i for i, name in enumerate(found) if "Stylize Portrait" in name]
    assert places and places[0] < FIRST_PAGE, found[:FIRST_PAGE]


@pytest.mark.parametrize("words", SEARCHED["templates"])
def test_the_demo_is_found_among_all_templates(frontend, words):
    dialog = frontend.open_templates()
    frontend.search_templates(words)
    card = dialog.get_by_test_id(f"template-workflow-{graphs.title('demo_no_download')}")
    card.wait_for(timeout=60_000)


def test_templates_stand_in_the_order_of_their_numbers_the_demo_first(frontend):
    frontend.open_templates()
    shown = frontend.shown_templates()
    assert shown[0] == graphs.title("demo_no_download")
    numbers = [int(name[:2]) for name in shown]
    assert numbers == sorted(numbers)


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


@pytest.fixture
def toasts(frontend):
    """None before, none left."""
    frontend.evaluate(NO_TOASTS)
    yield frontend
    frontend.evaluate(NO_TOASTS)


def wait_for_toast(frontend, words):
    frontend.page.locator(".p-toast-message", has_text=words).first.wait_for(timeout=120_000)
    return next(toast for toast in frontend.evaluate(TOASTS) if words in toast)


def test_an_error_of_ours_is_told_in_its_own_words(toasts, frontend):
    """The host's own notice keeps them behind a button."""
    frontend.evaluate(EMPTY_LATENT)
    frontend.run()
    toast = wait_for_toast(frontend, "latent is empty")
    assert "latent is empty (all zeros): connect a VAEEncode of the picture, not an empty latent." in toast
    assert "Error" not in toast and "/" not in toast


def test_reports_lie_on_their_nodes_and_warnings_in_the_page(toasts, frontend):
    frontend.evaluate(EXCHANGED)
    frontend.run()
    toast = wait_for_toast(frontend, "exchanged")
    assert "Feature Bank: content and style are exchanged: connect DDIM Inversion (Content) to content" in toast
    frontend.settle(500)
    texts = frontend.evaluate(TEXTS)
    assert "2 steps" in texts["MagicStyleInvertContent"] and "2 steps" in texts["MagicStyleInvertStyle"]
    assert "content and style are exchanged" in texts["MagicStyleFeatureBank"]
    assert frontend.complaints == []


def test_what_was_said_of_a_run_is_gone_when_the_next_begins(toasts, frontend):
    frontend.evaluate(EMPTY_LATENT)
    frontend.run()
    wait_for_toast(frontend, "latent is empty")
    frontend.evaluate(ONLY_DEMO)
    frontend.run()
    frontend.page.wait_for_function(NO_MAGICSTYLE_TOAST, timeout=60_000)


def test_reports_lie_on_their_nodes_in_nodes_2_too(toasts, frontend, server):
    if not meets_nodes_2(frontend, server):
        pytest.skip("Nodes 2.0 is tested on ComfyUI 0.33 or newer")
    frontend.set_settings({NODES_2: True})
    server.free()  # nodes that come from the cache say nothing
    try:
        frontend.evaluate(EXCHANGED)
        frontend.run()
        wait_for_toast(frontend, "exchanged")
        frontend.settle(1000)
        shown = frontend.evaluate(DRAWN)
        assert "2 steps" in shown["MagicStyleInvertStyle"]
        assert "content and style are exchanged" in shown["MagicStyleFeatureBank"]
    finally:
        frontend.set_settings({NODES_2: False})

"""The block *Stylize Portrait* and the apps, used as a newcomer uses them, clicks counted."""

import pytest
import requests
from magicstyle.tests.browser.conftest import VIEWPORT
from magicstyle.tests.browser.frontend import BARE_CANVAS, PACK_FOLDER, READY, Frontend
from magicstyle.tests.browser.test_frontend import DEMO, run_and_look
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.convert import subgraphs

WORKFLOW = "stylize_portrait"
SMALL = {"size": 128, "quality/speed": "fast"}
ADD, WIRES, RUN = 3, 6, 1  # double click and a click that drops the node; a drag for each wire; Run
INSTANCE = "() => app.graph.nodes.find(node => node.title.startsWith('Stylize Portrait')).id"


@pytest.fixture
def blocks(server):
    if requests.get(f"{server.url}/global_subgraphs", timeout=30).status_code == 404:
        pytest.skip("this host offers no blocks among its nodes")


def without_block(saved):
    """What a user has who wants the block: loaders and Save Image, nothing connected; and a place for it."""
    (block,) = (node for node in saved["nodes"] if node["type"] in subgraphs(saved))
    saved["nodes"].remove(block)
    saved["links"] = []
    del saved["definitions"]
    for node in saved["nodes"]:
        for entry in node["inputs"]:
            entry["link"] = None
        for entry in node["outputs"]:
            entry["links"] = None
    x, y = block["pos"]
    return saved, [x + 100, y + 50]


def by_title(saved):
    return {node.get("title", node["type"]): node["id"] for node in saved["nodes"]}


def test_the_block_from_the_node_search_is_added_connected_and_run(frontend, server, blocks):
    saved, place = without_block(graphs.saved(WORKFLOW))
    frontend.load(saved)
    frontend.presses, nodes = 0, by_title(saved)
    frontend.add_by_search("stylize", place)
    block = frontend.evaluate(INSTANCE)
    assert frontend.presses == ADD
    for output, name in (("MODEL", "model"), ("CLIP", "clip"), ("VAE", "vae")):
        frontend.connect(nodes["CheckpointLoaderSimple"], output, block, name)
    frontend.connect(nodes["Portrait"], "IMAGE", block, "portrait")
    frontend.connect(nodes["Style picture"], "IMAGE", block, "style")
    frontend.connect(block, "image", nodes["Result"], "images")
    assert len(frontend.api()) == len(graphs.api(WORKFLOW))
    frontend.turn(block, SMALL)  # for a CPU's sake; not a click of the user's
    run_and_look(frontend, server, saved)
    assert frontend.presses == ADD + WIRES + RUN


def test_a_knob_turns_every_widget_that_it_stands_for(frontend):
    frontend.load(graphs.saved(WORKFLOW))
    block = frontend.evaluate(INSTANCE)
    values = {"style strength": 0.25, "likeness": 0.75, "quality/speed": "fast", "method": "styleid", "size": 256}
    frontend.turn(block, values)
    inputs = {node["class_type"]: node["inputs"] for node in frontend.api().values()}
    assert inputs["MagicStyleInitialLatent"]["strength"] == inputs["MagicStylePatchFFA"]["end_percent"] == 0.25
    assert inputs["MagicStylePatchFFA"]["query_preservation"] == inputs["MagicStylePatchFFA"]["keep_strength"] == 0.75
    assert inputs["MagicStylePatchFFA"]["method"] == "styleid"
    assert inputs["MagicStylePreset"]["preset"] == "fast"
    scaled = [node["inputs"] for node in frontend.api().values() if node["class_type"] == "ImageScaleToMaxDimension"]
    assert [entry["largest_size"] for entry in scaled] == [256, 256]


def test_a_prompt_is_written_on_the_block_that_paints_it(frontend):
    frontend.load(graphs.saved("style_and_prompt"))
    block = frontend.evaluate(INSTANCE.replace("Stylize Portrait", "Paint from a Prompt"))
    values = {"prompt": "a cat", "negative prompt": "a dog", "style strength": 0.25, "method": "zstar", "width": 256}
    frontend.turn(block, values | {"steps": 5, "cfg": 3.5, "height": 320, "noise_seed": 7})
    nodes = list(frontend.api().values())
    assert {"", "a cat", "a dog"} == {
        node["inputs"]["text"] for node in nodes if node["class_type"] == "CLIPTextEncode"
    }
    inputs = {node["class_type"]: node["inputs"] for node in nodes}
    assert inputs["MagicStylePatchFFA"]["style_weight"] == 0.25
    assert inputs["MagicStylePatchFFA"]["method"] == "zstar" and inputs["BasicScheduler"]["steps"] == 5
    assert (inputs["EmptyLatentImage"]["width"], inputs["EmptyLatentImage"]["height"]) == (256, 320)
    assert inputs["ImageScaleToMaxDimension"]["largest_size"] == 256
    assert (inputs["SamplerCustom"]["cfg"], inputs["SamplerCustom"]["noise_seed"]) == (3.5, 7)


def has_app_mode(frontend):
    return frontend.evaluate("() => app.extensionManager.command.commands.some(c => c.id === 'Comfy.ToggleLinear')")


def test_the_demo_as_an_app_gives_a_picture(frontend, keep_picture, request):
    if not has_app_mode(frontend):
        pytest.skip("this frontend has no App mode")
    try:
        frontend.open_template(graphs.title("demo_app"))
        frontend.skip_tour()
        frontend.presses = 0
        knobs = ["Portrait", "Style picture", "style strength", "likeness", "quality/speed", "size"]
        assert frontend.app_knobs() == knobs
        assert len(frontend.app_pictures()) == 2
        side = 512
        if not request.config.getoption("--write-screenshots"):  # a picture of it shows it as it opens
            side = 192  # for a CPU's sake
            frontend.turn(frontend.evaluate(INSTANCE), {"size": side, "quality/speed": "fast"})
        frontend.run_app()
        assert frontend.wait_for_app_picture(600) == [side * 3 // 4, side]  # the pair's own aspect
        assert frontend.presses == 1
        assert frontend.complaints == []
    finally:
        frontend.leave_app()
    frontend.set_settings(BARE_CANVAS)
    keep_picture(
        "demo_app", frontend.picture_of_graph([group["bounding"] for group in graphs.saved("demo_app")["groups"]])
    )


def test_three_clicks_lead_from_a_fresh_host_to_a_stylized_picture(browser, server, keep_picture):
    """A new user's page opens with the templates: the pack, the card, Run; nothing is prepared, no value is changed."""
    requests.post(f"{server.url}/settings", json={"Comfy.TutorialCompleted": False}, timeout=30).raise_for_status()
    page = browser.new_page(viewport=VIEWPORT)
    try:
        frontend = Frontend(page, server.url)
        page.goto(server.url)
        page.wait_for_function(READY, timeout=120_000)
        frontend.click(page.get_by_role("dialog").get_by_text(PACK_FOLDER).first)
        frontend.click(page.get_by_test_id(f"template-workflow-{graphs.title(DEMO)}"))
        frontend.settle()
        frontend.forget()
        run_and_look(frontend, server, graphs.saved(DEMO))
        assert frontend.presses == 3
        frontend.set_settings(BARE_CANVAS)
        keep_picture(DEMO, frontend.picture_of_graph([group["bounding"] for group in graphs.saved(DEMO)["groups"]]))
    finally:
        page.close()

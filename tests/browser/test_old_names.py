"""Graphs that the page saved with the names that inputs had before 0.1.0, opened by the page as it is now."""

import copy
import json

from magicstyle.tests.host.locate import PACK

FIXTURES = PACK / "tests" / "fixtures"
SAVED = json.loads((FIXTURES / "old_names_workflow.json").read_text(encoding="utf-8"))
QUEUED = json.loads((FIXTURES / "old_names_prompt.json").read_text(encoding="utf-8"))
SLOTS = """type => {
    const fresh = LiteGraph.createNode(type).inputs.map(input => input.name);
    const all = [app.rootGraph ?? app.graph, ...(app.rootGraph ?? app.graph).subgraphs.values()];
    const found = all.flatMap(graph => graph.nodes.filter(node => node.type === type));
    return [fresh, found.map(node => node.inputs.map(input => input.name))];
}"""
INVERSION = {"place": "storage_device", "keep": "roles", "every": "level_stride"}
RENAMED = {  # tests/host/test_old_names.py holds the page's own table to the server's
    "MagicStyleInvertContent": INVERSION,
    "MagicStyleInvertStyle": INVERSION,
    "MagicStyleSaveFeatureBank": {"keep": "contents"},
}
LATER = {"MagicStyleInvertContent": {"gamma": 0.5}, "MagicStyleInvertStyle": {"gamma": 0.5}}
KNOBS = "id => app.graph.getNodeById(id).widgets.map(widget => [widget.name, widget.value])"
OPEN_QUEUED = "prompt => app.loadApiJson(prompt, 'old')"
SHOWN = "() => (app.rootGraph ?? app.graph).extra.linearData.inputs"


def inputs(prompt):
    return {key: node["inputs"] for key, node in prompt.items()}


def expected():
    """What was queued, by the new names, and the defaults of widgets that came later."""
    found = {}
    for key, node in QUEUED.items():
        names = RENAMED.get(node["class_type"], {})
        queued = {names.get(name, name): value for name, value in node["inputs"].items()}
        found[key] = {**LATER.get(node["class_type"], {}), **queued}
    return found


def block(workflow):
    kinds = {saved["id"] for saved in workflow["definitions"]["subgraphs"]}
    (found,) = (node for node in workflow["nodes"] if node["type"] in kinds)
    return found


def test_a_saved_graph_with_a_block_queues_what_it_queued(frontend, server):
    frontend.load(copy.deepcopy(SAVED))
    assert inputs(frontend.api()) == expected()
    for node in RENAMED:
        fresh, (found,) = frontend.evaluate(SLOTS, node)
        assert found == fresh
    number = block(SAVED)["id"]
    assert frontend.evaluate(KNOBS, number) == [["every", 4], ["place", "cpu"]]  # the block's own names
    frontend.turn(number, {"every": 3, "place": "disk"})
    style = next(node["inputs"] for node in frontend.api().values() if node["class_type"] == "MagicStyleInvertStyle")
    assert (style["level_stride"], style["storage_device"]) == (3, "disk")
    assert frontend.graph()["faulty"] == [] and frontend.complaints == []
    server.run(frontend.api())


def test_widgets_that_an_older_block_shows_by_their_names_stay_turned(frontend):
    workflow = copy.deepcopy(SAVED)
    shown, (inner,) = block(workflow), workflow["definitions"]["subgraphs"]
    links = {link["id"] for link in inner["links"] if link["origin_id"] == -10 and link["origin_slot"] > 2}
    inner["links"] = [link for link in inner["links"] if link["id"] not in links]
    inner["inputs"], (node,) = inner["inputs"][:3], inner["nodes"]
    for slot in node["inputs"]:
        slot["link"] = None if slot["link"] in links else slot["link"]
    shown["inputs"], shown["widgets_values"] = shown["inputs"][:3], [2]
    del shown["widgets_values_named"]
    shown["properties"]["proxyWidgets"] = [[str(node["id"]), "every"]]
    frontend.load(workflow)
    style = next(node["inputs"] for node in frontend.api().values() if node["class_type"] == "MagicStyleInvertStyle")
    assert style["level_stride"] == 2
    assert frontend.complaints == []


def test_an_app_still_shows_what_it_showed(frontend):
    workflow = copy.deepcopy(SAVED)
    (save,) = (node["id"] for node in workflow["nodes"] if node["type"] == "MagicStyleSaveFeatureBank")
    (content,) = (node["id"] for node in workflow["nodes"] if node["type"] == "MagicStyleInvertContent")
    workflow["extra"]["linearData"] = {
        "inputs": [[save, "keep"], [content, "steps"], [content, "place"]],
        "outputs": [],
    }
    frontend.load(workflow)
    assert frontend.evaluate(SHOWN) == [[save, "contents"], [content, "steps"], [content, "storage_device"]]


def test_a_queued_graph_that_is_dropped_on_the_page_keeps_its_values(frontend):
    frontend.evaluate(OPEN_QUEUED, QUEUED)
    frontend.settle()
    assert inputs(frontend.api()) == expected()
    assert frontend.complaints == []

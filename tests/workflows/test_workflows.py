"""Every workflow file loads, says the same as its twin and runs in a real ComfyUI."""

import json

import pytest
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.convert import NOTES, ui_to_api
from magicstyle.tests.workflows.provide import provide

pytestmark = pytest.mark.parametrize("name", graphs.NAMES)


@pytest.fixture
def saved(name):
    return graphs.read(graphs.UI_FOLDER / f"{name}.json")


def test_ids_are_unique_and_counted(saved):
    nodes, links = [node["id"] for node in saved["nodes"]], [link[0] for link in saved["links"]]
    assert len(set(nodes)) == len(nodes)
    assert len(set(links)) == len(links)
    assert saved["last_node_id"] >= max(nodes)
    assert saved["last_link_id"] >= max(links)
    assert saved["version"] == 0.4


def test_every_link_is_known_at_both_ends_with_one_type(saved):
    nodes = {node["id"]: node for node in saved["nodes"]}
    for number, origin, output, target, slot, kind in saved["links"]:
        source, sink = nodes[origin]["outputs"][output], nodes[target]["inputs"][slot]
        assert number in source["links"]
        assert sink["link"] == number
        assert source["type"] == sink["type"] == kind
    ends = [entry["link"] for node in saved["nodes"] for entry in node["inputs"] if entry["link"] is not None]
    starts = [link for node in saved["nodes"] for entry in node["outputs"] for link in entry["links"] or ()]
    assert sorted(ends) == sorted(starts) == sorted(link[0] for link in saved["links"])


def test_order_puts_every_node_after_those_it_needs(saved):
    order = {node["id"]: node["order"] for node in saved["nodes"]}
    assert sorted(order.values()) == list(range(len(order)))
    assert all(order[link[1]] < order[link[3]] for link in saved["links"])


def test_no_node_covers_another_and_each_stands_in_a_titled_group(saved):
    boxes = [(*node["pos"], *node["size"]) for node in saved["nodes"]]
    for i, (x, y, width, height) in enumerate(boxes):
        for left, top, wide, high in boxes[i + 1 :]:
            assert x + width <= left or left + wide <= x or y + height <= top or top + high <= y
        assert any(
            group["title"] and gx <= x and gy <= y and x + width <= gx + gw and y + height <= gy + gh
            for group in saved["groups"]
            for gx, gy, gw, gh in [group["bounding"]]
        )


def test_links_lead_left_to_right_and_inversions_stand_side_by_side(saved):
    places = {node["id"]: node["pos"] for node in saved["nodes"]}
    assert all(places[link[1]][0] <= places[link[3]][0] for link in saved["links"])
    inversions = [node["pos"] for node in saved["nodes"] if node["type"].startswith("MagicStyleInvert")]
    assert len({y for _, y in inversions}) == 1
    assert len({x for x, _ in inversions}) == len(inversions)


def test_a_note_says_what_to_change_first(saved):
    notes = [node["widgets_values"][0] for node in saved["nodes"] if node["type"] in NOTES]
    assert any("What to change first" in note for note in notes)


FOLDERS = {"CheckpointLoaderSimple": "checkpoints", "ControlNetLoader": "controlnet", "LoraLoaderModelOnly": "loras"}
# what the user has trained or chosen, or has to save under another name than its address has
YOUR_OWN = {"style_lora.safetensors", "lcm-lora-sdv1-5.safetensors"}


def test_loaders_say_where_to_fetch_their_model(saved):
    for node in saved["nodes"]:
        if node["type"] in FOLDERS and node["widgets_values"][0] not in YOUR_OWN:
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0] == model["url"].rpartition("/")[2]
            assert model["directory"] == FOLDERS[node["type"]]
            # the frontend offers nothing from elsewhere, and nothing that could run code
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(".safetensors")


def test_saved_workflow_and_api_twin_say_the_same(saved, name):
    assert ui_to_api(saved) == graphs.api(name)


def test_every_node_class_and_input_exists(server, saved):
    known = server.object_info()
    for node in saved["nodes"]:
        if node["type"] not in NOTES:
            info = known[node["type"]]
            inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
            assert {entry["name"] for entry in node["inputs"]} - {"upload"} == inputs.keys()
            assert [entry["name"] for entry in node["outputs"]] == info["output_name"][: len(node["outputs"])]


def test_api_twin_runs(server, name):
    graph = graphs.substituted(graphs.api(name), width=128, height=128, steps=4)
    provide(server, graph, (128, 128))
    images = server.images(server.run(graph))
    assert images, json.dumps(graph)
    assert all(image.std() > 2 for image in images)

"""The host offers our blocks among its own, and what it hands out is a graph that runs."""

import json
from typing import NamedTuple

import pytest
import requests
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.convert import subgraphs, ui_to_api
from magicstyle.tests.workflows.provide import provide


class Offered(NamedTuple):
    """A block: its title, the workflow that it stands in, and what a user sees of it."""

    title: str
    workflow: str
    sockets: list[str]
    knobs: list[str]
    parts: tuple[str, ...]  # the pack's nodes inside

    @property
    def file(self):
        return json.loads((PACK / "subgraphs" / f"{self.title}.json").read_text(encoding="utf-8"))


STYLIZE = Offered(
    "Stylize Portrait (MagicStyle)",
    "stylize_portrait",
    ["model", "clip", "vae", "portrait", "style", "face mask"],
    ["style strength", "likeness", "quality/speed", "method", "size"],
    ("Preset", "InvertContent", "InvertStyle", "FeatureBank", "InitialLatent", "PatchFFA", "MidpointSampler"),
)
PROMPT = Offered(
    "Paint from a Prompt (MagicStyle)",
    "style_and_prompt",
    ["model", "clip", "vae", "style"],
    ["prompt", "negative prompt", "style strength", "method", "steps", "cfg", "width", "height", "noise_seed"],
    ("InvertStyle", "FeatureBank", "PatchFFA"),
)
BLOCKS = [STYLIZE, PROMPT]


@pytest.fixture(params=BLOCKS, ids=lambda block: block.workflow)
def block(request):
    return request.param


@pytest.fixture
def offered(server, block):
    """The block as the host hands it out."""
    if requests.get(f"{server.url}/global_subgraphs", timeout=30).status_code == 404:
        pytest.skip("this host offers no blocks")
    ours = {key: entry for key, entry in server.get("global_subgraphs").items() if entry["name"] == block.title}
    ((key, entry),) = ours.items()
    assert entry["source"] == "custom_node" and "comfyui-magicstyle" in entry["info"]["node_pack"]
    return json.loads(server.get(f"global_subgraphs/{key}")["data"])


def placed(blueprint, workflow):
    """The workflow of the same name with the block taken from a blueprint, as a user adds it."""
    saved = graphs.saved(workflow)
    (mine,) = subgraphs(saved).values()
    (block,) = (node for node in saved["nodes"] if node["type"] == mine["id"])
    (inner,), (outer,) = blueprint["definitions"]["subgraphs"], blueprint["nodes"]
    assert inner["id"] == outer["type"]
    for side in ("inputs", "outputs"):
        assert [entry["name"] for entry in outer[side]] == [entry["name"] for entry in block[side]]
    block["type"], saved["definitions"]["subgraphs"] = inner["id"], [inner]
    return saved


def test_the_file_is_a_block_alone_with_its_sockets_and_knobs(block):
    blueprint = block.file
    (node,), (inner,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert node["type"] == inner["id"] and node["title"] == inner["name"] == block.title
    assert [entry["name"] for entry in node["inputs"]] == block.sockets + block.knobs
    assert [entry["name"] for entry in inner["inputs"]] == block.sockets + block.knobs
    assert [entry["type"] for entry in inner["outputs"]] == ["IMAGE"]
    assert all(entry["link"] is None for entry in node["inputs"]) and blueprint["links"] == []
    assert inner["description"] and inner["category"] == "MagicStyle"


def test_the_block_is_made_of_separate_nodes(block):
    (inner,) = block.file["definitions"]["subgraphs"]
    ours = {node["type"] for node in inner["nodes"] if node["type"].startswith("MagicStyle")}
    assert ours == {f"MagicStyle{part}" for part in block.parts}


def shape(block):
    """What a block is, whatever its numbers and the workflow that it stands in."""
    types = sorted(node["type"] for node in block["nodes"])
    return [entry["name"] for entry in block["inputs"]], types, len(block["links"])


@pytest.mark.parametrize("name", ["demo_app", "stylize_portrait_app", STYLIZE.workflow])
def test_there_is_one_block_of_this_name_whatever_the_model(name):
    (offered,) = STYLIZE.file["definitions"]["subgraphs"]
    (mine,) = (block for block in subgraphs(graphs.saved(name)).values() if block["name"] == STYLIZE.title)
    assert shape(mine) == shape(offered)


def test_every_knob_leads_to_widgets_inside(block):
    (inner,) = block.file["definitions"]["subgraphs"]
    nodes, links = {node["id"]: node for node in inner["nodes"]}, {link["id"]: link for link in inner["links"]}
    for entry in inner["inputs"][len(block.sockets) :]:
        ends = [links[number] for number in entry["linkIds"]]
        assert ends
        assert all("widget" in nodes[end["target_id"]]["inputs"][end["target_slot"]] for end in ends)


def test_host_hands_the_block_out(offered, block):
    assert offered == block.file


def test_the_block_from_the_host_runs(offered, block, server):
    graph = ui_to_api(placed(offered, block.workflow))
    assert graph == graphs.api(block.workflow)
    small = graphs.substituted(graph, largest_size=128, preset="fast", width=128, height=128, steps=4)
    provide(server, small, (128, 128))
    (image,) = server.images(server.run(small))
    assert image.std() > 2


@pytest.mark.either
def test_the_block_paints_with_an_sdxl_checkpoint(server):
    graph = graphs.substituted(
        graphs.with_pictures(STYLIZE.workflow), ckpt_name="sd_xl_base_1.0.safetensors", largest_size=128, preset="fast"
    )
    provide(server, graph, (128, 128))
    (image,) = server.images(server.run(graph))
    assert image.std() > 2

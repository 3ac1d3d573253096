"""Every workflow file loads, says the same as its twin and runs in a real ComfyUI."""

import copy
import json
import re

import pytest
from magicstyle.tests.host.server import PromptFailed, PromptRejected
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.convert import INPUTS, NOTES, subgraphs, ui_to_api
from magicstyle.tests.workflows.provide import SINCE, loads, provide, runs, unknown_encoders
from magicstyle.tools.workflows.stock import PICTURES

# what these wire differs little from what others do, or the browser presses Run on them
ALIKE = (
    "few_step_noising",
    "inpaint_region",
    "keep_the_face",
    "lora_style_with_content_injection",
    "portrait_folder",
    "portrait_keep_background",
    "regions_from_words",
    "sdxl_portrait",
    "style_library_apply",
    "style_library_save",
    "styleid",
    "stylize_portrait",
    "trained_loras_by_region",
    "two_styles_by_mask",
)
OUTPUTS = -20  # where links inside a subgraph end that go on outside
TITLE, HEADING = 30, 65  # heights of a node's title and of a group's heading
MARGIN = 15  # between a node and the edge of its group
# what the frontend shows at 58 % or more in a window of 1600x900
WIDEST, HIGHEST = 2080, 1250
SHORT = 48  # letters of a note's title
MAX_NODES = 11
SMALL = {"width": 128, "height": 128, "largest_size": 128, "steps": 4, "preset": "fast"}
FRAMES = 3  # of a film, for a CPU's sake

BROKEN = re.compile(r"\S\n(?!\n|#|- |\d+\. |\Z)")  # a line break within a paragraph

pytestmark = pytest.mark.parametrize("name", graphs.NAMES)


@pytest.fixture
def saved(name):
    return graphs.saved(name)


def skip_where_the_host_is_too_old(server, name):
    """For the file as it is."""
    skip_where_the_host_lacks_a_class(server, name)
    if graphs.moved(server, name):
        pytest.skip(f"this host has the outputs of {graphs.moved(server, name)} in another order")


def skip_where_the_host_lacks_a_class(server, name):
    if graphs.lacking(server, name):
        pytest.skip(f"this host lacks {graphs.lacking(server, name)}")


def skip_where_the_host_cannot_run_it(server, name):
    skip_where_the_host_lacks_a_class(server, name)
    if not runs(server, name):
        pytest.skip("this workflow's model needs a newer ComfyUI")


NEWER_INPUTS = {"CreateVideo": {"bit_depth"}}  # optional inputs that a newer ComfyUI has more


def all_nodes(saved):
    """The nodes of every page, blocks among them."""
    return [node for page in [saved, *subgraphs(saved).values()] for node in page["nodes"]]


def test_ids_are_unique_and_counted(saved):
    nodes, links = [node["id"] for node in all_nodes(saved)], [link[0] for link in saved["links"]]
    assert len(set(nodes)) == len(nodes)
    assert len(set(links)) == len(links)
    assert saved["last_node_id"] >= max(nodes)
    assert saved["last_link_id"] >= max(links)
    assert saved["version"] == 0.4


def test_every_link_is_known_at_both_ends_with_one_type(saved):
    for page in (saved, *subgraphs(saved).values()):
        links = [tuple(link.values()) if isinstance(link, dict) else tuple(link) for link in page["links"]]
        nodes = {node["id"]: node for node in page["nodes"]}
        for number, origin, output, target, slot, kind in links:
            begin = page["inputs"][output] if origin == INPUTS else nodes[origin]["outputs"][output]
            end = page["outputs"][slot] if target == OUTPUTS else nodes[target]["inputs"][slot]
            assert number in begin["linkIds" if origin == INPUTS else "links"]
            assert [number] == end["linkIds"] if target == OUTPUTS else end["link"] == number
            assert begin["type"] == end["type"] == kind
        ends = [entry["link"] for node in page["nodes"] for entry in node["inputs"] if entry["link"] is not None]
        assert sorted(ends) == sorted(link[0] for link in links if link[3] != OUTPUTS)


def test_order_puts_every_node_after_those_it_needs(saved):
    order = {node["id"]: node["order"] for node in saved["nodes"]}
    assert sorted(order.values()) == list(range(len(order)))
    assert all(order[link[1]] < order[link[3]] for link in saved["links"])


def overlap(one, other):
    x, y, width, height = one
    left, top, wide, high = other
    return not (x + width <= left or left + wide <= x or y + height <= top - TITLE or top + high <= y - TITLE)


def test_no_node_covers_another_and_each_stands_in_a_titled_group(saved):
    for page in (saved, *subgraphs(saved).values()):
        boxes = [(*node["pos"], *node["size"]) for node in page["nodes"]]
        assert not any(overlap(box, other) for i, box in enumerate(boxes) for other in boxes[i + 1 :])
    for x, y, width, height in ((*node["pos"], *node["size"]) for node in saved["nodes"]):
        assert any(
            group["title"] and gx <= x and gy <= y - TITLE and x + width <= gx + gw and y + height <= gy + gh
            for group in saved["groups"]
            for gx, gy, gw, gh in [group["bounding"]]
        )


def test_links_lead_left_to_right_and_cross_no_heading(saved):
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in saved["nodes"]}
    assert all(boxes[link[1]][0] <= boxes[link[3]][0] for link in saved["links"])
    below = ("Model",)  # whose wires lead to the right alone
    tops = {g["bounding"][1] for g in saved["groups"] if g["bounding"][0] > 0 and g["title"] not in below}
    # all other headings but those of the first column stand in one row above every socket
    assert len(tops) == 1
    assert all(y >= tops.copy().pop() + HEADING for _, y, _, _ in boxes.values())


def test_groups_of_a_column_end_together_so_that_no_wire_from_below_a_note_is_behind_it(saved):
    frames = [group["bounding"] for group in saved["groups"]]
    assert len({(x, x + width) for x, _, width, _ in frames}) == len({x for x, *_ in frames})
    for node in saved["nodes"]:
        x, y, width = *node["pos"], node["size"][0]
        (edge,) = (left + wide for left, top, wide, high in frames if left <= x < left + wide and top <= y < top + high)
        assert edge - MARGIN == x + width, f"{node.get('title', node['type'])} ends before its group does"


def test_a_page_is_small_enough_to_be_read_when_it_opens(saved):
    frames = [group["bounding"] for group in saved["groups"]]
    assert max(x + width for x, _, width, _ in frames) <= WIDEST
    assert max(y + height for _, y, _, height in frames) <= HIGHEST
    assert len([node for node in saved["nodes"] if node["type"] not in NOTES]) <= MAX_NODES


def test_pictures_are_those_that_the_pack_lays_into_the_input_folder_so_that_run_shows_what_it_does(saved):
    loaders = [node for node in all_nodes(saved) if node["type"] == "LoadImage"]
    first = {"Portrait": PICTURES["content"], "Style picture 2": PICTURES["style_2"]}
    for node in loaders:
        assert node["widgets_values"][0] == first.get(node["title"], PICTURES["style"])
    titles = [node["title"] for node in loaders]
    assert set(titles) <= {"Portrait", "Style picture", "Style picture 1", "Style picture 2"}
    assert len(set(titles)) == len(titles)


def test_a_link_has_a_number_of_its_own_in_the_whole_file(saved):
    inner = [link["id"] for page in subgraphs(saved).values() for link in page["links"]]
    numbers = [link[0] for link in saved["links"]] + inner
    assert len(numbers) == len(set(numbers)) and max(numbers) == saved["last_link_id"]


def test_pictures_are_scaled_before_anything_reads_them(saved):
    """However large a photograph is; only what lays pictures side by side, or shows them, takes them as they are."""
    graph = graphs.api(saved["extra"]["magicstyle"])
    loaders = {key for key, node in graph.items() if node["class_type"] in ("LoadImage", "MagicStyleLoadPortraits")}
    takers = {
        node["class_type"]
        for node in graph.values()
        for value in node["inputs"].values()
        if isinstance(value, list) and value[0] in loaders and value[1] == 0
    }
    assert takers <= {"ImageScale", "ImageScaleToMaxDimension", "ImageStitch"}


def test_a_note_says_first_what_happens_and_is_readable_when_it_opens(saved):
    (note,) = (node["widgets_values"][0] for node in saved["nodes"] if node["type"] in NOTES)
    title, lead, step, *others = (part for part in note.split("\n\n") if part)
    assert title.startswith("# ") and len(title) <= SHORT and lead.startswith("## ")
    assert re.search("paint|style", title + lead)
    assert re.search(r"first (scaled|cropped) to", lead), "what happens to a picture"
    assert step.startswith("## 1. ") and "# What to change first" in others
    assert all(part.startswith("#") or not part.strip() for part in others), "other letters are too small to read"
    downloads = any(node["properties"].get("models") for node in all_nodes(saved))
    assert (re.search("Tested .*never", others[-1]) is not None) == downloads, "what nobody has run says so"
    assert not re.search(r"smear|nothing else|drawn portraits", note)


def test_a_note_says_what_to_change_first(saved):
    notes = [node["widgets_values"][0] for node in saved["nodes"] if node["type"] in NOTES]
    assert not any("`" in note for note in notes), "Nodes 2.0 draws code in a colour that cannot be read"
    assert any("What to change first" in note for note in notes)
    assert not any(BROKEN.search(note) for note in notes), "the classic canvas drops a line break beside bold words"


FOLDERS = {
    "CheckpointLoaderSimple": "checkpoints",
    "ControlNetLoader": "controlnet",
    "LoraLoaderModelOnly": "loras",
    "UNETLoader": "diffusion_models",
    "CLIPLoader": "text_encoders",
    "DualCLIPLoader": "text_encoders",
    "VAELoader": "vae",
}


def test_loaders_say_where_to_fetch_their_model(saved):
    for node in all_nodes(saved):
        if node["type"] not in FOLDERS:
            continue
        files = [value for value in node["widgets_values"] if str(value).endswith(".safetensors")]
        models = node["properties"]["models"]
        assert [model["name"] for model in models] == files
        for model in models:
            assert model["name"] == model["url"].rpartition("/")[2]
            assert model["directory"] == FOLDERS[node["type"]]
            # the frontend offers nothing from elsewhere, and nothing that could run code
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(".safetensors")


def test_saved_workflow_and_api_twin_say_the_same(saved, name):
    assert ui_to_api(saved) == graphs.api(name)


def test_every_node_class_and_input_exists(server, saved, name):
    skip_where_the_host_is_too_old(server, name)
    known = server.object_info()
    for node in all_nodes(saved):
        if node["type"] not in NOTES and node["type"] not in subgraphs(saved):
            info = known[node["type"]]
            inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
            newer = NEWER_INPUTS.get(node["type"], set()) - {entry["name"] for entry in node["inputs"]}
            assert {entry["name"] for entry in node["inputs"]} - {"upload"} == inputs.keys() - newer
            assert [entry["name"] for entry in node["outputs"]] == info["output_name"][: len(node["outputs"])]


def with_clip_alone(graph):
    """Flux's workflow with one of its two text encoders: the other has no small size."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        if node["class_type"] == "DualCLIPLoader":
            node["class_type"] = "CLIPLoader"
            node["inputs"] = {"clip_name": node["inputs"]["clip_name1"], "type": "stable_diffusion"}
    return graph


@pytest.mark.either
@pytest.mark.long(*ALIKE)
def test_api_twin_runs(server, name):
    skip_where_the_host_cannot_run_it(server, name)
    if not loads(server, name):
        pytest.skip("no file of this model is small enough for a test")
    graph = graphs.for_host(server, graphs.substituted(with_clip_alone(graphs.with_pictures(name)), **SMALL))
    graph = graphs.with_frames(graphs.trained_shortly(graph), FRAMES)
    provide(server, graph, (128, 128))
    images = server.images(server.run(graph))
    assert images, json.dumps(graph)
    assert all(image.std() > 2 for image in images)


def test_an_older_host_says_in_one_sentence_which_comfyui_a_model_needs(server, name):
    if runs(server, name):
        pytest.skip("this workflow runs")
    needed = ".".join(map(str, SINCE[name]))
    with pytest.raises(PromptFailed, match=f"for which ComfyUI {needed} or newer is needed"):
        server.run(graphs.substituted(graphs.api(name), **SMALL))


@pytest.mark.long("flux_portrait", "z_image_portrait")
def test_a_workflow_that_cannot_run_here_is_accepted_and_gets_as_far_as_its_loaders(server, name):
    graph = graphs.with_pictures(name)
    if loads(server, name) or unknown_encoders(server, graph):
        pytest.skip("this workflow runs, or is refused before it does")
    provide(server, graph, (128, 128))
    with pytest.raises(PromptFailed, match="(UNET|CLIP|VAE)Loader: "):
        server.run(graph)


def test_a_workflow_for_an_encoder_that_this_host_lacks_is_refused_before_it_runs(server, name):
    graph = graphs.with_pictures(name)
    if not (unknown := unknown_encoders(server, graph)):
        pytest.skip("this host knows the encoder")
    provide(server, graph, (128, 128))
    with pytest.raises(PromptRejected, match=f"CLIPLoader: Value not in list: type: '{unknown.pop()}' not in"):
        server.run(graph)

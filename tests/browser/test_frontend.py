"""Every workflow opens in the real frontend as a user meets it, and Run gives a picture."""

import pytest
from magicstyle.tests.browser.frontend import NODES_2, PACK_FOLDER, PREVIEWS, meets_nodes_2
from magicstyle.tests.cases import some
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.convert import NOTES, subgraphs
from magicstyle.tests.workflows.provide import TOO_LARGE
from magicstyle.tests.workflows.test_workflows import (
    ALIKE,
    skip_where_the_host_cannot_run_it,
    skip_where_the_host_is_too_old,
)
from magicstyle.tools.workflows.titles import APPS, NEWER

DEMO = "demo_no_download"
# of each kind of loader and of output: the others are pressed with --full, and their twins run without a browser
PRESSED = ("demo_film", "portrait_folder", "portrait_stylization", "regions_from_words", "style_library_save")
SMALL = {"width": 128, "height": 128, "largest_size": 128, "steps": 3, "preset": "fast"}
RENDERERS = {"classic": False, "nodes 2.0": True}
FEW = 6
READABLE = 0.58  # below this scale the classic canvas hides all texts
# of nodes for videos: what a frontend plays them with, and widgets that a newer ComfyUI has more
NOT_OURS = {"video-preview", "bit_depth", "format.codec"}
every_workflow = pytest.mark.parametrize("name", graphs.NAMES)


def check_opened(frontend, saved, *, errors=True):
    """No class unknown, no node marked faulty, every link there, nothing said in the console.

    Where model files are missing, `errors` are the host's own, and not looked at.
    """
    graph = frontend.graph()
    assert graph["missing"] == []
    assert sorted(map(str, graph["links"])) == sorted(str(link[1:]) for link in saved["links"])
    assert not errors or (graph["faulty"] == [] and frontend.error_panel() == "")
    assert frontend.complaints == []


def every_node(saved):
    """The nodes of the workflow, and of the inside of its blocks."""
    pages = [saved, *subgraphs(saved).values()]
    return [node for page in pages for node in page["nodes"] if node["type"] not in subgraphs(saved)]


def without_titles(graph):
    """Frontends give stock nodes other titles from version to version, and queue more for videos."""

    def known(inputs):
        return {name: value for name, value in inputs.items() if name not in NOT_OURS}

    return {key: {"class_type": node["class_type"], "inputs": known(node["inputs"])} for key, node in graph.items()}


@pytest.mark.slow
@pytest.mark.long(*ALIKE)
@every_workflow
def test_workflow_opens_without_complaint_and_queues_its_twin(frontend, server, name, keep_picture):
    skip_where_the_host_is_too_old(server, name)
    saved = graphs.saved(name)
    frontend.load(saved)
    check_opened(frontend, saved)
    assert without_titles(frontend.api()) == graphs.api(name)
    for title, _, _, width, height, *needed in frontend.graph()["boxes"]:
        # a video is drawn as wide as its node; what the page reckons it needs is more than that
        assert (width >= needed[0] or title == "Video") and height >= needed[1], f"{title} is drawn larger than it is"
    if name not in {DEMO, *APPS}:  # the demo is shown with its result (test_block.py), apps open as forms
        keep_picture(name, frontend.picture_of_graph([group["bounding"] for group in saved["groups"]]))


@every_workflow
@pytest.mark.parametrize("renderer", RENDERERS)
def test_workflow_opens_readable_from_the_template_browser(frontend, server, name, renderer):
    """As a user meets it at 1600x900: texts are drawn, notes whole, no node on another or out of its group."""
    if RENDERERS[renderer] and not meets_nodes_2(frontend, server):
        pytest.skip("Nodes 2.0 is tested on ComfyUI 0.33 or newer")
    skip_where_the_host_is_too_old(server, name)
    frontend.leave_app()
    frontend.set_settings({NODES_2: RENDERERS[renderer]})
    frontend.open_template(graphs.title(name))
    frontend.leave_app()
    check_opened(frontend, graphs.saved(name))
    assert frontend.scale() >= READABLE
    assert frontend.cut("What to change first") == [], "the note is longer than its box"
    check_places(frontend, graphs.saved(name))


def check_places(frontend, saved):
    """No node lies on another or hangs out of its group."""
    boxes, groups = frontend.boxes(), [group["bounding"] for group in saved["groups"]]
    for i, (title, *box) in enumerate(boxes):
        covered = [other for other, *second in boxes[i + 1 :] if overlap(box, second)]
        assert not covered, f"{title} lies on {covered}"
        assert any(inside(box, group) for group in groups), f"{title} hangs out of its group"


def check_places_at_rest(frontend, saved, tries=4):
    """The same, once the page has had time to lay a note or a picture out anew."""
    for _ in range(tries):
        try:
            return check_places(frontend, saved)
        except AssertionError:
            frontend.settle(500)
    return check_places(frontend, saved)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_everything_stays_in_its_place_while_previews_come_and_go(frontend, server, renderer):
    """The demo in few steps with live previews, from Run to the result."""
    if not meets_nodes_2(frontend, server) or not frontend.has_setting(PREVIEWS):
        pytest.skip("live previews are requested by the frontend on ComfyUI 0.33 or newer")
    saved, seen = graphs.saved(DEMO), 0
    frontend.set_settings({NODES_2: RENDERERS[renderer], PREVIEWS: "latent2rgb"})
    frontend.open_template(graphs.title(DEMO))
    (steps,) = (node["id"] for node in saved["nodes"] if node.get("title") == "Invert both pictures")
    frontend.turn(steps, {"steps": FEW + list(RENDERERS).index(renderer)})  # others: the run before is cached
    server_runs = len(server.get("history"))
    frontend.run()
    while len(server.get("history")) == server_runs:
        seen += bool(frontend.previews())
        check_places_at_rest(frontend, saved)
        frontend.settle(100)
    for node in picture_nodes(saved):
        frontend.wait_for_pictures(node)
    check_places_at_rest(frontend, saved)
    assert seen


def overlap(one, other):
    """Whether two boxes x y width height share more than an edge."""
    return all(min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) > 1 for i in (0, 1))


def inside(box, frame):
    """Whether a box lies in a frame."""
    return all(frame[i] - 1 <= box[i] and box[i] + box[i + 2] <= frame[i] + frame[i + 2] + 1 for i in (0, 1))


def test_template_browser_shows_a_picture_for_every_workflow(frontend):
    frontend.open_templates()
    for name in graphs.NAMES:
        width, height = frontend.thumbnail(graphs.title(name))
        assert width == height >= 400
    assert frontend.complaints == []


def shrink(saved):
    """The same workflow with few steps at a small size."""
    for node in every_node(saved):
        for value, entry in enumerate(entry for entry in node.get("inputs", ()) if "widget" in entry):
            if entry["name"] in SMALL and node["type"] not in NOTES:
                node["widgets_values"][value] = SMALL[entry["name"]]
    return saved


def with_pictures(saved):
    """The same workflow after the user has chosen pictures."""
    for node in saved["nodes"]:
        if node["type"] == "LoadImage":
            (mask,) = (output for output in node["outputs"] if output["type"] == "MASK")
            node["widgets_values"][0] = graphs.chosen(node["title"], masked=bool(mask["links"]))
    return saved


def picture_nodes(saved):
    """The nodes that show pictures once they have run."""
    return [node["id"] for node in saved["nodes"] if node["type"] in ("SaveImage", "PreviewImage", "MaskPreview")]


def run_and_look(frontend, server, saved):
    frontend.run()
    for node in picture_nodes(saved):
        sizes = frontend.wait_for_pictures(node)
        assert frontend.error_panel() == "", server.log[-3000:]
        assert sizes and all(min(size) >= 64 for size in sizes)
    assert frontend.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("name", some(sorted({*graphs.NAMES} - {DEMO, *TOO_LARGE, *APPS, *NEWER}), *PRESSED))
def test_run_button_gives_pictures_with_the_files_that_a_workflow_names(frontend, server, name):
    """Generated ones under those names: the checkpoint, the LoRA, the pictures, the saved style."""
    skip_where_the_host_cannot_run_it(server, name)
    saved = with_pictures(shrink(graphs.saved(name)))
    frontend.load(saved)
    run_and_look(frontend, server, saved)


OLD_WIDGETS = 4  # steps, scheduler, layers, storage


def default(server, class_type, name):
    """What a node takes where nothing is chosen."""
    kinds = server.object_info(class_type)[class_type]["input"]
    (entry,) = (inputs[name] for inputs in kinds.values() if name in inputs)
    return entry[1]["default"]


def test_a_workflow_saved_before_the_newest_widgets_opens_with_their_defaults(frontend, server):
    """The demo chooses others than the defaults, which such a file has lost."""
    saved, expected = graphs.saved(DEMO), graphs.api(DEMO)
    for node in every_node(saved):
        if node["type"].startswith("MagicStyleInvert"):
            newer = [entry["name"] for entry in node["inputs"] if "widget" in entry][OLD_WIDGETS:]
            (twin,) = (entry for entry in expected.values() if entry["class_type"] == node["type"])
            twin["inputs"] |= {name: default(server, node["type"], name) for name in newer}
            node["inputs"] = [entry for entry in node["inputs"] if entry["name"] not in newer]
            node["widgets_values"] = node["widgets_values"][:OLD_WIDGETS]
    assert expected != graphs.api(DEMO)
    frontend.load(saved)
    assert without_titles(frontend.api()) == expected
    assert frontend.complaints == []


def test_a_saved_choice_that_is_gone_is_named_when_run_is_pressed(frontend):
    saved = graphs.saved(DEMO)
    (patcher,) = (node for node in saved["nodes"] if node["type"] == "MagicStylePatchFFA")
    patcher["widgets_values"][0] = "of_the_past"
    frontend.load(saved)
    frontend.run()
    text = frontend.wait_for_errors()
    assert "method" in text and "of_the_past" in text


def test_template_browser_names_the_pack(server):
    assert sorted(server.get("workflow_templates")[PACK_FOLDER]) == sorted(map(graphs.title, graphs.NAMES))

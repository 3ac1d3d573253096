"""The newest frontends, beside the one that the host comes with: they are released weekly, the host less often.

Each lies in a folder named by its version: pip install --target FOLDER/1.58.1 --no-deps
comfyui-frontend-package==1.58.1. FRONTENDS_PATH names FOLDER; without it, ~/frontends is looked at.
"""

import os
from pathlib import Path

import pytest
from magicstyle.tests.browser.conftest import VIEWPORT
from magicstyle.tests.browser.frontend import Frontend
from magicstyle.tests.browser.test_frontend import check_opened, without_titles
from magicstyle.tests.host.locate import find_host
from magicstyle.tests.host.server import Server
from magicstyle.tests.workflows import graphs

FOLDER = Path(os.environ.get("FRONTENDS_PATH", Path.home() / "frontends"))
VERSIONS = ("1.53.6", "1.58.1")
NEEDS = (0, 33, 0)  # the host whose routes they request
COLOURED = "() => [LGraphCanvas.link_type_colors.MAGICSTYLE_BANK, LGraphCanvas.link_type_colors.MAGICSTYLE_FEATURES]"


@pytest.fixture(scope="module", params=VERSIONS)
def newest(request, browser, tmp_path_factory):
    root = FOLDER / request.param / "comfyui_frontend_package" / "static"
    if not root.is_dir():
        pytest.skip(f"frontend {request.param} is not in FRONTENDS_PATH")
    server = request.getfixturevalue("server")  # says the host's version
    if server.version < NEEDS:
        pytest.skip("the newest frontends are for ComfyUI 0.33 or newer")
    with Server(find_host(), tmp_path_factory.mktemp("newest"), arguments=("--front-end-root", str(root))) as running:
        page = browser.new_page(viewport=VIEWPORT)
        frontend = Frontend(page, running.url)
        duplicates = []
        page.on("console", lambda message: duplicates.append(message.text) if "duplicate" in message.text else None)
        frontend.open()
        frontend.duplicates = duplicates
        yield frontend
        page.close()


def test_every_workflow_opens_and_no_value_of_a_block_is_lost(newest):
    known = set(newest.evaluate("() => Object.keys(LiteGraph.registered_node_types)"))
    for name in graphs.NAMES:
        graph = graphs.api(name)
        if not {node["class_type"] for node in graph.values()} <= known:
            continue
        newest.forget()
        newest.load(graphs.saved(name), settled=300)
        check_opened(newest, graphs.saved(name), errors=False)
        assert without_titles(newest.api()) == graph, name
    assert newest.duplicates == []


def test_the_demo_is_the_first_template_and_opens_by_a_click(newest):
    newest.open_templates()
    assert newest.shown_templates()[0] == graphs.title("demo_no_download")
    newest.close_dialogs()
    newest.open_template(graphs.title("demo_no_download"))
    check_opened(newest, graphs.saved("demo_no_download"))


def test_an_app_shows_both_pictures_and_every_knob(newest):
    newest.open_template(graphs.title("demo_app"))
    newest.skip_tour()
    knobs = ["Portrait", "Style picture", "style strength", "likeness", "quality/speed", "size"]
    assert newest.app_knobs() == knobs
    assert len(newest.app_pictures()) == 2
    newest.leave_app()


def test_our_wires_have_their_colours(newest):
    assert all(colour.startswith("#") for colour in newest.evaluate(COLOURED))

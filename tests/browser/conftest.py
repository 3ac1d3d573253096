"""One browser and one folder of screenshots for all browser tests, and a tab for each file of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from magicstyle.tests.browser.chromium import FLAGS, find_chromium, obstacle
from magicstyle.tests.browser.frontend import Frontend
from magicstyle.tests.host.locate import PACK
from magicstyle.tests.workflows import graphs
from magicstyle.tests.workflows.provide import STYLE_LIBRARY, provide, save_a_style
from PIL import Image

SCREENSHOTS = Path(__file__).with_name("screenshots")  # not in git
FOR_README = PACK / "assets" / "screenshots"
IN_README = {"demo_app"}
FOR_HELP = PACK / "web" / "docs" / "pictures"
PAINTING = PACK / "assets" / "gallery" / "great_wave.jpg"
SIZE = (512, 512)
VIEWPORT = {"width": 1600, "height": 900}


@pytest.fixture(scope="session")
def browser():
    if obstacle():
        pytest.skip(obstacle())
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def stocked(browser, request):
    """The running server with everything that the workflows read; before a page is opened, which reads lists once."""
    server = request.getfixturevalue("server")  # after `browser`: without one, no server is started
    if STYLE_LIBRARY in graphs.NAMES:
        save_a_style(server)
    for name in graphs.NAMES:
        provide(server, graphs.with_pictures(name), SIZE, saved_style=False)
    server.upload("example.png", np.asarray(Image.open(PAINTING).convert("RGB")))
    return server


@pytest.fixture(scope="module")
def tab(browser, stocked):
    """The frontend of the running server, opened once for a file of tests: an open page goes on drawing."""
    page = browser.new_page(viewport=VIEWPORT)
    frontend = Frontend(page, stocked.url)
    frontend.open()
    yield frontend
    page.close()


@pytest.fixture
def frontend(tab, request):
    """The tab with no complaints yet; a last screenshot under the test's name."""
    tab.close_dialogs()
    tab.reset()
    tab.forget()
    yield tab
    SCREENSHOTS.mkdir(exist_ok=True)
    tab.page.screenshot(path=SCREENSHOTS / f"{request.node.name.replace('[', '-').rstrip(']')}.png")


@pytest.fixture(scope="session")
def keep_picture(request):
    """Keep a picture of a graph; with --write-screenshots also among the README's, or in few colours the help's."""

    def keep(name, png, folder=FOR_README):
        SCREENSHOTS.mkdir(exist_ok=True)
        (SCREENSHOTS / f"graph-{name}.png").write_bytes(png)
        if request.config.getoption("--write-screenshots") and (folder == FOR_HELP or name in IN_README):
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(png)).convert("RGB")
            if folder == FOR_HELP:  # nodes alone, without photographs, whose skin few colours would turn yellow
                picture = picture.quantize(256, kmeans=1)
            picture.save(folder / f"{name}.png", optimize=True)

    return keep
